"""Run the work of one step: its state, its restarts, the reason of its failure."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.ending import TAG_KIND, TAG_REASON, End, Kind, read_input
from components.object_store.environment import tidy_environment
from components.run_identity import run_id, run_key
from components.supervisor.artifact_store import wait_for_store
from components.supervisor.children import Stop, run_child
from components.supervisor.memory import Memory
from components.supervisor.restarts import Restarts
from components.supervisor.state import (
    StateCopy,
    config_of,
    identity_of,
    in_object_store,
    run_folder,
)
from components.tracking.spool import TARGET, Tracker
from components.variables import CPUS, STATE_ROOT, STORE_WAIT_S, seconds
from nascore.errors import InputError, ResourceUnavailable

SEARCH_WORKER = "search_worker"
"""A step whose loss the other workers make up for: it never fails the run."""
EXIT_TASK = "close_run"
"""The exit task: it has no state of its own, and sends the events that other steps have left."""
_SEND_S = 60


def supervise(step: str, command: Sequence[str], executor_input: str) -> int:
    """Do a step's work, restart it where that can help, and return the exit status.

    Args:
        step: name of the step.
        command: starts the work.
        executor_input: JSON, from KFP's launcher.
    """
    stop = Stop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    try:
        end = _supervise(step, command, stop, executor_input)
    except InputError as error:
        kind: Kind = "outage" if isinstance(error, ResourceUnavailable) else "input"
        end = End(step, kind, str(error))
    if end is None:
        wait_for_store(executor_input, _say)
        return 0
    print(end.line(), flush=True)
    if step == SEARCH_WORKER:
        _say("this worker gives up; the search goes on without it")
        return 0
    return 1


def _supervise(step: str, command: Sequence[str], stop: Stop, executor_input: str) -> End | None:
    tidy_environment()
    read_input(executor_input)
    folder = run_folder()
    with _state_copied(step, folder, stop, executor_input) as outcome:
        environment = _environment(folder)
        end = _work(step, command, environment, stop)
        outcome["done"] = end is None
        if end is not None and end.kind != "stopped":  # after SIGTERM there is no time for it
            config = config_of(executor_input)
            _track_end(folder / step / "spool", step, end, config)
    return end


def _work(step: str, command: Sequence[str], environment: dict[str, str], stop: Stop) -> End | None:
    restarts, memory = Restarts.from_environment(), Memory.of_container()
    while True:
        start = time.monotonic()
        end = run_child(step, command, environment=environment, stop=stop, memory=memory)
        if end is None or stop.asked.is_set():
            return end
        pause_s = restarts.pause_after(end, lasted_s=time.monotonic() - start)
        if pause_s is None:
            return _counted(end, restarts)
        _say(
            f"{step} ended: {end.reason}; restart {restarts.count} of {restarts.limit} in "
            f"{pause_s:g} s, from its last state"
        )
        if stop.asked.wait(pause_s):
            return End(step, "stopped", "asked to stop (SIGTERM)")


def _counted(end: End, restarts: Restarts) -> End:
    if not restarts.count:
        return end
    tries = f"; started {restarts.count + 1} times"
    return End(end.step, end.kind, end.reason + tries)


# --- surroundings of the work -----------------------------------------------------------------


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of the work: its state, its threads, a writable home."""
    environment = dict(os.environ)
    environment["NAS_STATE_DIR"] = str(folder)
    cpus = environment.get(CPUS)
    if cpus:  # a container sees all processors of its node, and would start a thread for each
        environment.setdefault("OMP_NUM_THREADS", cpus)
    if not os.access(environment.get("HOME", ""), os.W_OK):
        home = Path(tempfile.gettempdir()) / "home"
        home.mkdir(exist_ok=True)
        environment["HOME"] = str(home)
    return environment


@contextlib.contextmanager
def _state_copied(
    step: str, folder: Path, stop: Stop, executor_input: str
) -> Iterator[dict[str, bool]]:
    """Keep the state of the step in the object store, where there is one, while the block runs.

    A search worker has none: its results are in the study.
    """
    outcome = {"done": False}
    if not in_object_store() or step == SEARCH_WORKER:
        yield outcome
        return
    from components.run_state.object_store import ObjectState

    if step == EXIT_TASK:
        _copy_spools(folder)
        yield outcome
        return
    state = ObjectState(
        os.environ[STATE_ROOT],
        run_id() or "run",
        step,
        folder / step,
        config=identity_of(executor_input),
    )
    if state.pull():
        _say(f"{step} resumes from the state in {os.environ[STATE_ROOT]}")
    copy = StateCopy(state, _say, on_lost=stop.ask)
    copy.start()
    try:
        yield outcome
    finally:
        copy.finish(done=outcome["done"], limit_s=seconds(STORE_WAIT_S))


def _copy_spools(folder: Path) -> None:
    """Copy the events that the steps of the run have not sent to MLflow to the local folder."""
    from components.run_state.pulling import copy_part, saved_steps

    root, run = os.environ[STATE_ROOT], run_id() or "run"
    try:
        for step in saved_steps(root, run):
            copy_part(root, run, step, "spool", folder / step / "spool")
    except InputError as error:  # the run has ended; what is left is no reason to fail it
        _say(f"events that were not sent are left in {root}: {error}")


def _target(spool: Path, config: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return store and experiment: of the step's spool, or of its configuration."""
    if (spool / TARGET).exists():
        target: dict[str, str] = json.loads((spool / TARGET).read_text())
        return target
    tracking = _tracking(config)
    if not {"uri", "experiment"} <= tracking.keys():
        return None
    spool.mkdir(parents=True, exist_ok=True)
    return {name: str(tracking[name]) for name in ("uri", "experiment")}


def _tracking(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    found = (config or {}).get("tracking")
    return found if isinstance(found, Mapping) else {}


def _track_end(spool: Path, step: str, end: End, config: Mapping[str, Any] | None) -> None:
    """Write the reason to the MLflow runs of the step and the pipeline, and end them.

    The work itself may have had no time for it.
    """
    key, target = run_key(), _target(spool, config)
    if key is None or target is None:
        return
    tags = {TAG_REASON: end.reason, TAG_KIND: end.kind}
    given = os.environ.get("MLFLOW_RUN_ID") if _tracking(config).get("kfp_plugin", True) else None
    with contextlib.closing(Tracker.open(spool, **target)) as tracker:
        # Declared again, since the work may have died before it could.
        run = tracker.run(key, name=(config or {}).get("method", "run"), adopt_parent_of=given)
        tracked = tracker.run(f"{key}.{step}", name=step, parent=key, adopt=given)
        for one in (tracked, run):
            one.tags(tags)
            one.end("FAILED")
    command = [sys.executable, "-m", "components.tracking.replayer", "--spool", str(spool)]
    with contextlib.suppress(subprocess.TimeoutExpired):  # the exit task sends what is left
        subprocess.run(command, timeout=_SEND_S, check=False)


def _say(text: str) -> None:
    print(f"supervisor: {text}", flush=True)
