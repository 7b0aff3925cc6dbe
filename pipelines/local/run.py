"""Execution of a compiled pipeline in processes of this machine: the same file as on Kubeflow.

    python -m pipelines.local.run --out FOLDER --kind search|retrain

A child process of `nas run` and `nas retrain`. FOLDER contains `config.json`; the pipeline is
compiled from it to `pipeline.yaml` and executed. Its output is the log of the run. SIGTERM makes
the running step save its state, and ends the run.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from components.config.schema import loads
from components.export.manifest import MODEL_CARD
from components.object_store.environment import tidy_environment
from components.steps.refusals import forget_refusals
from components.tracking import follower
from components.tracking.lineage import COMMAND
from components.tracking.lost_runs import mark_whole
from nascore.files import replacing
from pipelines.definitions.kinds import KINDS, Kind, compile_pipeline
from pipelines.local.earlier_runs import LATER, forget_sent, remember, sending_earlier
from pipelines.local.events import ProgressFile
from pipelines.local.forking import fork_server

CONFIG = "config.json"
PIPELINE = "pipeline.yaml"
PROGRESS = "progress.jsonl"
LOG = "pipeline.log"
RESULT = "result.json"
SEARCH_RESULT = "search_result.json"
REPORT = "report.html"
REVIEW = "review.json"

_SAVE_S = 15.0  # time for a step to save; a checkpoint of a small network takes a second
_POLL_S = 0.1
_LAST_EVENTS = ("finished", "failed", "input_error")
_stopped = threading.Event()  # set by SIGTERM, when the user waits for the end


def environment(out: Path) -> dict[str, str]:
    """Return the environment variables of the steps; see docs/architecture.md."""
    return {
        "NAS_STATE_DIR": str(out / "state"),
        "NAS_PROGRESS_FILE": str(out / PROGRESS),
        "NAS_SPOOL_DIR": str(out / "spool"),
    }


def run(out: Path, kind: Kind) -> None:
    """Compile and run the pipeline; it writes `result.json` and `report.html` to `out`.

    Raises:
        RuntimeError: a step failed (error of kfp; that of the step is in the log).
    """
    config = loads((out / CONFIG).read_text(encoding="utf-8"))
    tidy_environment()
    os.environ.update(environment(out))
    os.environ[COMMAND] = f"nas {'run' if kind == 'search' else kind} {config.method}"
    with fork_server(out, config):
        compile_pipeline(kind, config, out / PIPELINE, for_cluster=False)
        run_compiled(out)


def run_compiled(out: Path, **parameters: str) -> None:
    """Run `pipeline.yaml` in `out` and collect its outputs: result, report and review.

    Args:
        out: folder of the run.
        parameters: of the pipeline; what is not given is as compiled.
    """
    from kfp import components, local

    os.environ.update(environment(out))
    forget_refusals(out / "state")
    with _tracked(out), _search_collected(out):
        # Steps run in this environment, whatever their image.
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(out / "pipeline"),
            raise_on_error=True,
        )
        pipeline = components.load_component_from_text(_without_retries(out / PIPELINE))
        pipeline(**parameters)
        _collect(out)


def _without_retries(path: Path) -> str:
    """Return the compiled pipeline without retries of steps.

    A user who is watching resumes the run with `--resume` instead of waiting for the back-off.
    """
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    pipeline = documents[0]
    # The tasks of a branch are those of a component with a graph.
    for component in (pipeline["root"], *pipeline["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.pop("retryPolicy", None)
    return yaml.safe_dump_all(documents)


def _collect(out: Path) -> None:
    """Copy outputs of steps from the state folder: the pipeline itself has no outputs."""
    for written, target in (
        ("review/outputs/review", REVIEW),
        ("promote/outputs/report", REPORT),
        ("promote/outputs/result", RESULT),
        (f"promote/{MODEL_CARD}", MODEL_CARD),
    ):
        found = out / "state" / written
        if found.exists():
            _copy(found, out / target)


def _copy(path: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)


@contextlib.contextmanager
def _search_collected(out: Path) -> Iterator[None]:
    """Copy the result of the search, even if the run is stopped or fails later."""
    try:
        yield
    finally:
        found = out / "state" / "search" / SEARCH_RESULT
        if found.exists():
            _copy(found, out / SEARCH_RESULT)


# --- tracking -------------------------------------------------------------------------------


@contextlib.contextmanager
def _tracked(out: Path) -> Iterator[None]:
    """Send the tracking spool to MLflow, after the first step has accepted the data.

    A run with wrong input leaves nothing behind, not even in MLflow.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(out, ended), name="tracking")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(out: Path, ended: threading.Event) -> None:
    events = ProgressFile(out / PROGRESS)
    prepared = False
    while not prepared:
        last = ended.wait(_POLL_S)
        for event in events.new():
            if event["event"] == "input_error":
                return
            prepared |= event["event"] == "finished"
        if last:
            break
    spool = out / "spool"
    if spool.is_dir():
        mark_whole(spool)
        later = LATER if remember(spool) else ""
        with (
            follower(spool, is_hurried=_stopped.is_set, later=later),
            sending_earlier(spool),
        ):
            ended.wait()
        forget_sent(spool)


# --- stopping -------------------------------------------------------------------------------


def _stop(signum: int, frame: FrameType | None) -> None:
    """Make the running step save, and exit; kfp cannot start another step meanwhile."""
    import psutil

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _stopped.set()
    print("asked to stop: the step under way saves what it has", flush=True)
    steps = [process for process in psutil.Process().children(recursive=True) if _is_step(process)]
    events = ProgressFile(Path(os.environ["NAS_PROGRESS_FILE"]))
    list(events.new())  # skip earlier events
    for process in steps:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    end = time.monotonic() + _SAVE_S
    late = steps
    while late and time.monotonic() < end:
        _, late = psutil.wait_procs(late, timeout=_POLL_S)
        if any(event["event"] in _LAST_EVENTS for event in events.new()):
            break  # all is saved; unloading torch takes another second or two
    for process in late:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    sys.exit(1)


def _is_step(process: Any) -> bool:
    """Return whether a child process is a step, and not one that sends events."""
    import psutil

    try:
        return not any(word.startswith("components.tracking.") for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _stop_with(parent: int) -> None:
    """Stop this process when its parent has ended, for example because it was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.local.run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--kind", choices=KINDS, default="search", help="which pipeline")
    parser.add_argument("--parent", type=int, help="stop when this process is not the parent")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    if arguments.parent is not None:
        threading.Thread(target=_stop_with, args=(arguments.parent,), daemon=True).start()
    run(arguments.out, arguments.kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
