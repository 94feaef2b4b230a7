"""`consumer plan`: the consumers of a declared wave, in their order."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument

Declared = Annotated[
    Path,
    Argument(metavar="FILE", help="TOML file that declares a wave", parser=options.existing_file, show_default=False),
]


def plan(file: Declared, json: options.Json = False, output: options.Output = "table") -> None:
    """Show in which order a wave switches its consumers

    Low risk first, a consumer of each shape early, high value last; each place has its reason. A wrong file is refused
    with all its problems at once (78). Changes nothing.

    Example: grafctl consumer plan examples/switchover.toml
    """
    from grafctl import render_waves
    from grafctl.nouns import waves

    planned = waves.plan_file(file)
    render_waves.plan(planned, output, json)
