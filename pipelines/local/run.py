"""Runs a compiled pipeline on this machine, in local processes: the same file as on Kubeflow.

    python -m pipelines.local.run --out FOLDER --kind search|retrain

A child process of `nas run` and `nas retrain`. FOLDER holds `config.json`; the pipeline is compiled
from it to `pipeline.yaml`, and that file is what runs. Everything it prints is the run's log.
SIGTERM asks the step under way to save what it has, and ends the run.
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
from components.steps.refusals import forget_refusals
from components.tracking import follower
from pipelines.local.events import KINDS, Kind, ProgressFile
from pipelines.local.forking import fork_server

CONFIG = "config.json"
PIPELINE = "pipeline.yaml"
PROGRESS = "progress.jsonl"
LOG = "pipeline.log"
RESULT = "result.json"
SEARCH_RESULT = "search_result.json"
REPORT = "report.html"
REVIEW = "review.json"

_SAVE_S = 15.0  # what a step gets for saving; a checkpoint of a small network takes a second
_POLL_S = 0.1
_LAST_WORDS = ("finished", "failed", "input_error")
_stopped = threading.Event()  # somebody asked for the end and waits


def environment(out: Path) -> dict[str, str]:
    """What the steps need to know of this run; see docs/architecture.md."""
    return {
        "NAS_STATE_DIR": str(out / "state"),
        "NAS_PROGRESS_FILE": str(out / PROGRESS),
        "NAS_SPOOL_DIR": str(out / "spool"),
    }


def run(out: Path, kind: Kind) -> None:
    """Compiles and runs; `result.json` and `report.html` lie in `out` afterwards.

    Raises:
        RuntimeError: a step failed (kfp's own error; the step's is in the log).
    """
    config = loads((out / CONFIG).read_text())
    os.environ.update(environment(out))
    with fork_server(out, config):
        if kind == "retrain":
            from pipelines.definitions.retrain import compile_retrain

            compile_retrain(config, out / PIPELINE, for_cluster=False)
        else:
            from pipelines.definitions.search import compile_search

            compile_search(config, out / PIPELINE, for_cluster=False)
        run_compiled(out)


def run_compiled(out: Path) -> None:
    """Runs `pipeline.yaml` in `out` and collects its outputs: result, report and review."""
    from kfp import components, local

    os.environ.update(environment(out))
    forget_refusals(out / "state")
    with _tracked(out), _search_collected(out):
        # The image's name does not matter here: steps run in this environment.
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(out / "pipeline"),
            raise_on_error=True,
        )
        pipeline = components.load_component_from_text(_without_retries(out / PIPELINE))
        pipeline()
        _collect(out)


def _without_retries(path: Path) -> str:
    """The compiled file, but a step that fails is not tried again after minutes of back-off: here
    a person is watching, and `--resume` goes on."""
    documents = list(yaml.safe_load_all(path.read_text()))
    for task in documents[0]["root"]["dag"]["tasks"].values():
        task.pop("retryPolicy", None)
    return yaml.safe_dump_all(documents)


def _collect(out: Path) -> None:
    """Copies what the steps have kept: the pipeline itself has no outputs."""
    for step, name, target in (
        ("review", "review", REVIEW),
        ("promote", "report", REPORT),
        ("promote", "result", RESULT),
    ):
        found = out / "state" / step / "outputs" / name
        if found.exists():
            _copy(found, out / target)


def _copy(path: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}")
    shutil.copyfile(path, temporary)
    os.replace(temporary, target)


@contextlib.contextmanager
def _search_collected(out: Path) -> Iterator[None]:
    """Hands the search's result on, also when the run is stopped or fails later."""
    try:
        yield
    finally:
        found = out / "state" / "search" / SEARCH_RESULT
        if found.exists():
            _copy(found, out / SEARCH_RESULT)


# --- tracking -------------------------------------------------------------------------------


@contextlib.contextmanager
def _tracked(out: Path) -> Iterator[None]:
    """Follows the tracking spool, from the moment that the data was found good.

    A run whose input is wrong leaves nothing behind, in the tracking store either.
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
    if (out / "spool").is_dir():
        with follower(out / "spool", is_hurried=_stopped.is_set):
            ended.wait()


# --- the end before its time ----------------------------------------------------------------


def _stop(signum: int, frame: FrameType | None) -> None:
    """Asks the step under way to save, and leaves; kfp cannot start another one meanwhile."""
    import psutil

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _stopped.set()
    print("asked to stop: the step under way saves what it has", flush=True)
    steps = [process for process in psutil.Process().children(recursive=True) if _is_step(process)]
    events = ProgressFile(Path(os.environ["NAS_PROGRESS_FILE"]))
    list(events.new())  # what was said before
    for process in steps:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    end = time.monotonic() + _SAVE_S
    late = steps
    while late and time.monotonic() < end:
        _, late = psutil.wait_procs(late, timeout=_POLL_S)
        if any(event["event"] in _LAST_WORDS for event in events.new()):
            break  # all is written; taking torch apart takes another second or two
    for process in late:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    sys.exit(1)


def _is_step(process: Any) -> bool:
    """The follower ends at the end."""
    import psutil

    try:
        return "components.tracking.replayer" not in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _stop_with(parent: int) -> None:
    """Nobody would read the result of a run whose command was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.local.run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--kind", choices=KINDS, default="search", help="which pipeline")
    parser.add_argument("--parent", type=int, help="stop when this process is no more the parent")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    if arguments.parent is not None:
        threading.Thread(target=_stop_with, args=(arguments.parent,), daemon=True).start()
    run(arguments.out, arguments.kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
