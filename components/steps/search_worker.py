"""Step 3 in another pod: one more worker on the study that the search step collects."""

import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from components.progress import report
from components.steps.crew import Inputs, work
from components.steps.refusals import refused_once
from components.steps.running import TERMINATED, read_config, telling_input_errors
from components.steps.state import fingerprint, state_folder


def run(*, run_key: str, config: Path, dataset: Path, controller: Path, place: int) -> None:
    """Trains children until the budget is spent.

    A worker that is told to stop gives its child back at once; what it has finished is in the
    study.
    """
    name, stop = f"search_worker-{place}", threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, end)
    try:
        report(name, "started")
        inputs = Inputs(config, dataset, controller)
        this = fingerprint(read_config(config), asdict(inputs))
        with telling_input_errors(name), refused_once(name, this):
            work(inputs, state=state_folder() / name, run_key=run_key, stop=stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    if stop.is_set():
        sys.exit(TERMINATED)
    report(name, "finished", seconds=0.0, busy={})
