"""Wrong input on the command line: one message, exit status 2, nothing left.

Most commands are called in this process, which has imported what they need; some are processes.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from nascore.errors import InputError
from pipelines.cli import main

Ended = subprocess.CompletedProcess[str]


def nas(*arguments: str, cwd: Path) -> Ended:
    """Call the command in this process; its environment is as before afterwards."""
    before = dict(os.environ)
    try:
        with contextlib.chdir(cwd):
            result = CliRunner().invoke(main, arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    stderr = result.stderr
    if result.exc_info is not None and not isinstance(result.exception, SystemExit | None):
        stderr += "".join(traceback.format_exception(result.exception))
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, stderr)


def process(*arguments: str, cwd: Path) -> Ended:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(*arguments: str, cwd: Path, call: Callable[..., Ended] = nas) -> str:
    """The message of a command that must refuse its input and leave everything as it was."""
    before = tree(cwd)
    ended = call(*arguments, cwd=cwd)
    assert ended.returncode == 2, ended.stderr
    if "--json" in arguments:
        assert ended.stdout == ""
    assert "Traceback" not in ended.stderr + ended.stdout
    assert tree(cwd) == before
    return ended.stderr


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the contents of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# --- the database of the study --------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://nas:hunter2@127.0.0.1:1/nas", "Connection refused"),
        ("nas:hunter2 at db", "no URL"),
        ("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
        ("sqlite:////not/there/study.db", "is not a writable folder"),
    ],
)
def test_a_study_that_cannot_be_reached_is_told_soon_and_without_its_password(
    tmp_path: Path, url: str, told: str
) -> None:
    start = time.monotonic()
    message = refused("run", f"--set=search.storage={url}", "--out=out", cwd=tmp_path)
    assert time.monotonic() - start < 60  # an outage is waited for five minutes
    assert told in message
    assert "search.storage" in message
    assert "hunter2" not in message


def test_a_method_that_needs_one_worker_is_not_given_more(tmp_path: Path) -> None:
    message = refused(
        "run", "--set=method=nases-paper", "--set=search.workers=2", "--out=out", cwd=tmp_path
    )
    assert "search.workers = 2: each proposal of nases-paper needs the result" in message


@pytest.mark.parametrize("command", ["run", "compile", "doctor"])
def test_a_password_in_the_source_of_the_data_is_written_nowhere(
    tmp_path: Path, command: str
) -> None:
    setting = "--set=data.source=npz:s3://AKIA:hunter2@bucket/data.npz"
    message = refused(command, setting, cwd=tmp_path, call=process)
    assert "data.source = npz:s3://***@bucket/data.npz: holds a user name, a password" in message
    assert "hunter2" not in message


# --- settings -------------------------------------------------------------------------------


def test_every_problem_of_file_preset_and_settings_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "sede: 1\n"
        "method: random\n"
        "data: {max_train: many}\n"
        "search:\n"
        "  budget: {children: 4, seconds: 60}\n"
        "  options: {depth: 3}\n"
        "train: {lr: 0.001}\n"
        "training: {min_lr: 0.01}\n"
    )
    message = refused(
        "run",
        "config.yaml",
        "--set=latency.rums=50",
        "--set=nonsense",
        "--preset=quik",
        "--out=out",
        cwd=tmp_path,
        call=process,
    )
    for told in (
        "sede = 1: unknown key; did you mean 'seed'?",
        "data.max_train = 'many': must be a whole number",
        "search.budget: give exactly one of children, steps, seconds, gpu_hours; "
        "got children and seconds",
        "search.options.depth = 3: unknown key",
        "training.min_lr = 0.01: must be <= train.lr, got train.lr=0.001",
        "latency.rums = 50: unknown key; did you mean 'latency.runs'?",
        "--set = nonsense: write key.path=value",
        "--preset = quik",
    ):
        assert told in message


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("serch.control=false", "serch: unknown key; did you mean 'search'?"),
        ("method=nasse", "method = 'nasse': unknown method; did you mean 'nases'?"),
        ("search.child.epochs=0", "search.child.epochs = 0: must be greater than or equal to 1"),
        ("search.space.name=chains", "search.space.name = chains: must be one of 'chain'"),
        (
            "train.flip=true",
            "train.flip = true: was renamed to training.flip; write training.flip=true",
        ),
        ("training.flip=true", "training.flip = true: mirrored digits are wrong"),
        ("train.lr=.inf", "train.lr = inf: must be a finite number"),
    ],
)
def test_a_wrong_setting_is_explained(tmp_path: Path, setting: str, told: str) -> None:
    assert told in refused("run", f"--set={setting}", cwd=tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\ndata: {source: digits\ntrain: 3\n", "line 3"),
        (
            "seed: 1\nmethod: random\nseed: 2\n",
            "key 'seed' is given twice (first in line 1), in line 3",
        ),
        ("- seed\n", "must be a mapping of keys to values"),
        ("seed: !!python/object/apply:os.abort []\n", "line 1"),
        ("\x00", "is a binary file, not YAML"),
        ("\x01", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_yaml_is_told_with_the_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    message = refused("run", "config.yaml", cwd=tmp_path)
    assert "CONFIG = config.yaml" in message
    assert told in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "does not exist" in refused("run", "no.yaml", "--set=seed=1", cwd=tmp_path)


# --- where the output goes ------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert "is not empty" in refused("run", "--out=out", cwd=tmp_path)


@pytest.mark.parametrize("out", ["file", "file/below", "file/far/below"])
def test_a_file_is_no_folder(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("text")
    assert "file" in refused("run", f"--out={out}", cwd=tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, "size=1m"):
        yield folder


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, "ro"):
        yield folder


class mounted:
    """A file system in memory on a folder; skips the test where this may not be done."""

    def __init__(self, folder: Path, options: str) -> None:
        self._folder, self._options = folder, options

    def __enter__(self) -> None:
        command = ["mount", "-t", "tmpfs", "-o", self._options, "tmpfs", str(self._folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("may not mount a file system here")

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", str(self._folder)], check=True)


@pytest.mark.parametrize("wrong", [(), ("--set=sede=1",)])
def test_a_run_is_kept_here_and_not_in_s3(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    message = refused("run", "--out=s3://me:hunter2@bucket/runs", *wrong, cwd=tmp_path)
    assert "--out = s3://***@bucket/runs: a run is kept in a folder of this machine" in message
    assert "promote.export_to=s3://BUCKET/PREFIX" in message
    assert "hunter2" not in message


def test_a_disk_that_is_too_small(tmp_path: Path, small_disk: Path) -> None:
    message = refused("run", f"--out={small_disk / 'out'}", cwd=tmp_path)
    assert "the disk has 1 MB free" in message


def test_a_disk_that_cannot_be_written(tmp_path: Path, read_only_disk: Path) -> None:
    message = refused("run", f"--out={read_only_disk / 'out'}", cwd=tmp_path)
    assert "--out" in message
    assert "Read-only file system" in message or "not writable" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "not writable" in refused("run", "--out=locked/out", cwd=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--resume",), "needs --out"),
        (("--resume", "--out=nowhere"), "holds no run"),
        (("--resume", "--out=empty"), "holds no run"),
        (("--resume", "--out=broken"), "config.json"),
    ],
)
def test_what_cannot_be_resumed(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"seed": ')
    assert told in refused("run", *arguments, cwd=tmp_path)


# --- the tracking store ---------------------------------------------------------------------


def test_a_store_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at " * 40)
    message = refused(
        "run",
        "--set=tracking.uri=sqlite:///notes.txt",
        "--out=notes.txt",
        cwd=tmp_path,
        call=process,
    )
    assert "tracking.uri" in message
    assert "cannot be opened as an SQLite database" in message
    assert "--out" in message  # told in the same message


def test_a_database_of_something_else(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    message = refused("run", "--set=tracking.uri=sqlite:///shop.db", cwd=tmp_path)
    assert "something else than MLflow" in message


def test_a_store_in_plain_files(tmp_path: Path) -> None:
    message = refused("run", "--set=tracking.uri=file:mlruns", cwd=tmp_path)
    assert "use sqlite:///FILE" in message


# --- the data: found by the first step, in a process of its own -----------------------------


def test_data_that_is_not_there_leaves_no_trace(tmp_path: Path) -> None:
    message = refused("run", "--set=data.source=npz:no.npz", cwd=tmp_path)
    assert "data.source = npz:no.npz: there is no file no.npz" in message


def test_truncated_data_leaves_no_trace(tmp_path: Path) -> None:
    images = np.zeros((60, 8, 8), np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(60) % 3)
    whole = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "out").mkdir()  # given by the user, so it stays
    source = f"--set=data.source=npz:{tmp_path / 'data.npz'}"
    message = refused("run", source, "--out=out", "--json", cwd=tmp_path, call=process)
    assert "data.source" in message


@pytest.mark.slow
def test_what_a_later_step_finds_wrong_leaves_the_work_that_was_done(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    # Larger than a megabyte when decoded, so that each step reads the files anew.
    settings = ("method=random", f"data.source=imagefolder:{tmp_path / 'images'}")
    settings += ("data.image_size=128", "data.memory_limit_mb=1", "data.decoded_cache_mb=0")
    progress = tmp_path / "out" / "progress.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run", "--out=out"]
        + [f"--set={one}" for one in settings],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (progress.exists() and '"event": "finished"' in progress.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        shutil.rmtree(tmp_path / "images")
        _, stderr = process.communicate(timeout=90)
    assert process.returncode == 2, stderr
    assert "The step search failed: the input is wrong\n  data.source = imagefolder:" in stderr
    assert "nas run --resume --out" in stderr
    assert "nothing was started" not in stderr
    assert (tmp_path / "out" / "state" / "prepare_data" / "outputs" / "done.json").exists()


def test_a_gpu_that_is_not_here_is_missed_before_anything_runs(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    message = refused("run", "--set=latency.device=cuda", "--out=out", cwd=tmp_path)
    assert "latency.device = cuda: torch finds no CUDA device here" in message
    assert "training.device" not in message


# --- the other commands ---------------------------------------------------------------------


@pytest.mark.parametrize("image", ["repo/nas:latest", "repo/nas", "localhost:5000/nas", "nas:dev"])
def test_an_image_that_may_move_is_refused(image: str) -> None:
    from pipelines.definitions.compiling import check_image

    with pytest.raises(InputError, match="a tag that never moves"):
        check_image(image)


@pytest.mark.parametrize(
    "image", ["repo/nas:1.2", "localhost:5000/nas:x", f"nas@sha256:{'0123456789abcdef' * 4}"]
)
def test_an_image_that_stays_is_taken(image: str) -> None:
    from pipelines.definitions.compiling import check_image

    check_image(image)


def test_compile_tells_wrong_settings_images_and_places(tmp_path: Path) -> None:
    assert "unknown key" in refused("compile", "--set=x=1", cwd=tmp_path)
    assert "--image = nas:latest" in refused("compile", "--image=nas:latest", cwd=tmp_path)
    assert "does not exist" in refused("compile", "-o", "no/such/file.yaml", cwd=tmp_path)


def test_compile_writes_a_file_that_kfp_takes(tmp_path: Path) -> None:
    ended = nas("compile", "--set=seed=5", "--image=repo/nas:1.2", "-o", "p.yaml", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert list(tree(tmp_path)) == ["p.yaml"]
    text = (tmp_path / "p.yaml").read_text()
    assert "image: repo/nas:1.2" in text
    assert "nas-python" not in text


def test_the_ui_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    assert "start with `nas run`" in refused("ui", cwd=tmp_path)


def test_the_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database" * 100)
    ended = nas(
        "doctor",
        "--json",
        "--set=tracking.uri=sqlite:///notes.txt",
        "--data=npz:no.npz",
        cwd=tmp_path,
    )
    assert ended.returncode == 1, ended.stderr
    findings = {finding["check"]: finding for finding in json.loads(ended.stdout)}
    for name in ("tracking", "data"):
        assert findings[name]["status"] == "problem"
        assert findings[name]["remedy"]
    assert findings["python"]["status"] == "ok"
    assert findings["torch"]["status"] in ("ok", "warning")


def test_the_doctor_has_nothing_to_say_of_a_sound_machine(tmp_path: Path) -> None:
    ended = process("doctor", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert "problem" not in ended.stdout


def test_the_doctor_needs_a_valid_configuration(tmp_path: Path) -> None:
    assert "unknown key" in refused("doctor", "--set=x=1", cwd=tmp_path)


def test_the_version_is_told_quickly(tmp_path: Path) -> None:
    before = os.times()
    ended = process("--version", cwd=tmp_path)
    after = os.times()
    assert ended.returncode == 0
    assert "0." in ended.stdout
    seconds = after.children_user - before.children_user
    assert seconds < 1.5  # of the processor; without torch, kfp and mlflow 0.3 s, with them 4 s


# --- the end before its time ----------------------------------------------------------------


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_run_that_is_stopped_ends_all_its_processes_and_says_how_to_go_on(
    tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    import psutil

    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run", "--set=method=random", "--out=out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever starts the tests in the background of a shell has them ignore ctrl-C.
        preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "pipeline.log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signum)
        stdout, stderr = process.communicate(timeout=90)
    assert process.returncode == status, stderr
    assert f"nas run --resume --out {tmp_path / 'out'}" in stderr
    assert "Traceback" not in stderr + stdout
    assert len(started) >= 1
    assert psutil.wait_procs(started, timeout=5)[1] == []


def test_when_the_runner_is_killed_its_step_does_not_live_on(tmp_path: Path) -> None:
    import psutil

    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run", "--set=method=random", "--out=out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "progress.jsonl").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started = psutil.Process(process.pid).children(recursive=True)
        (runner,) = psutil.Process(process.pid).children()
        runner.kill()
        _, stderr = process.communicate(timeout=90)
    assert process.returncode == 1, stderr
    assert "nas run --resume" in stderr
    assert "Traceback" not in stderr
    assert len(started) > 1
    assert psutil.wait_procs(started, timeout=0)[1] == []


def test_two_processes_cannot_go_on_with_the_same_run(tmp_path: Path) -> None:
    from components.config.schema import Config
    from pipelines.local.output import Output

    Output(tmp_path / "out", Config(), resume=False)  # holds it from here on
    message = refused("run", "--resume", "--out=out", cwd=tmp_path, call=process)
    assert "another process" in message
