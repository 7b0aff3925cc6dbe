"""Checkpoints come back whole or not at all."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from nascore import checkpoint
from nascore.errors import CheckpointError

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "steps": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "empty": torch.empty(0),
}
META = {"genotype": [1, 2], "accuracy": 0.5, "name": "größe"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    checkpoint.save(path, TENSORS, META, "test")
    return path


def test_everything_comes_back(path: Path) -> None:
    tensors, meta = checkpoint.load(path, "test")
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_damage_in_any_byte_is_found(path: Path) -> None:
    """Every byte of the first 300 in two ways, every 29th of the rest."""
    whole = path.read_bytes()
    head = 300
    for position in [*range(head), *range(head, len(whole), 29), len(whole) - 1]:
        for damage in (0x01, 0x20):  # 0x20 turns a letter into its capital, a blank into a zero
            broken = bytearray(whole)
            broken[position] ^= damage
            path.write_bytes(broken)
            with pytest.raises(CheckpointError, match="damaged"):
                checkpoint.load(path, "test")


@pytest.mark.parametrize("length", [0, 1, 64, 65, 100, -1])
def test_truncation_is_found(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path, "test")


def test_appended_bytes_are_found(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path, "test")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(CheckpointError, match=str(path)):
            checkpoint.load(path, "test")


def test_another_kind_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'test' version 2, expected 'other' version 2"):
        checkpoint.load(path, "other")


def test_another_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 3)
    with pytest.raises(CheckpointError, match="version 2, expected 'test' version 3"):
        checkpoint.load(path, "test")


class Trap:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("trapped",)


def _forged(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def test_a_pickle_is_not_run_even_when_its_hash_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"kind": "test", "tensors": Trap()}, tmp_path / "trap")
    for content in ((tmp_path / "trap").read_bytes(), pickle.dumps(Trap(), protocol=2)):
        path = tmp_path / "forged.pt"
        path.write_bytes(_forged(content))
        with pytest.raises(CheckpointError, match="is no checkpoint"):
            checkpoint.load(path, "test")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("content", [[], "text", {}, {"kind": "test"}])
def test_a_foreign_content_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "foreign.pt"
    torch.save(content, path)
    for whole in (path.read_bytes(), b"", b"text", b'{"kind": "test", "version": 1}\nPK'):
        path.write_bytes(_forged(whole))
        with pytest.raises(CheckpointError):
            checkpoint.load(path, "test")


def test_scalars_of_numpy_are_metadata_too(path: Path) -> None:
    checkpoint.save(path, {}, {"accuracy": np.float64(0.25)}, "test")
    assert checkpoint.load(path, "test")[1] == {"accuracy": 0.25}


def test_a_failed_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            checkpoint.save(path, {}, {}, "test")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_new_file_replaces_the_old_one(path: Path) -> None:
    checkpoint.save(path, {"only": torch.zeros(1)}, {}, "test")
    tensors, meta = checkpoint.load(path, "test")
    assert tensors.keys() == {"only"}
    assert meta == {}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
