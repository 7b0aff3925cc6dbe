"""Image folders in archives: the same data as unpacked, and nothing that can harm us."""

import contextlib
import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_trees import content, names, write

from nascore.config import DataConfig
from nascore.data import file_access
from nascore.data.archives import is_archive_name
from nascore.data.batches import load
from nascore.data.findings import Finding
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError

KINDS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]


def pack(folder: Path, path: Path, *, prefix: str = "") -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, f"{prefix}{file.relative_to(folder)}")
        return path
    mode = {".tgz": "w:gz", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w:")
    with tarfile.open(path, mode) as archive:
        for file in files:
            archive.add(file, f"{prefix}{file.relative_to(folder)}")
    return path


def prepared(source: Path, out: Path, **settings: Any) -> DatasetInfo:
    return prepare(DataConfig(source=f"imagefolder:{source}", **settings), 0, out)


def refusal(source: Path, tmp_path: Path, **settings: Any) -> Finding:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        prepared(source, tmp_path / "out", **settings)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
    problem = caught.value.problems[0]
    assert isinstance(problem, Finding)
    return problem


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = write(tmp_path / "tree", names("train"))
    write(root, names("test", count=2), first=100)
    return root


# --- what is read -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "photos/", "./", "x/x/"])
def test_an_archive_is_the_same_data_as_its_folder(
    tree: Path, tmp_path: Path, kind: str, prefix: str
) -> None:
    archive = pack(tree, tmp_path / f"photos{kind}", prefix=prefix)
    here = prepared(tree, tmp_path / "a")
    there = prepared(archive, tmp_path / "b")
    assert there.data_sha256 == here.data_sha256
    assert there.split_sha256 == here.split_sha256
    assert (tmp_path / "b" / "images.npy").read_bytes() == (
        tmp_path / "a" / "images.npy"
    ).read_bytes()


@pytest.mark.parametrize("kind", [".zip", ".tar"])
def test_an_archive_can_be_streamed(tree: Path, tmp_path: Path, kind: str) -> None:
    archive = pack(tree, tmp_path / f"photos{kind}")
    settings = {"image_size": 256, "memory_limit_mb": 1, "decoded_cache_mb": 0}
    here = prepared(tree, tmp_path / "a", **settings)
    there = prepared(archive, tmp_path / "b", **settings)
    assert (there.streamed, there.root) == (True, str(archive))
    assert there.data_sha256 == here.data_sha256
    one, other = (load(tmp_path / name, torch.device("cpu")).train for name in "ab")
    for expected, found in zip(one.pixel_batches(4), other.pixel_batches(4), strict=True):
        assert torch.equal(expected, found)


def test_a_compressed_tar_cannot_be_streamed(tree: Path, tmp_path: Path) -> None:
    archive = pack(tree, tmp_path / "photos.tar.gz")
    reported = refusal(archive, tmp_path, image_size=256, memory_limit_mb=1)
    assert (
        "a compressed tar cannot be read image by image; write it as .zip or .tar"
        in reported.message
    )


def test_names_that_other_systems_write(tmp_path: Path) -> None:
    """Backslashes of Windows, and UTF-8 that is not said to be UTF-8."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names(classes=("käse", "brot"))):
            info = zipfile.ZipInfo("x")
            info.filename = name.replace("/", "\\")
            archive.writestr(info, content(number))
    raw = path.read_bytes()
    # Without the flag that says UTF-8, in the local headers and in the directory.
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = raw.find(mark)
        while start >= 0:
            flags = int.from_bytes(raw[start + place : start + place + 2], "little") & ~0x800
            raw = raw[: start + place] + flags.to_bytes(2, "little") + raw[start + place + 2 :]
            start = raw.find(mark, start + 4)
    path.write_bytes(raw)
    assert prepared(path, tmp_path / "out").classes == ("brot", "käse")


def test_names_of_archives() -> None:
    assert all(is_archive_name(f"a/B{kind.upper()}") for kind in KINDS)
    assert not is_archive_name("photos.npz")


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../out.png", "/etc/x.png", "a/../../x.png", "..\\x.png", "C:\\x.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_would_leave_their_folder(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"evil.{kind}"
    members = [*names(), *[name.replace("x.", f"x{n}.").replace("out.", f"o{n}.") for n in "1234"]]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for number, member in enumerate(members):
                info = zipfile.ZipInfo("x")
                info.filename = member
                archive.writestr(info, content(number))
    else:
        with tarfile.open(path, "w") as archive:
            for number, member in enumerate(members):
                tar_info = tarfile.TarInfo(member)
                tar_info.size = len(content(number))
                archive.addfile(tar_info, io.BytesIO(content(number)))
    reported = refusal(path, tmp_path)
    assert (reported.kind, reported.count, len(reported.examples)) == ("unsafe-archive", 4, 3)
    assert reported.message.startswith("has 4 members that would leave its folder or are links: ")
    assert "and 1 other; write the archive from the files themselves" in reported.message


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes, mode: str) -> None:
    path = tmp_path / ("evil.tar" if mode == "w:" else "evil.tar.gz")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("ant/link.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    reported = refusal(path, tmp_path)
    assert reported.kind == "unsafe-archive"
    what = "is no ordinary file" if kind == tarfile.FIFOTYPE else "is a link"
    assert f"would leave its folder or are links: ant/link.png ({what})" in reported.message


def test_links_and_passwords_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("ant/link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert refusal(path, tmp_path).examples == ("ant/link.png",)
    raw = bytearray(pack(write(tmp_path / "t", names()), path).read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    assert refusal(path, tmp_path).examples == ("ant/0.png",)


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.xz"])
def test_a_file_that_unpacks_to_too_much(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write(tmp_path / "tree", names())
    (tree / "ant" / "bomb.png").write_bytes(bytes(3 * 2**20))
    archive = pack(tree, tmp_path / f"bomb{kind}")
    with monkeypatch.context() as patch:
        patch.setattr(file_access, "MAX_FILE_BYTES", 2**20)
        reported = refusal(archive, tmp_path)
    assert (reported.kind, reported.examples) == ("too-large", ("ant/bomb.png",))
    reported = refusal(archive, tmp_path, max_unpacked_mb=1)
    assert reported.message.startswith("unpacks to more than data.max_unpacked_mb = 1 allows")


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    """Decompression ends at the size that was reported, whatever follows."""
    tree = write(tmp_path / "tree", names())
    (tree / "ant" / "bomb.png").write_bytes(bytes(2**20))
    path = pack(tree, tmp_path / "bomb.zip")
    raw = bytearray(path.read_bytes())
    start = raw.rindex(b"ant/bomb.png") - 46
    assert raw[start : start + 4] == b"PK\x01\x02"
    raw[start + 24 : start + 28] = (100).to_bytes(4, "little")
    path.write_bytes(raw)
    reported = refusal(path, tmp_path)
    assert reported.message.startswith(
        "cannot read ant/bomb.png (its checksum in the archive does not fit"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_damage_anywhere_is_one_message(tree: Path, tmp_path: Path, kind: str) -> None:
    path = pack(tree, tmp_path / f"photos{kind}")
    whole = path.read_bytes()
    last = len(whole) - (10_240 if kind == ".tar" else 30)  # a tar is filled up with zeros
    for end in [0, 1, *range(512, last, 512 if kind == ".tar" else last // 40)]:
        path.write_bytes(whole[:end])
        assert refusal(path, tmp_path).kind == "archive", end
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 40).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(InputError):  # not every byte matters
            found = prepare(DataConfig(source=f"imagefolder:{path}"), 0, tmp_path / "out")
            assert found.num_images == 14


def test_the_checksum_of_a_compressed_tar_counts(tree: Path, tmp_path: Path) -> None:
    """tarfile does not look at it; a changed pixel would be taken for the real one."""
    path = pack(tree, tmp_path / "photos.tar.gz")
    whole = path.read_bytes()
    changed = bytearray(gzip.decompress(whole))
    changed[changed.index(b"IDAT") + 20] ^= 1
    path.write_bytes(gzip.compress(bytes(changed))[:-8] + whole[-8:])
    assert "CRC check failed" in refusal(path, tmp_path).message


def test_a_member_that_is_there_twice(tree: Path, tmp_path: Path) -> None:
    path = pack(tree, tmp_path / "photos.tar")
    with tarfile.open(path, "a") as archive:
        archive.add(tree / "test" / "ant" / "0.png", "train/ant/0.png")
    assert refusal(path, tmp_path).message.startswith("has 1 files twice: train/ant/0.png")


def test_other_archives_and_files(tmp_path: Path) -> None:
    for name, message in (
        ("photos.7z", "is an archive of a kind that cannot be read; unpack it"),
        ("photos.txt", "is a file; name a folder, or a .zip or .tar file of one"),
        ("photos.zip", "is neither a zip nor a tar file; write it again"),
    ):
        (tmp_path / name).write_bytes(b"no archive")
        assert refusal(tmp_path / name, tmp_path).message.startswith(message)


def test_an_archive_that_changes_while_it_is_read(tree: Path, tmp_path: Path) -> None:
    settings = {"image_size": 256, "memory_limit_mb": 1, "decoded_cache_mb": 0}
    archive = pack(tree, tmp_path / "photos.tar")
    prepared(archive, tmp_path / "out", **settings)
    write(tree, ["train/ant/0.png"], first=500)
    pack(tree, archive)
    train = load(tmp_path / "out", torch.device("cpu")).train
    with pytest.raises(InputError, match="has changed since it was listed"):
        list(train.pixel_batches(4))


class Bucket:
    """A remote place that has one archive; `nascore.data.file_access.Remote`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def file(self, uri: str) -> Path:
        assert uri == "s3://bucket/photos.zip"
        return self._path

    def folder(self, uri: str) -> Any:
        raise AssertionError("an archive is one object")


@pytest.mark.parametrize("memory_limit_mb", [1, 4096])
def test_an_archive_in_s3(tree: Path, tmp_path: Path, memory_limit_mb: int) -> None:
    settings = {"image_size": 256, "memory_limit_mb": memory_limit_mb, "decoded_cache_mb": 0}
    pack(tree, tmp_path / "file.zip").rename(tmp_path / "file.npz")  # the name of any copy
    remote = Bucket(tmp_path / "file.npz")
    config = DataConfig(source="imagefolder:s3://bucket/photos.zip", **settings)
    there = prepare(config, 0, tmp_path / "there", remote=remote)
    here = prepared(tree, tmp_path / "here", **settings)
    assert there.data_sha256 == here.data_sha256
    one = load(tmp_path / "here", torch.device("cpu")).train
    other = load(tmp_path / "there", torch.device("cpu"), remote).train
    for expected, found in zip(one.pixel_batches(4), other.pixel_batches(4), strict=True):
        assert torch.equal(expected, found)


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    write(tmp_path / "inner", names(count=5))
    (tmp_path / "outer").mkdir()
    pack(tmp_path / "inner", tmp_path / "outer" / "photos.zip")
    archive = pack(tmp_path / "outer", tmp_path / "outer.tar")
    assert "has no class folders with images, and holds photos.zip" in (
        refusal(archive, tmp_path).message
    )
