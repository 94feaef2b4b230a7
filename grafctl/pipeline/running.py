"""The stages of a pipeline at work in one process: a thread a stage, until there is no more to do or somebody says so.

Promises
- Only stages that may run in the caller's domain are begun; one that is named and may not is refused (11) before
  anything is read.
- Told to stop, each stage finishes the commit under way, gives back what it holds, and ends. The first error of a stage
  stops the others so, and is raised.
- What passes (no quorum, a domain away, a busy lock) is waited for, and said once; with `once` it is raised.
- `once` ends when everything that is there now is done; `until_idle` also waits for what others hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from grafctl import clock, threads
from grafctl.client import Store
from grafctl.errors import ExternalFailed, GrafctlError, NotFound, Timeout, Usage
from grafctl.pipeline.model import INGEST, RESOURCE, TRANSFORM, DeclaredSource, DeclaredStage, Pipeline
from grafctl.pipeline.stages.ingesting import IngestStage
from grafctl.pipeline.stages.sinking import SinkStage
from grafctl.pipeline.stages.transforming import TransformStage
from grafctl.pipeline.stages.work import VISIBILITY_MS, Place, Stage, pass_stage
from grafctl.results import Result
from grafctl.store.checked import checked
from grafctl.store.resources.group import AT_MOST_ONCE, group_row
from grafctl.store.resources.queue import queue_row

LOOK_S = 0.05
IDLE_PAUSE_S = 0.02, 0.25  # between looks at an empty input, growing
EDGE_PAUSE_S = 0.001, 0.05  # the same where an edge is empty or full: the stage at its other end is near
RETRY_PAUSE_S = 0.05, 2.0

Say = Callable[[str], None]


class Until(Enum):
    """When a run ends by itself."""

    STOPPED = "stopped"
    ONCE = "once"
    IDLE = "idle"


class Ran(Result):
    """What a run came to: for each stage what it did in this process; `skipped` are those that may not run here."""

    pipeline: str
    domain: str
    stages: list[dict[str, Any]]
    skipped: list[str] | None = None
    workers: int | None = None
    dry_run: bool | None = None


class Run:
    """One process's part of a pipeline. `stop` may be called from any thread and from a signal handler."""

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        domain: str,
        *,
        stages: Sequence[str] = (),
        until: Until = Until.STOPPED,
        timeout_s: float | None = None,
        visibility_ms: int = VISIBILITY_MS,
        say: Say | None = None,
    ) -> None:
        self.pipeline, self.domain, self.until, self.timeout_s = pipeline, domain, until, timeout_s
        self.say = say or (lambda sentence: None)
        self.is_stopping = False
        self._place = Place(store.session, pipeline, domain, visibility_ms)
        self.routed: dict[str, dict[str, str]] = {}  # what stages read through a switch, as they were begun
        chosen, self.skipped = self._choose(stages)
        for declared in chosen:
            self._require(declared)
        self._lanes = [_Lane(self, declared) for declared in chosen]

    # --- which stages

    def _choose(self, names: Sequence[str]) -> tuple[list[DeclaredStage], list[str]]:
        by_name = {stage.name: stage for stage in self.pipeline.stages}
        for name in names:
            if name not in by_name:
                raise NotFound(
                    f"{self.pipeline.name} has no stage {name[:100]}.", hint=f"It has {', '.join(by_name) or 'none'}."
                )
            pass_stage(self._place, by_name[name])
        if names:
            return [by_name[name] for name in dict.fromkeys(names)], []
        chosen = [stage for stage in by_name.values() if stage.placement.decide(self.domain)[0]]
        if not chosen:
            for stage in by_name.values():
                pass_stage(self._place, stage)
            raise Usage(f"{self.pipeline.name} has no stages.")
        return chosen, [stage.name for stage in by_name.values() if stage not in chosen]

    def _require(self, stage: DeclaredStage) -> None:
        """Raises `NotFound` where the store lacks what the stage works on."""
        session = self._place.session
        sink = next((sink for sink in self.pipeline.sinks if sink.name == stage.sink), None)
        named = [stage.input, *stage.outputs, stage.effects, stage.dead_letter, sink.resource if sink else None]
        named = [name for name in named if self.pipeline.edge(name) is None]
        try:
            for name in dict.fromkeys(filter(None, named)):
                checked(session.resource(name), lambda state, name=name: queue_row(state, name))  # type: ignore[misc]
            if (resource := stage.input) is not None and self.pipeline.edge(resource) is None:
                group = checked(session.resource(resource), lambda state: group_row(state, resource, stage.group))
                if group["semantics"] == AT_MOST_ONCE:
                    raise Usage(
                        f"Group {stage.group} of {resource} is {AT_MOST_ONCE}: what a stage could not work on is lost.",
                        hint="Read with a group of another semantics.",
                        resource=resource,
                        group=stage.group,
                    )
                if "switch" in group:
                    self._look_at_switch(stage)
        except NotFound as error:
            error.hint = f"Run `grafctl apply {self.pipeline.file}` to create what the pipeline declares."
            raise

    def _look_at_switch(self, stage: DeclaredStage) -> None:
        """Raises the refusal where the consumer of a stage is at an output that the stage may not read."""
        from grafctl.pipeline.stages.following import pass_follow, why_not

        found = pass_follow(self._place, stage)
        if found is None:
            return
        self.routed[stage.name] = {"switch": found.switch, "reads": found.resource}
        if why := why_not(self._place.session, self.pipeline, stage, found.row):
            self.say(f"{stage.name}: It will not follow the switch {found.switch} to the other output: {why}.")

    def make(self, declared: DeclaredStage) -> Stage:
        """Returns a stage at work, in the thread that calls."""
        folder = self.pipeline.file.absolute().parent
        if any(map(self.pipeline.edge, declared.outputs)):
            return self._make_linking(declared, folder)
        if declared.kind == INGEST:
            return IngestStage(self._place, declared, self._source_of(declared))
        if declared.kind == TRANSFORM:
            from grafctl.pipeline.transforms.making import make_transform

            return TransformStage(self._place, declared, make_transform(declared, folder))
        return self._make_sink(declared, folder)

    def _source_of(self, declared: DeclaredStage) -> DeclaredSource:
        return next(source for source in self.pipeline.sources if source.name == declared.source)

    def _make_linking(self, declared: DeclaredStage, folder: Path) -> Stage:
        """Returns a stage that writes to an edge."""
        if declared.kind == INGEST:
            from grafctl.pipeline.stages.beginning_edges import HeadIngestStage

            return HeadIngestStage(self._place, declared, self._source_of(declared))
        from grafctl.pipeline.stages.between_edges import HeadStage, LinkingStage
        from grafctl.pipeline.transforms.making import make_transform

        kind = HeadStage if self.pipeline.edge(declared.input) is None else LinkingStage
        return kind(self._place, declared, make_transform(declared, folder))

    def _make_sink(self, declared: DeclaredStage, folder: Path) -> Stage:
        from grafctl.pipeline.sinks.opening import open_sink

        sink = next(sink for sink in self.pipeline.sinks if sink.name == declared.sink)
        if sink.kind == RESOURCE:
            from grafctl.pipeline.stages.rows import RowTransform, publishing

            return TransformStage(self._place, publishing(declared, sink), RowTransform(sink))
        return SinkStage(self._place, declared, open_sink(sink, self.pipeline.file))

    def names(self, *, with_sources: bool) -> list[str]:
        """Returns the stages that were chosen, with those that are one alone (they read a source, or are at an edge)
        or without."""
        chosen = [lane.declared for lane in self._lanes]
        return [stage.name for stage in chosen if with_sources or not (stage.kind == INGEST or self.is_at_edge(stage))]

    def is_at_edge(self, stage: DeclaredStage) -> bool:
        """Returns whether a stage reads an edge or writes to one."""
        return any(map(self.pipeline.edge, (stage.input, *stage.outputs)))

    # --- running

    def stop(self) -> None:
        """Lets every stage finish its commit and end."""
        self.is_stopping = True
        for lane in self._lanes:
            lane.interrupt()

    def worked(self) -> int:
        """Returns how many batches were done so far, by all stages."""
        return sum(lane.batches for lane in self._lanes)

    def run(self, watch: Callable[[list[dict[str, Any]]], None] | None = None) -> Ran:
        """Works until it is time to end, and returns what was done; raises the first error of a stage."""
        until_s = None if self.timeout_s is None else clock.monotonic_s() + self.timeout_s
        for lane in self._lanes:
            lane.begin()
        try:
            while any(lane.is_alive for lane in self._lanes) and not self._is_over():
                if until_s is not None and clock.monotonic_s() > until_s:
                    raise Timeout(
                        f"{self.pipeline.name} was not done in time.", hint="Run the same command again; it goes on."
                    )
                if watch is not None:
                    watch(self.counts())
                clock.sleep(LOOK_S)
        finally:
            self.stop()
            for lane in self._lanes:
                lane.wait()
        for lane in self._lanes:
            if lane.error is not None:
                raise lane.error
        return Ran(self.pipeline.name, self.domain, self.counts(), self.skipped or None)

    def counts(self) -> list[dict[str, Any]]:
        return [{"stage": lane.declared.name, "kind": lane.declared.kind, **lane.counts()} for lane in self._lanes]

    def _is_over(self) -> bool:
        if self.is_stopping:
            return True
        if self.until is Until.STOPPED:
            return all(lane.is_finished for lane in self._lanes)
        worked = self.worked()
        is_quiet = all(lane.is_finished or lane.empty_at == worked for lane in self._lanes)
        return is_quiet and (self.until is Until.ONCE or all(lane.is_idle for lane in self._lanes))


class _Lane:
    """One stage and its thread."""

    def __init__(self, run: Run, declared: DeclaredStage) -> None:
        self.run, self.declared = run, declared
        self.batches = 0
        self.empty_at = -1  # how many batches all stages had done when this one last found nothing
        self.is_finished = self.is_idle = False
        self.error: BaseException | None = None
        self._stage: Stage | None = None
        self._ended = threads.event()
        self._is_away = False
        self._reads = self.run.routed.get(declared.name, {}).get("reads")  # as far as it was said

    def begin(self) -> None:
        threads.start(self._live)

    def wait(self) -> None:
        self._ended.wait()

    @property
    def is_alive(self) -> bool:
        return not self._ended.is_set()

    def counts(self) -> dict[str, Any]:
        stage = self._stage
        return stage.counts.fields() if stage is not None else dict(self.run.routed.get(self.declared.name, {}))

    def interrupt(self) -> None:
        if self._stage is not None:
            self._stage.interrupt()

    def _live(self) -> None:
        try:
            self._stage = stage = self._begin()
            if stage is not None:
                try:
                    self._work(stage)
                finally:
                    self._leave(stage)
        except BaseException as error:
            if self.error is None:
                self.error = error
            self.run.stop()
        finally:
            self._ended.set()

    def _begin(self) -> Stage | None:
        """Returns the stage at work, once what it needs can be opened; None where the run is over before."""
        retry_s = RETRY_PAUSE_S[0]
        while not self.run.is_stopping:
            try:
                return self.run.make(self.declared)
            except GrafctlError as error:
                self._wait_out(error, retry_s)
                retry_s = min(retry_s * 2, RETRY_PAUSE_S[1])
        return None

    def _work(self, stage: Stage) -> None:
        shortest_s, longest_s = EDGE_PAUSE_S if self.run.is_at_edge(self.declared) else IDLE_PAUSE_S
        pause_s = shortest_s
        retry_s = RETRY_PAUSE_S[0]
        while not self.run.is_stopping:
            worked = self.run.worked()
            self.empty_at = -1  # whoever is at work is not quiet
            try:
                found = stage.step()
                if not found and self.run.until is Until.IDLE:
                    self.is_idle = stage.is_idle()
            except GrafctlError as error:
                self._wait_out(error, retry_s)
                retry_s = min(retry_s * 2, RETRY_PAUSE_S[1])
                continue
            self._is_away, retry_s = False, RETRY_PAUSE_S[0]
            if stage.counts.reads not in (None, self._reads):
                self._reads = stage.counts.reads
                self.run.say(f"{self.declared.name}: It reads {self._reads}, as the switch {stage.counts.switch} says.")
            if stage.is_finished():
                self.is_finished = self.is_idle = True
                return
            if found:
                self.batches += 1
                pause_s = shortest_s
                continue
            self.empty_at = worked
            self._sleep(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)

    def _wait_out(self, error: GrafctlError, pause_s: float) -> None:
        """Waits for what passes; raises everything else.

        A program or a warehouse that has failed is for somebody to look at: a source that died gives nothing more.
        """
        is_passing = error.as_json()["retryable"] and not isinstance(error, ExternalFailed)
        if self.run.until is Until.ONCE or not is_passing:
            raise error
        if not self._is_away:
            self.run.say(f"{self.declared.name}: {error.message} Waiting for it.")
        self._is_away = True
        self._sleep(clock.jitter_s(pause_s) + pause_s / 2)

    def _leave(self, stage: Stage) -> None:
        try:
            stage.leave()
        except GrafctlError as error:
            if self.error is None and not error.as_json()["retryable"]:
                raise
            self.run.say(f"{self.declared.name}: {error.message} What it held comes again when its lease runs out.")

    def _sleep(self, seconds: float) -> None:
        until_s = clock.monotonic_s() + seconds
        while not self.run.is_stopping and (left_s := until_s - clock.monotonic_s()) > 0:
            clock.sleep(min(left_s, LOOK_S))
