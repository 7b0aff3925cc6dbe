"""Step 3 in another pod: additional workers on the study of the search step."""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from components.progress import report
from components.steps.compiled import workers_of
from components.steps.context_builder import StepInputs
from components.steps.refusals import refused_once
from components.steps.runtime import TERMINATED, read_config, report_input_errors
from components.steps.state import fingerprint, state_folder
from components.steps.workers import EventCallbacks, work, worker_processes


class _WorkerCallbacks(EventCallbacks):
    """Also reports messages as progress."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        super().__init__(stop)
        self._name = name

    def on_message(self, text: str) -> None:
        """Report a sentence for the user."""
        report(self._name, "note", text=text)


def run(*, run_key: str, dataset: Path, controller: Path, place: int) -> None:
    """Train children until the budget is spent; a pod without a share of the workers ends at once.

    A worker that gets SIGTERM returns its unfinished child to the study at once; the study holds
    the finished ones.

    Args:
        run_key: key of the pipeline's MLflow run; names the study.
        dataset: folder of the prepared data.
        controller: folder that `pretrain_controller` has written.
        place: number of this pod among those of the workers, from 1.
    """
    name, stop = f"search_worker-{place}", threading.Event()
    count = workers_of(dataset, place)
    if count == 0:
        text = f"{name} has nothing to do: search.workers is smaller than the pipeline allows"
        report(name, "note", text=text)
        return

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, end)
    try:
        report(name, "started")
        config = read_config(dataset)
        state = state_folder() / name
        state.mkdir(parents=True, exist_ok=True)
        inputs = StepInputs(
            config=config, dataset=dataset, controller=controller, state=state, run_key=run_key
        )
        callbacks = _WorkerCallbacks(name, stop)
        this = fingerprint(config, {"dataset": dataset, "controller": controller})
        with (
            report_input_errors(name),
            refused_once(name, this),
            worker_processes(inputs, count - 1, callbacks),
        ):
            work(inputs, callbacks)
    finally:
        signal.signal(signal.SIGTERM, before)
    if stop.is_set():
        sys.exit(TERMINATED)
    report(name, "finished", seconds=0.0, busy={})
