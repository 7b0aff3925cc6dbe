"""Runs the work of a step: restores finished work, measures time, tracks, and reports the end.

def run(*, run_key: str, config: str, ..., model: str) -> dict[str, float]:
    def work(step: Step) -> dict[str, float]: ...
    return execute("train_final", work, run_key=run_key, config=config, outputs=...)
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from components.config.schema import Config, loads
from components.ending import REASON_CHARS, TAG_KIND, TAG_REASON, brief_excepthook, end_of
from components.progress import report
from components.steps.refusals import TAG as REFUSED
from components.steps.refusals import refused_once, tag_of
from components.steps.state import CONFIG, fingerprint, remove, restore, save, state_folder
from components.tracking import Tracker, follower, lineage
from components.tracking.datasets import data_name
from components.tracking.run_description import NOTE, step_note
from components.variables import RESTARTS, STATE_ROOT
from nascore.errors import InputError
from nascore.redaction import redact

TERMINATED = 128 + signal.SIGTERM


class Step:
    """The running step: its state folder, its MLflow runs, its clock and its progress.

    Attributes:
        state: a folder of this step that outlives the process.
        tracked: the MLflow run of the step; writing to it never waits for a server.
        parent: the MLflow run of the whole pipeline.
        tracker: creates further runs, such as those of the best children.
    """

    def __init__(self, name: str, *, run_key: str, config: Config, tracker: Tracker) -> None:
        self.name = name
        self.config = config
        self.run_key = run_key
        self.state = state_folder() / name
        self.tracker = tracker
        # Kubeflow's MLflow plugin has created a run for this task, below one for the pipeline.
        given = os.environ.get("MLFLOW_RUN_ID") if config.tracking.kfp_plugin else None
        self.parent = tracker.run(
            run_key,
            name=run_name(config),
            adopt_parent_of=given,
            tags=lineage.of_kfp() | lineage.of_source(),
        )
        self.tracked = tracker.run(
            f"{run_key}.{name}",
            name=name,
            parent=run_key,
            adopt=given,
            tags=lineage.of_source(name) | {NOTE: step_note(name, config)},
        )
        self.busy_s: dict[str, float] = {}
        self.parts_s: dict[str, float] = {}
        self._start = time.perf_counter()
        self._stop = threading.Event()

    @contextlib.contextmanager
    def busy(self, kind: str) -> Iterator[None]:
        """Count the block as `data`, `training` or `profiling` time; the rest is overhead.

        The time of a block within this one is counted as that block's alone.
        """
        start, within_s = time.perf_counter(), sum(self.busy_s.values())
        try:
            yield
        finally:
            within_s = sum(self.busy_s.values()) - within_s
            elapsed_s = time.perf_counter() - start - within_s
            self.busy_s[kind] = self.busy_s.get(kind, 0.0) + elapsed_s

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a part of the overhead, such as `report`."""
        start = time.perf_counter()
        yield
        self.parts_s[name] = self.parts_s.get(name, 0.0) + time.perf_counter() - start

    def progress(self, event: str, **fields: Any) -> None:
        """Report an event; see `components.progress`."""
        report(self.name, event, **fields)

    def timing(self) -> dict[str, Any]:
        """Return the time of this step so far; the artifacts carry it to the report."""
        return {
            "name": self.name,
            "seconds": round(time.perf_counter() - self._start, 3),
            "busy": {kind: round(seconds, 3) for kind, seconds in self.busy_s.items()},
            "tracking_seconds": round(self.tracker.spent_s, 3),
        }

    def should_stop(self) -> bool:
        """Return whether SIGTERM has asked for the end."""
        return self._stop.is_set()

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGTERM."""
        self._stop.set()


def execute(
    name: str,
    work: Callable[[Step], dict[str, float]],
    *,
    run_key: str,
    config: Config,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
) -> dict[str, float]:
    """Do the work of a step, or restore its outputs if the same work was done before.

    Work that was asked to stop writes its best result so far, but is not done: the process exits
    with the status of a terminated one, so that the step is retried, and the new try resumes.

    Args:
        name: name of the step.
        work: writes the outputs and returns scalar metrics.
        run_key: key of the pipeline's MLflow run.
        config: configuration of the run.
        inputs: artifacts that the step reads; their contents decide whether an earlier result is
            still valid.
        outputs: artifacts that the work writes; an exception removes them.

    Returns:
        The scalar metrics.

    Raises:
        InputError: the input is wrong; reported as progress, shown without a traceback.
        SystemExit: the work was asked to stop.
    """
    report(name, "started")
    this = fingerprint(config, inputs)
    with (
        report_input_errors(name),
        refused_once(name, this, recall=lambda: _recall(f"{run_key}.{name}", config)),
    ):
        done = restore(name, this, outputs)
        if done is not None:
            report(name, "finished", seconds=0.0, busy={}, restored=True)
            return done
        with _spool(name) as spool:
            tracker = Tracker.open(
                spool, uri=config.tracking.uri, experiment=config.tracking.experiment
            )
            with contextlib.closing(tracker):
                step = Step(name, run_key=run_key, config=config, tracker=tracker)
                step.state.mkdir(parents=True, exist_ok=True)
                metrics = _work(step, work, outputs, this)
                if not step.should_stop():
                    save(name, this, outputs, metrics)
                timing = _conclude(step, metrics)
    # Reported last: `nas run` waits for this event of a stopped step.
    parts = {name: round(seconds, 3) for name, seconds in step.parts_s.items()}
    costs = {"seconds": timing["seconds"], "busy": timing["busy"], "parts": parts}
    step.progress("finished", **costs, metrics=metrics)
    if step.should_stop():
        sys.exit(TERMINATED)
    return metrics


def _work(
    step: Step,
    work: Callable[[Step], dict[str, float]],
    outputs: Mapping[str, Path],
    this: str,
) -> dict[str, float]:
    try:
        with _terminate_gently(step):
            return work(step)
    except BaseException as error:
        for path in outputs.values():
            remove(path)
        end = end_of(step.name, error)
        reason = {TAG_REASON: redact(end.reason)[:REASON_CHARS], TAG_KIND: end.kind}
        refused = tag_of(this, error) if isinstance(error, InputError) else {}
        step.tracked.tags(reason | refused)
        step.parent.tags(reason)
        _fail(step)
        if not isinstance(error, InputError):
            step.progress("failed", error=f"{type(error).__name__}: {error}")
        raise


def _recall(key: str, config: Config) -> str | None:
    """Return the stored input error of an earlier pod of this step, if pods share no state."""
    if RESTARTS not in os.environ or STATE_ROOT in os.environ:
        return None
    from components.tracking.pipeline_runs import tag_of_run

    return tag_of_run(config.tracking.uri, key, REFUSED)


def _conclude(step: Step, metrics: dict[str, float]) -> dict[str, Any]:
    timing = step.timing()
    step.tracked.metrics({**metrics, "seconds": timing["seconds"]})
    if step.should_stop():
        _fail(step)
    else:
        step.tracked.end()
    return timing


def _fail(step: Step) -> None:
    """End the run of the step and of the pipeline as FAILED; a retried step opens both again."""
    step.tracked.end("FAILED")
    step.parent.end("FAILED")


@contextlib.contextmanager
def report_input_errors(name: str) -> Iterator[None]:
    """Report wrong input in the block as progress, and show it without a traceback."""
    sys.excepthook = brief_excepthook
    try:
        yield
    except InputError as error:
        report(name, "input_error", problems=[problem.to_json() for problem in error.problems])
        raise


def read_config(dataset: Path) -> Config:
    """Return the resolved configuration of a run; `prepare_data` stores it with the data."""
    return loads((dataset / CONFIG).read_text())


def run_name(config: Config) -> str:
    """Return the name of the pipeline's MLflow run."""
    return f"{config.method} on {data_name(config.data.source)}"


@contextlib.contextmanager
def _spool(step: str) -> Iterator[Path]:
    """Yield the spool that another process follows, or one of this step with a follower."""
    given = os.environ.get("NAS_SPOOL_DIR")
    if given:
        yield Path(given)
        return
    spool = state_folder() / step / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    with follower(spool):
        yield spool


@contextlib.contextmanager
def _terminate_gently(step: Step) -> Iterator[None]:
    """Let SIGTERM ask the work for its best result so far instead of ending the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, step.stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
