"""S3 against a real server, directly and through a relay that fails on demand."""

import io
import logging
import pickle
import shutil
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from s3 import ACCESS_KEY, SECRET_KEY, Relay, S3Server

from components.config.schema import Config, dumps
from components.config.settings import TrackingConfig
from components.object_store.client import Store
from components.object_store.downloads import download
from components.object_store.objects import StoredObject, list_objects, look, read_object
from components.object_store.remote import S3, ListingDigest
from components.object_store.writing import ObjectExists, put_if_absent, upload
from components.steps import prepare_data
from components.steps.context_builder import StepInputs, build_context
from nascore.config import DataConfig, TrainingConfig
from nascore.data.batches import load
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError

CPU = torch.device("cpu")
CACHE = 50 * 2**20


pytestmark = pytest.mark.usefixtures("aws_account")


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    s3_server.client().create_bucket(Bucket="data")
    return s3_server


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A plain client to put things with; the code under test finds the server as well."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return server.client()


@pytest.fixture
def relay(server: S3Server, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    between = Relay(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
    yield between
    between.mode = "away"
    between.close()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten images each."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cow & calf"):
        (root / name).mkdir()
        for number in range(10):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def prefix(s3: Any, tree: Path, request: pytest.FixtureRequest) -> str:
    """The images in a place of each test's own."""
    name = request.node.name.partition("[")[0]
    for path in tree.rglob("*.png"):
        key = f"{name}/{path.relative_to(tree).as_posix()}"
        s3.put_object(Bucket="data", Key=key, Body=path.read_bytes(), ChecksumAlgorithm="SHA256")
    return f"s3://data/{name}"


def archive(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def digits(count: int = 40) -> bytes:
    x = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return archive(x_train=x, y_train=np.arange(count) % 2)


def prepared(
    source: str, folder: Path, *, remote: S3 | None = None, **settings: Any
) -> DatasetInfo:
    config = DataConfig(source=source, **settings)
    return prepare(config, 0, folder / "dataset", remote=remote)


def message(function: Any, *arguments: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **settings)
    assert SECRET_KEY not in str(caught.value)
    return str(caught.value)


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


# --- listings -------------------------------------------------------------------------------


def digest_of(objects: Iterable[StoredObject]) -> str:
    digest = ListingDigest()
    for item in objects:
        digest.add(item)
    return digest.hexdigest()


def listed(number: int) -> StoredObject:
    return StoredObject(f"images/{number:08d}.png", number, f"{number:032x}")


class Pages:
    """Answers of a server with 100,000 objects; a real one of this size would take minutes."""

    def list_objects_v2(self, **arguments: Any) -> dict[str, Any]:
        start = int(arguments.get("ContinuationToken", 0))
        return {
            "Contents": [
                {
                    "Key": f"images/{n:08d}.png",
                    "Size": n,
                    "ETag": f'"{n:032x}"',
                    "LastModified": datetime.fromtimestamp(n, UTC),
                }
                for n in range(start, start + 1000)
            ],
            "IsTruncated": start < 99_000,
            "NextContinuationToken": str(start + 1000),
        }


def test_100000_objects_in_constant_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "client", Pages())
    tracemalloc.start()
    try:
        digest, count = ListingDigest(), 0
        for item in list_objects("s3://data/images/", store=Store()):
            digest.add(item)
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert digest.hexdigest() == digest_of(listed(n) for n in range(count))
    assert peak < 3 * 2**20


def test_pages_of_a_real_server(s3: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = [f"many/{number:05d}" for number in range(2100)]
        list(pool.map(lambda key: s3.put_object(Bucket="data", Key=key, Body=key.encode()), keys))
    found = list(list_objects("s3://data/many/", store=Store()))
    assert [item.key for item in found] == keys
    before = digest_of(found)
    s3.put_object(Bucket="data", Key=keys[7], Body=b"xxxx/00007")
    assert digest_of(list_objects("s3://data/many/", store=Store())) != before


def test_names_cannot_be_mistaken_for_each_other() -> None:
    one = [StoredObject("a", 1, "e"), StoredObject("b", 2, "f")]
    assert digest_of(one) != digest_of(reversed(one))
    assert digest_of([StoredObject("a1:e", 1, "")]) != digest_of([StoredObject("a", 1, ":e")])


# --- files there and back -------------------------------------------------------------------


def test_large_file_there_and_back(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(np.random.default_rng(0).bytes(20 * 2**20))
    digest = upload(tmp_path / "a", "s3://data/large")
    download("s3://data/large", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert look("s3://data/large", store=Store())["Metadata"]["nas-sha256"] == digest
    assert "-3" in look("s3://data/large", store=Store())["ETag"]  # in parts


@pytest.mark.parametrize("num_bytes", [10, 17 * 2**20])
def test_first_writer_wins(s3: Any, tmp_path: Path, num_bytes: int) -> None:
    uri = f"s3://data/first-{num_bytes}"
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() * num_bytes)
    upload(tmp_path / "a", uri, if_absent=True)
    with pytest.raises(ObjectExists):
        upload(tmp_path / "b", uri, if_absent=True)
    download(uri, tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()
    upload(tmp_path / "b", uri)
    with pytest.raises(FileExistsError):
        put_if_absent(b"c", uri)


def test_one_of_many_writers_wins(s3: Any) -> None:
    def write(number: int) -> bool:
        try:
            put_if_absent(b"the same", "s3://data/lock")
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1


def test_a_write_whose_answer_was_lost_is_ours(relay: Relay) -> None:
    relay.mode = "cut answer"
    put_if_absent(b"mine", "s3://data/lost")
    assert relay.num_failed == 1
    with pytest.raises(ObjectExists):
        put_if_absent(b"mine", "s3://data/lost")


def test_another_content_than_stored_is_refused(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="data", Key="x", Body=b"b", Metadata={"nas-sha256": "0" * 64})
    assert "does not have the checksum" in message(download, "s3://data/x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC32"])
def test_large_object_that_is_damaged_on_the_way(
    s3: Any, relay: Relay, tmp_path: Path, algorithm: str
) -> None:
    s3.put_object(Bucket="data", Key="y", Body=bytes(9 * 2**20), ChecksumAlgorithm=algorithm)
    download("s3://data/y", tmp_path / "y")
    relay.mode = "corrupt"
    assert "does not have the checksum" in message(download, "s3://data/y", tmp_path / "z")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


@pytest.mark.parametrize("num_parts", [0, 2])
def test_large_object_that_changes_on_the_way(
    s3: Any, relay: Relay, tmp_path: Path, num_parts: int
) -> None:
    """Between the first look and the parts, and between the parts."""
    s3.put_object(Bucket="data", Key="z", Body=bytes(17 * 2**20))
    seen = []

    def watch(head: bytes) -> None:
        seen.extend([head] * head.startswith(b"GET"))
        if len(seen) == num_parts + 1 and head is seen[-1]:
            s3.put_object(Bucket="data", Key="z", Body=b"x" * 17 * 2**20)

    relay.on_request = watch
    assert "has changed while it was read" in message(download, "s3://data/z", tmp_path / "z")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "said"), [("corrupt", "does not have the checksum"), ("cut", "does not answer as it")]
)
def test_damage_on_the_way(prefix: str, relay: Relay, mode: str, said: str) -> None:
    store = Store(retry_timeout_s=6)  # one answer can take more than two seconds on a busy machine
    item = next(list_objects(f"{prefix}/", store=store))
    uri = f"s3://data/{item.key}"
    relay.mode = mode
    assert said in message(read_object, uri, item.version, store=store)
    assert relay.num_failed > 1
    relay.mode = "pass"
    assert len(read_object(uri, item.version, store=store)) == item.size


# --- what is refused ------------------------------------------------------------------------


def test_no_such_bucket_and_key(s3: Any, tmp_path: Path) -> None:
    for source, said in (
        ("npz:s3://missing/a.npz", "no such bucket"),
        ("npz:s3://data/missing.npz", "no such object"),
        ("imagefolder:s3://missing/a", "no such bucket"),
    ):
        remote = S3(tmp_path, cache_bytes=CACHE)
        found = message(prepared, source, tmp_path, remote=remote)
        assert found.startswith("data.source = s3://")
        assert said in found


@pytest.mark.parametrize(
    ("key", "secret", "said"),
    [
        (ACCESS_KEY, "wrong", "the secret key is wrong"),
        ("unknown", "wrong", "does not know the access key"),
        ("stranger", SECRET_KEY, "may not be read or written with these credentials"),
        ("", "", "no complete credentials were found"),
    ],
    ids=["wrong secret", "unknown key", "no rights", "none"],  # a secret is another one each time
)
def test_wrong_credentials(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, secret: str, said: str
) -> None:
    s3.put_object(Bucket="data", Key="a/secret.npz", Body=digits())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    for source in ("npz:s3://data/a/secret.npz", "imagefolder:s3://data/a"):
        remote = S3(tmp_path, cache_bytes=CACHE)
        assert said in message(prepared, source, tmp_path, remote=remote)


@pytest.mark.parametrize("mode", ["away", "hang", "errors"])
def test_unreachable_server_is_reported_within_15_s(
    relay: Relay, tmp_path: Path, mode: str
) -> None:
    relay.mode = mode
    start = time.monotonic()
    remote = S3(tmp_path, cache_bytes=CACHE)
    found = message(prepared, "npz:s3://data/a.npz", tmp_path, remote=remote)
    assert "the server does not answer as it should" in found
    assert "AWS_ENDPOINT_URL" in found
    assert time.monotonic() - start < 15


def test_patience_ends(prefix: str, relay: Relay) -> None:
    store = Store(retry_timeout_s=2)
    item = next(list_objects(f"{prefix}/", store=store))
    relay.mode = "away"
    start = time.monotonic()
    found = message(read_object, f"s3://data/{item.key}", item.version, store=store)
    assert "does not answer as it should for 2 s" in found
    assert 2 < time.monotonic() - start < 12


def test_a_password_in_an_address_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="components")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET_KEY}@127.0.0.1:9")
    message(download, "s3://data/x", tmp_path / "x")
    assert SECRET_KEY not in caplog.text
    found = message(prepared, f"npz:s3://user:{SECRET_KEY}@data/a.npz", tmp_path)
    assert "holds a user name or a password" in found
    assert "s3://***@data/a.npz" in found
    assert "holds a user" in message(download, f"s3://user:{SECRET_KEY}@data/x", tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_key_that_is_no_npz(s3: Any, tmp_path: Path, content: bytes) -> None:
    s3.put_object(Bucket="data", Key="bad.npz", Body=content)
    remote = S3(tmp_path, cache_bytes=CACHE)
    found = message(prepared, "npz:s3://data/bad.npz", tmp_path, remote=remote)
    assert found.startswith("data.source = npz:s3://data/bad.npz: ")


def test_a_store_goes_to_other_processes(s3: Any) -> None:
    s3.put_object(Bucket="data", Key="p", Body=b"p")
    store = Store(trusted=True)
    look("s3://data/p", store=store)
    assert look("s3://data/p", store=pickle.loads(pickle.dumps(store)))["ContentLength"] == 1


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
        overrides="",
        job_name="",
        searches=True,
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
