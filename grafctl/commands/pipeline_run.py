"""`pipeline run`, `status` and `tap`: a declared pipeline at work on a store."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Exit, Option
from grafctl.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grafctl.pipeline.model import Pipeline
    from grafctl.pipeline.running import Ran, Until
    from grafctl.render_pipeline import Told

File = Annotated[
    Path,
    Argument(
        metavar="FILE", help="TOML file that declares a pipeline", parser=options.existing_file, show_default=False
    ),
]
Stages = Annotated[
    list[str] | None,
    Option("--stage", metavar="STAGE", help="Run this stage; repeatable", parser=options.name_of("stage")),
]
StageName = Annotated[str, Argument(metavar="STAGE", help="Stage of the pipeline", parser=options.name_of("stage"))]
Once = Annotated[bool, Option("--once", help="End when what is there now is done")]
UntilIdle = Annotated[bool, Option("--until-idle", help="End when nothing is left, with others neither")]
WorkersCount = Annotated[
    int, Option("--workers", metavar="N", help="So many processes share the work", parser=options.whole(1))
]
TimeoutMs = Annotated[
    int | None,
    Option("--timeout", metavar="TIME", help="Give up after so long, such as 10m (24)", parser=options.duration_ms),
]
Visibility = Annotated[
    int,
    Option(
        "--visibility",
        metavar="TIME",
        help="Others take over what a process that died had begun after so long",
        parser=options.duration_ms,
        show_default="60s",
    ),
]
IsInput = Annotated[bool, Option("--input", help="What the stage reads, not what it writes")]
OutputName = Annotated[
    str | None,
    Option("--to", metavar="RESOURCE", help="Which of its outputs; the first", parser=options.name_of("resource")),
]
Count = Annotated[
    int | None,
    Option("--max", "-n", metavar="N", help="At most so many records", parser=options.whole(1), show_default="10"),
]
Offset = Annotated[int | None, Option("--offset", metavar="N", help="From here on", parser=options.whole())]
WORKERS_MAX = 64


def run(
    file: File,
    domain: options.Domain,
    store: options.StorePath,
    stage: Stages = None,
    once: Once = False,
    until_idle: UntilIdle = False,
    workers: WorkersCount = 1,
    timeout: TimeoutMs = None,
    visibility: Visibility = 60_000,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Run the stages of a pipeline in a domain

    Runs those that may run there, or those of --stage, until Ctrl-C or SIGTERM; then the commit under way is finished.
    What was begun and not committed comes again, here or in another domain, and has no second effect. `grafctl apply`
    creates what the file declares.

    Example: grafctl pipeline run examples/pipeline.toml --stage clean --stage load -d aws/us-east-1 --until-idle
    """
    options.require_one(not (once and until_idle), "--once and --until-idle are two ways to end.", "Take one of them.")
    options.require_one(
        workers <= WORKERS_MAX, f"At most {WORKERS_MAX} workers, not {workers}.", "Run it on more machines."
    )

    from grafctl import render
    from grafctl.pipeline import declaring
    from grafctl.pipeline.running import Until
    from grafctl.render_pipeline import Told

    pipeline = declaring.read(file)
    told = Told(pipeline.name, quiet=quiet, states=output == "jsonl" and not json)
    until = Until.ONCE if once else Until.IDLE if until_idle else Until.STOPPED
    timeout_s = None if timeout is None else timeout / 1000
    if dry_run:
        ran, signal = _would_run(pipeline, domain, store, stage or []), None
    elif workers == 1:
        ran, signal = _run_here(pipeline, domain, store, stage or [], until, timeout_s, visibility, told)
    else:
        ran, signal = _run_many(pipeline, file, domain, store, stage or [], until, timeout, visibility, workers)
    render.show(ran, output, json)
    if signal is not None:
        told.say("stopped; what was under way is committed.")
        raise Exit(128 + signal)


def _would_run(pipeline: "Pipeline", domain: str, store: str, stages: list[str]) -> "Ran":
    from grafctl import client
    from grafctl.pipeline.running import Ran, Run

    with client.open(store) as opened:
        run = Run(opened, pipeline, domain, stages=stages)
    return Ran(pipeline.name, domain, run.counts(), run.skipped or None, dry_run=True)


def _run_here(
    pipeline: "Pipeline",
    domain: str,
    store: str,
    stages: list[str],
    until: "Until",
    timeout_s: float | None,
    visibility_ms: int,
    told: "Told",
) -> "tuple[Ran, int | None]":
    from grafctl import client
    from grafctl.pipeline.running import Run
    from grafctl.pipeline.stopping import stopping

    with client.open(store) as opened:
        how: Any = {"until": until, "timeout_s": timeout_s, "visibility_ms": visibility_ms, "say": told.say}
        run = Run(opened, pipeline, domain, stages=stages, **how)
        with stopping(run.stop) as came:
            ran = run.run(told)
    return ran, came.number


def _run_many(
    pipeline: "Pipeline",
    file: Path,
    domain: str,
    store: str,
    stages: list[str],
    until: "Until",
    timeout_ms: int | None,
    visibility_ms: int,
    workers: int,
) -> "tuple[Ran, int | None]":
    from grafctl import client
    from grafctl.pipeline.running import Ran, Run
    from grafctl.pipeline.stopping import stopping
    from grafctl.pipeline.workers import Workers, together

    with client.open(store) as opened:
        checked = Run(opened, pipeline, domain, stages=stages, until=until)
    words: list[str] = ["pipeline", "run", str(file), "-s", store, "-d", domain, "--json", "--quiet"]
    words += {"once": ["--once"], "idle": ["--until-idle"]}.get(until.value, [])
    words += [] if timeout_ms is None else ["--timeout", f"{timeout_ms}ms"]
    words += ["--visibility", f"{visibility_ms}ms"]
    commands = [[*words, *_named(checked.names(with_sources=number == 0))] for number in range(workers)]
    started = Workers([command for command in commands if "--stage" in command])
    with stopping(started.stop) as came:
        answers: list[dict[str, Any]] = started.run(lambda: None)
    skipped = checked.skipped or None
    return Ran(pipeline.name, domain, together(answers), skipped, workers), came.number


def _named(stages: list[str]) -> list[str]:
    return [word for name in stages for word in ("--stage", name)]


def status(file: File, store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """Show how far each stage of a pipeline is

    The lag is what its group has not finished, less what was put aside as dead. Changes nothing.

    Example: grafctl pipeline status examples/pipeline.toml
    """
    from grafctl import client, render
    from grafctl.pipeline import declaring, watching

    pipeline = declaring.read(file)
    with client.open(store) as opened:
        shown = watching.status(opened, pipeline)

    render.show(shown, output, json)


def tap(
    file: File,
    stage: StageName,
    domain: options.Domain,
    store: options.StorePath,
    input: IsInput = False,
    to: OutputName = None,
    offset: Offset = None,
    max: Count = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Look at what goes through a stage

    Shows the last records that it wrote, or with --input those that it reads. Leases nothing and changes nothing.

    Example: grafctl pipeline tap examples/pipeline.toml clean -d aws/us-east-1 --max 3
    """
    from grafctl import client, render
    from grafctl.pipeline import declaring, watching

    pipeline = declaring.read(file)
    resource = watching.tapped(pipeline, stage, to, is_input=input)
    with client.open(store) as opened:
        resource = watching.read_now(opened, pipeline, stage, resource) if input else resource
        shown = watching.tap(opened, resource, domain=domain, offset=offset, count=max or 10)

    render.records(shown, output, json)
