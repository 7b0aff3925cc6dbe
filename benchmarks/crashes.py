"""Crash test of a search step: killed at many points, it must give the undisturbed result.

    python benchmarks/crashes.py --kills 10 [--method nases] [--set key.path=value ...]

The step runs as in a pod: by the supervisor, with the default number of restarts and pauses. Each
kill is a SIGKILL of the work, after an equal part of the time that the undisturbed search took.
docs/results/crashes.md has the results.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from components.config.parameters import NAMES
from components.config.schema import dumps
from pipelines.config import resolve

_LOOK_S = 0.2
RESULTS = Path(__file__).parent.parent / "docs" / "results"
STEPS = ("prepare_data", "pretrain_controller", "search")
OUTPUTS = {
    "prepare_data": {"dataset": "Dataset"},
    "pretrain_controller": {"controller": "Model"},
    "search": {"search_result": "Artifact", "weights": "Model"},
}
INPUTS = {
    "prepare_data": (),
    "pretrain_controller": ("dataset",),
    "search": ("dataset", "controller"),
}


def executor_input(step: str, folder: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the input of a step as KFP's launcher would pass it, with paths of this machine."""

    def artifact(name: str, kind: str = "Artifact") -> dict[str, Any]:
        kinds = {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}
        return {"artifacts": [{"name": name, "type": kinds, "uri": str(folder / name)}]}

    return {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {name: artifact(name) for name in INPUTS[step]},
        },
        "outputs": {
            "parameters": {},
            "artifacts": {name: artifact(name, kind) for name, kind in OUTPUTS[step].items()},
            "outputFile": str(folder / f"{step}.json"),
        },
    }


def run_step(
    step: str,
    folder: Path,
    parameters: dict[str, Any],
    *,
    kill_every_s: float | None = None,
    kills: int = 0,
) -> float:
    """Run a step under the supervisor; return its seconds."""
    environment = {
        **os.environ,
        "NAS_RUN_ID": "11111111-2222-3333-4444-555555555555",
        "NAS_STATE_ROOT": str(folder / "state"),
        "NAS_RESTARTS": "20",
    }
    command = [sys.executable, "-m", "components.supervisor", "kfp.dsl.executor_main"]
    command += ["--function_to_execute", step, "--executor_input"]
    command += [json.dumps(executor_input(step, folder, parameters))]
    start = time.monotonic()
    with open(folder / f"{step}.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    over = threading.Event()
    killer = threading.Thread(target=_kill, args=(process.pid, kill_every_s, kills, over))
    killer.start()
    status = process.wait()
    over.set()
    killer.join()
    if status != 0:
        raise SystemExit((folder / f"{step}.log").read_text()[-3000:])
    return time.monotonic() - start


def _kill(supervisor: int, every_s: float | None, count: int, over: threading.Event) -> None:
    """Kill the work after each `every_s` seconds in which it was there."""
    worked_s = 0.0
    while every_s is not None and count > 0 and not over.wait(_LOOK_S):
        work = [pid for pid in _descendants(supervisor) if b"components.execute" in _command(pid)]
        worked_s += _LOOK_S if work else 0.0
        if work and worked_s > every_s:
            os.kill(work[0], signal.SIGKILL)
            worked_s, count = 0.0, count - 1


def _descendants(pid: int) -> list[int]:
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def search(
    config: str, kill_every_s: float | None = None, kills: int = 0
) -> tuple[dict[str, Any], float, int]:
    """Return the search result, its seconds, and the number of restarts."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "state").mkdir()
        constants = {"config": config, "compiled": {"searches": True}, "job_name": "crashes"}
        run_step("prepare_data", folder, constants | dict.fromkeys(NAMES, ""))
        run_step("pretrain_controller", folder, {})
        seconds = run_step("search", folder, {}, kill_every_s=kill_every_s, kills=kills)
        log = (folder / "search.log").read_text()
        result = json.loads((folder / "search_result").read_text())
        return result, seconds, log.count("; restart ")


def outcomes(result: dict[str, Any]) -> list[Any]:
    """Return what must be equal: architectures and accuracies of all children of both arms."""
    arms = [result["arm"], result["control"]]
    return [
        [child["genotype"], child["scores"] and child["scores"]["valid_accuracy"]]
        for arm in arms
        if arm is not None
        for child in arm["children"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--method", default="nases")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    with TemporaryDirectory() as place:
        uri = f"tracking.uri=sqlite:///{place}/mlflow.db"
        settings = (f"method={arguments.method}", uri, *arguments.settings)
        config = dumps(resolve(None, None, settings))
        quiet, quiet_s, _ = search(config)
        every_s = quiet_s / (arguments.kills + 1)
        killed, killed_s, restarts = search(config, every_s, arguments.kills)
    same = outcomes(quiet) == outcomes(killed)
    lines = [
        "# Crash test of a search",
        "",
        f"`python benchmarks/crashes.py --kills {arguments.kills} --method {arguments.method}"
        + "".join(f" --set {setting}" for setting in arguments.settings)
        + f"`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()}).",
        "",
        "| | undisturbed | killed |",
        "| --- | --- | --- |",
        f"| seconds of the search step | {quiet_s:.0f} | {killed_s:.0f} |",
        f"| restarts by the supervisor | 0 | {restarts} |",
        f"| children | {len(outcomes(quiet))} | {len(outcomes(killed))} |",
        f"| validation accuracy | {quiet['valid_accuracy']:.4f} | {killed['valid_accuracy']:.4f} |",
        f"| architectures and accuracies of all children | | {'the same' if same else 'differ'} |",
        "",
    ]
    (RESULTS / "crashes.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
