"""Machines as they are found: full disks, no home, no locks, no hard links, odd locales.

File systems without locks or hard links are played by a `sitecustomize` that makes the calls fail
with the errors that NFS without lockd (ENOLCK), Lustre (ENOSYS) and exFAT or CIFS (EPERM) give.
Mounts lie in a mount namespace, which no other process sees.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field_commands import TINY, examined, nas, together, with_mounts
from mlflow import MlflowClient
from PIL import Image
from shifted_clock import ShiftedClock

Field = Callable[..., None]
SUPPORT = Path(__file__).parents[1] / "support"
BUDGET_S = 6
UNKIND = """\
import errno, fcntl, os

def failing(code):
    def call(*arguments, **options):
        raise OSError(code, os.strerror(code))
    return call

if "UNKIND_LOCKS" in os.environ:
    fcntl.flock = fcntl.lockf = failing(getattr(errno, os.environ["UNKIND_LOCKS"]))
if "UNKIND_LINKS" in os.environ:
    os.link = failing(getattr(errno, os.environ["UNKIND_LINKS"]))
"""


def unkind(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a command for which calls of the file system fail."""
    (folder / "python").mkdir(exist_ok=True)
    (folder / "python" / "sitecustomize.py").write_text(UNKIND)
    path = os.pathsep.join((str(folder / "python"), os.environ.get("PYTHONPATH", "")))
    return {**os.environ, "PYTHONPATH": path, **variables}


# --- disks ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("step", ["prepare_data", "search", "train_final", "promote"])
def test_a_full_disk(field: Field, tmp_path: Path, step: str) -> None:
    """The disk gets full as the step starts; the run ends soon with the reason, and resumes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{Path.cwd()}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*with_mounts(""), sys.executable, str(SUPPORT / "full_disk.py"), step, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["status"] == 1, seen
    assert f"the disk of {folder / 'r1'} is full; free space, then resume the run" in seen["err"]
    assert "Traceback" not in seen["out"] + seen["err"]
    assert seen["seconds"] < 60
    assert seen["resumed"] == 0, seen["resumed_text"]
    assert seen["has_result"]
    field(
        area="machine",
        line="75",
        trouble=f"the disk gets full during {step}",
        run="exit 1: the disk of DIR is full; free space, then resume the run; nas run --resume "
        "ends well when there is room",
        seconds=round(seen["seconds"], 1),
    )


def test_a_read_only_folder(field: Field, tmp_path: Path) -> None:
    before = with_mounts(f'mount -t tmpfs -o ro tmpfs "{tmp_path}"; cd "{tmp_path}"')
    doctor = examined("output", folder=tmp_path, before=before)
    assert doctor.startswith("problem output: ")
    run = nas("run", "--out", "r1", folder=tmp_path, settings=TINY, before=before)
    assert run.status == 2, run.err
    assert "is not writable; choose another folder" in run.message
    compiled = nas("compile", "--image", "r/i:1", folder=tmp_path, before=before)
    assert compiled.status == 2, compiled.err
    assert "search_pipeline.yaml: cannot be written (Read-only file system)" in compiled.err
    full = nas("compile", "--image", "r/i:1", "-o", "/dev/full", folder=tmp_path)
    assert full.status == 2, full.err
    assert "/dev/full: cannot be written (No space left on device)" in full.err
    shown = nas("compile", "--image", "r/i:1", "-o", "-", folder=tmp_path)
    assert shown.out.startswith("components:"), shown.err
    assert not (tmp_path / "-").exists()
    field(
        area="machine",
        line="85",
        trouble="the current folder is a read-only mount",
        doctor="problem output: DIR is not writable",
        run="nas run: exit 2, is not writable; choose another folder. nas compile: exit 2",
        seconds=round(run.seconds, 1),
    )


@pytest.mark.slow
def test_little_shared_memory(field: Field, tmp_path: Path) -> None:
    """As 64 MB, the default of containers, for batches of 38 MB: 256 images of 224 pixels."""
    _write_images(tmp_path / "images", count=400)
    before = with_mounts("mount -t tmpfs -o size=4m tmpfs /dev/shm")
    settings = together(
        *(*TINY, "data.max_train=null", "data.source=imagefolder:images"),
        *("data.image_size=64", "data.memory_limit_mb=1", "data.decoded_cache_mb=0"),
        *("search.child.batch_size=192", "train.batch_size=192", "search.budget.children=1"),
    )
    doctor = examined("shm", folder=tmp_path, settings=settings, before=before)
    assert doctor.startswith("warning shm: /dev/shm of 0.0 GB"), doctor
    run = nas("run", "--out", "r1", folder=tmp_path, settings=settings, before=before)
    assert run.status == 0, run.err
    log = (tmp_path / "r1" / "pipeline.log").read_text()
    assert "/dev/shm has no room for the batches of the" in log
    field(
        area="machine",
        line="81",
        trouble="a /dev/shm of 4 MB, and batches of 2.4 MB that several processes decode",
        doctor=f"{doctor}; fewer processes decode large images; set cluster.shared_memory",
        run="exit 0: threads decode; log: /dev/shm has no room for the batches of the 2 processes",
    )


def _write_images(folder: Path, *, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (32, 32, 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


# --- users ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/proc/none"])
def test_no_home(field: Field, tmp_path: Path, home: str | None) -> None:
    """No HOME and no entry in passwd, as a service or any user id of OpenShift has."""
    (tmp_path / "empty").touch()
    (tmp_path / "nsswitch").write_text("passwd: files\n")
    before = with_mounts(
        f'mount --bind "{tmp_path}/empty" /etc/passwd\n'
        f'mount --bind "{tmp_path}/nsswitch" /etc/nsswitch.conf'
    )
    names = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {} if home is None else {"HOME": home}
    (tmp_path / "tmp").mkdir()
    environment["TMPDIR"] = str(tmp_path / "tmp")
    doctor = examined("scratch", folder=tmp_path, environment=environment, before=before)
    run = nas(
        "run", "--out", "r1", folder=tmp_path, settings=TINY, environment=environment, before=before
    )
    assert run.status == 0, run.err
    assert doctor.startswith("ok scratch" if home is None else "warning scratch: not writable")
    field(
        area="machine",
        line="11" if home is None else "10",
        trouble="no passwd entry and "
        + ("no HOME" if home is None else "a HOME that is no folder"),
        doctor=doctor.partition(":")[0] + ("" if home is None else ": HOME is not writable"),
        run="exit 0, model registered",
    )


@pytest.mark.slow
def test_a_locale_of_another_encoding(field: Field, tmp_path: Path) -> None:
    name = "en_US.ISO-8859-1"
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / name)],
        capture_output=True,
        check=False,
    )
    if not (tmp_path / name).is_dir():
        pytest.skip(f"localedef makes no locale: {made.stderr.decode()[:80]}")
    (tmp_path / "c.yaml").write_text('tracking: {experiment: "Prüfung – 日本"}\n', encoding="utf-8")
    environment = {**os.environ, "LOCPATH": str(tmp_path), "LC_ALL": name}
    for variable in ("PYTHONUTF8", "PYTHONIOENCODING"):
        environment.pop(variable, None)
    run = nas(
        "run", "c.yaml", "--out", "r1", folder=tmp_path, settings=TINY, environment=environment
    )
    assert run.status == 0, run.err
    config = json.loads((tmp_path / "r1" / "config.json").read_text(encoding="utf-8"))
    assert config["tracking"]["experiment"] == "Prüfung – 日本"
    field(
        area="machine",
        line="59",
        trouble="a Latin-1 locale, and an experiment with characters that it lacks",
        run="exit 0, the name unchanged",
    )


# --- clocks -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clock_that_jumps(field: Field, tmp_path: Path) -> None:
    """Two hours back during the search, and a day ahead during the final training."""
    clock = ShiftedClock.make(tmp_path)
    settings = (*TINY, "search.budget.children=null", f"search.budget.gpu_hours={BUDGET_S / 3600}")
    command = [sys.executable, "-m", "pipelines.cli", "run", "--out", "r1"]
    command += [f"--set={setting}" for setting in settings]
    with open(tmp_path / "said", "wb") as said:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**clock.environment(), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    jumps = {("search", "child"): -2 * 3600, ("train_final", "started"): 24 * 3600}
    while process.poll() is None:
        for event in _events(tmp_path / "r1" / "progress.jsonl"):
            if (event["step"], event["event"]) in jumps:
                clock.jump(jumps.pop((event["step"], event["event"])))
        time.sleep(0.05)
    assert process.returncode == 0, (tmp_path / "said").read_text()
    assert not jumps, "each jump was during a step"
    timings = json.loads((tmp_path / "r1" / "result.json").read_text())["timings"]
    steps, total_s = timings["steps"], timings["total_s"]
    parts = [timings["begin_s"], timings["end_s"]]
    parts += [step[name] for step in steps.values() for name in ("start_up_s", "seconds")]
    assert min(parts) >= 0, timings
    assert sum(parts) == pytest.approx(total_s, abs=1)
    study = sqlite3.connect(tmp_path / "r1" / "state" / "search" / "study.db")
    query = "SELECT value_json FROM trial_user_attributes WHERE key = 'child'"
    children = [json.loads(text) for (text,) in study.execute(query)]
    study.close()
    spent_s = [child["ended_s"] - child["started_s"] for child in children]
    assert min(spent_s) >= 0
    assert sum(spent_s) == pytest.approx(2 * BUDGET_S, rel=0.3), "of method and control"
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    infos = [
        run.info for run in client.search_runs([client.get_experiment_by_name("nas").experiment_id])
    ]
    assert {info.status for info in infos} == {"FINISHED"}
    durations_s = [(info.end_time - info.start_time) / 1000 for info in infos]
    assert min(durations_s) >= 0
    assert max(durations_s) < total_s
    field(
        area="machine",
        trouble="the clock jumps two hours back during the search, and a day ahead afterwards",
        run="exit 0; the search spends its budget; times in result.json, the report and MLflow are "
        "those of the clock at the start of the run, and their durations are right",
    )


def _events(path: Path) -> list[dict[str, Any]]:
    """The events of a run so far; its last line may be incomplete."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


# --- file systems -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS"])
def test_no_locks(field: Field, tmp_path: Path, error: str) -> None:
    environment = unkind(tmp_path, UNKIND_LOCKS=error)
    doctor = examined("output", folder=tmp_path, environment=environment)
    assert doctor.startswith("problem output: the file system of ")
    run = nas("run", "--out", "r1", folder=tmp_path, settings=TINY, environment=environment)
    assert run.status == 2, run.err
    assert "its file system has no locks" in run.message
    assert "choose a folder on another disk" in run.message
    assert not (tmp_path / "r1").exists()
    field(
        area="machine",
        line="56",
        trouble=f"a file system without locks ({error})",
        doctor="problem output: the file system of DIR has no locks",
        run="exit 2: its file system has no locks, which keep two runs apart; choose a folder on "
        "another disk",
        seconds=round(run.seconds, 1),
    )


@pytest.mark.slow
def test_no_hard_links(field: Field, tmp_path: Path) -> None:
    environment = unkind(tmp_path, UNKIND_LINKS="EPERM")
    settings = (*TINY, "promote.export_to=exported")
    run = nas("run", "--out", "r1", folder=tmp_path, settings=settings, environment=environment)
    assert run.status == 0, run.err
    field(
        area="machine",
        trouble="a file system without hard links (EPERM, as exFAT and CIFS)",
        doctor="ok output",
        run="exit 0, model registered and exported",
    )
