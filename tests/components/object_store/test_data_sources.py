"""Data sources in S3 against a real server, directly and through a relay that fails."""

import io
import shutil
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from s3 import SECRET_KEY, Relay
from s3_sources import CACHE, CPU, digits, message, prepared

from components.config.schema import Config, dumps
from components.config.settings import TrackingConfig
from components.object_store.remote import S3
from components.steps import prepare_data
from components.steps.compiled import Compiled
from components.steps.context_builder import StepInputs, build_context
from nascore.config import DataConfig, TrainingConfig
from nascore.data.batches import load

pytestmark = pytest.mark.usefixtures("aws_account")


# --- data sources ---------------------------------------------------------------------------


def test_npz_is_read_and_not_fetched_twice(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="data", Key="a/digits.npz", Body=digits())
    (tmp_path / "digits.npz").write_bytes(digits())
    remote = S3(tmp_path / "copies", cache_bytes=CACHE)
    there = prepared("npz:s3://data/a/digits.npz", tmp_path / "there", remote=remote)
    here = prepared(f"npz:{tmp_path / 'digits.npz'}", tmp_path / "here")
    assert there.data_sha256 == here.data_sha256
    assert there.source == "npz:s3://data/a/digits.npz"

    copy = tmp_path / "copies" / "file.npz"
    before = copy.stat().st_mtime_ns
    again = S3(tmp_path / "copies", cache_bytes=CACHE)
    assert again.file("s3://data/a/digits.npz") == copy
    assert copy.stat().st_mtime_ns == before
    s3.put_object(Bucket="data", Key="a/digits.npz", Body=digits(44))
    again.file("s3://data/a/digits.npz")
    assert copy.read_bytes() == digits(44)
    assert again.listing_sha256() != remote.listing_sha256()


@pytest.mark.parametrize("memory_limit_mb", [1, 4096])
def test_a_folder_is_the_same_data_here_and_there(
    prefix: str, tree: Path, tmp_path: Path, memory_limit_mb: int
) -> None:
    settings = {"image_size": 256, "memory_limit_mb": memory_limit_mb, "decoded_cache_mb": 0}
    remote = S3(tmp_path / "copies", cache_bytes=CACHE)
    there = prepared(f"imagefolder:{prefix}", tmp_path / "there", remote=remote, **settings)
    here = prepared(f"imagefolder:{tree}", tmp_path / "here", **settings)
    assert there.data_sha256 == here.data_sha256
    assert there.split_sha256 == here.split_sha256
    assert there.classes == ("ant", "bee", "cow & calf")
    assert there.streamed == here.streamed == (memory_limit_mb == 1)

    remote = S3(tmp_path / "elsewhere", cache_bytes=CACHE, trusted=True)
    splits = load(tmp_path / "there" / "dataset", CPU, remote)
    wanted = load(tmp_path / "here" / "dataset", CPU)
    for found, expected in zip(
        splits.train.eval_batches(8), wanted.train.eval_batches(8), strict=True
    ):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("layout", ["groups", "tables"])
def test_splits_by_classes_are_the_same_here_and_there(
    layout: str, s3: Any, tree: Path, tmp_path: Path
) -> None:
    """Folders of folders, and the tables that mini-ImageNet publishes."""
    here = tmp_path / "here"
    for name in ("ant", "bee", "cow & calf"):
        shutil.copytree(
            tree / name, here / f"from {name}" / name if layout == "groups" else here / name
        )
    if layout == "tables":
        for split, label in {"train": "bee", "val": "cow & calf", "test": "ant"}.items():
            (here / f"{split}.csv").write_text(f"filename,label\nx.jpg,{label}\n")
    for path in here.rglob("*.*"):
        key = f"classes-{layout}/{path.relative_to(here).as_posix()}"
        s3.put_object(Bucket="data", Key=key, Body=path.read_bytes())
    settings = {"split_by": "class", "image_size": 8}
    remote = S3(tmp_path / "copies", cache_bytes=CACHE)
    local = prepared(f"imagefolder:{here}", tmp_path / "local", **settings)
    far = prepared(
        f"imagefolder:s3://data/classes-{layout}", tmp_path / "far", remote=remote, **settings
    )
    assert far.class_splits == local.class_splits
    assert far.classes == local.classes
    if layout == "tables":
        assert [far.classes[label] for label in far.class_splits.train] == ["bee"]
    for name in ("train", "valid", "test"):
        one, other = (
            next(getattr(load(tmp_path / where / "dataset", CPU), name).pixel_batches(64))
            for where in ("local", "far")
        )
        assert torch.equal(one, other)


def test_what_is_here_already_is_not_fetched(
    prefix: str, relay: Relay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = S3(tmp_path, cache_bytes=CACHE).folder(prefix)
    entries = sorted(files.entries())
    content = [files.open(entry).read() for entry in entries]
    relay.mode = "errors"
    again = S3(tmp_path, cache_bytes=CACHE).folder(prefix)
    assert [again.open(entry).read() for entry in entries] == content
    # A copy that was cut short when the machine went down does not count.
    for path in (tmp_path / "objects").rglob("*"):
        if path.is_file() and len(path.name) == 64:
            path.write_bytes(path.read_bytes()[:-1])
    relay.mode = "pass"
    assert [again.open(entry).read() for entry in entries] == content


def test_training_outlasts_errors(
    prefix: str, relay: Relay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Worker processes, no cache: each image is fetched while the server answers 503 for 4 s."""
    settings = {"image_size": 256, "memory_limit_mb": 1, "decoded_cache_mb": 0}
    remote = S3(tmp_path / "copies", cache_bytes=0)
    prepared(f"imagefolder:{prefix}", tmp_path, remote=remote, **settings)
    train = load(tmp_path / "dataset", CPU, remote).train
    config = TrainingConfig(batch_size=7, crop_padding=0)
    relay.mode = "errors"
    threading.Timer(4, setattr, (relay, "mode", "pass")).start()
    start = time.monotonic()
    batches = list(train.train_batches(config, torch.Generator().manual_seed(0)))
    assert 4 <= time.monotonic() - start < 25
    assert sum(len(y) for _, y in batches) == train.num_images
    assert relay.num_failed > 3


def test_decoded_images_need_no_server(prefix: str, relay: Relay, tmp_path: Path) -> None:
    """What is larger than memory is decoded once; children map it, whatever becomes of S3."""
    settings = {"image_size": 256, "memory_limit_mb": 1}
    remote = S3(tmp_path / "copies", cache_bytes=0)
    there = prepared(f"imagefolder:{prefix}", tmp_path, remote=remote, **settings)
    assert there.streamed
    relay.mode = "away"
    train = load(tmp_path / "dataset", CPU, S3(tmp_path / "other", cache_bytes=0)).train
    assert sum(len(x) for x in train.pixel_batches(8)) == train.num_images


def test_an_object_that_changes_while_training_is_reported(
    prefix: str, s3: Any, tree: Path, tmp_path: Path
) -> None:
    settings = {"image_size": 256, "memory_limit_mb": 1, "decoded_cache_mb": 0}
    remote = S3(tmp_path / "copies", cache_bytes=0)
    prepared(f"imagefolder:{prefix}", tmp_path, remote=remote, **settings)
    name = prefix.rpartition("/")[2]
    for number in range(10):
        size = (tree / "ant" / f"{number}.png").stat().st_size
        s3.put_object(Bucket="data", Key=f"{name}/ant/{number}.png", Body=bytes(size))
    train = load(tmp_path / "dataset", CPU, remote).train
    found = message(list, train.eval_batches(4))  # from a worker process, with its problems
    assert found.startswith(f"data.source = {prefix}/ant/")
    assert "has changed while it was read; let it rest" in found


def test_a_changed_object_is_reported_by_prepare(prefix: str, s3: Any, tmp_path: Path) -> None:
    files = S3(tmp_path, cache_bytes=CACHE).folder(prefix)
    entry = next(files.entries())
    s3.put_object(Bucket="data", Key=f"{prefix[10:]}/{entry.name}", Body=b"new")
    assert "has changed while it was read" in message(files.open, entry)
    s3.delete_object(Bucket="data", Key=f"{prefix[10:]}/{entry.name}")
    assert "there is no such object" in message(files.open, entry)


def test_damaged_image_and_empty_prefix(prefix: str, s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="data", Key=f"{prefix[10:]}/ant/5.png", Body=b"text")
    s3.put_object(Bucket="data", Key=f"{prefix[10:]}/empty/", Body=b"")
    remote = S3(tmp_path, cache_bytes=CACHE)
    found = message(prepared, f"imagefolder:{prefix}", tmp_path, remote=remote)
    assert "cannot read ant/5.png" in found
    assert "class folder empty has no image" in found
    found = message(prepared, "imagefolder:s3://data/nothing", tmp_path, remote=remote)
    assert "there is no object below it" in found


def test_a_hostile_archive_writes_nothing_and_runs_nothing(s3: Any, tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archived:
        archived.writestr("../../escaped.npy", b"x")
        archived.writestr("x_train.npy", _pickled())
    s3.put_object(Bucket="data", Key="hostile.npz", Body=file.getvalue())
    remote = S3(tmp_path / "in" / "copies", cache_bytes=CACHE)
    found = message(prepared, "npz:s3://data/hostile.npz", tmp_path / "out", remote=remote)
    assert "holds Python objects, which can run code" in found
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "copies", "file.npz", "file.json"}


def _pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    return file.getvalue()


# --- steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_limit_mb", [1, 4096])
def test_steps_share_copies_and_leave_no_useless_ones(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_limit_mb: int
) -> None:
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NAS_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("NAS_PROGRESS_FILE", str(tmp_path / "progress.jsonl"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    data = DataConfig(
        source=f"imagefolder:{prefix}",
        image_size=256,
        memory_limit_mb=memory_limit_mb,
        decoded_cache_mb=0,
    )
    config = Config(data=data, tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))
    prepare_data.run(
        config=dumps(config),
        compiled=Compiled(searches=True),
        parameters={},
        job_name="",
        dataset=tmp_path / "dataset",
    )
    spooled = "".join(path.read_text() for path in (tmp_path / "spool").rglob("*.jsonl"))
    assert "nas.source_sha256" in spooled
    assert SECRET_KEY not in spooled + (tmp_path / "progress.jsonl").read_text()
    copies = list((tmp_path / "state" / "s3").rglob("*/??/*"))
    assert len(copies) == (30 if memory_limit_mb == 1 else 0)
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # all that is needed is here
    inputs = StepInputs(
        config=config,
        dataset=tmp_path / "dataset",
        controller=tmp_path / "controller",
        state=tmp_path / "state",
        run_key="key",
    )
    task = build_context(inputs)
    assert sum(len(y) for _, y in task.splits.valid.eval_batches(8)) == 3
