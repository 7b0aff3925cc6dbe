"""Step 3 in another pod: further workers on the study that the search step collects."""

import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from components.progress import report
from components.steps.refusals import refused_once
from components.steps.runtime import TERMINATED, read_config, telling_input_errors
from components.steps.state import fingerprint, state_folder
from components.steps.workers import Inputs, Owner, work, worker_processes


def run(
    *,
    run_key: str,
    config: Path,
    dataset: Path,
    controller: Path,
    place: int,
    workers_here: int = 1,
) -> None:
    """Trains children until the budget is spent.

    A worker that is told to stop gives its child back at once; what it has finished is in the
    study.

    Args:
        place: number of this pod among those of the workers, from 1.
        workers_here: processes that train children in this pod, this one included.
    """
    name, stop = f"search_worker-{place}", threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, end)
    try:
        report(name, "started")
        inputs, settings = Inputs(config, dataset, controller), read_config(config)
        owner = Owner(
            config=settings,
            run_key=run_key,
            state=state_folder() / name,
            note=lambda text: report(name, "note", text=text),
            should_stop=stop.is_set,
        )
        owner.state.mkdir(parents=True, exist_ok=True)
        this = fingerprint(settings, asdict(inputs))
        with (
            telling_input_errors(name),
            refused_once(name, this),
            worker_processes(owner, inputs, workers_here - 1),
        ):
            work(inputs, state=owner.state, run_key=run_key, stop=stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    if stop.is_set():
        sys.exit(TERMINATED)
    report(name, "finished", seconds=0.0, busy={})
