"""Files of weights: what is read, and that no code in a file runs."""

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nascore import checkpoint
from nascore.errors import InputError
from nascore.files import sha256_of
from nascore.genotype import Genotype
from nascore.pretrained.weight_files import FINAL_MODEL, read_weight_file

GENOTYPE = Genotype("chain-2x4-v8", (1, 2))
NETWORK = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
STATE = NETWORK.state_dict()


class RunsCode:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


WRITERS: dict[str, Callable[[Path], object]] = {
    "state dict": lambda path: torch.save(STATE, path),
    "before torch 1.6": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "of DDP": lambda path: torch.save({f"module.{k}": v for k, v in STATE.items()}, path),
    "of a training script": lambda path: torch.save({"model": STATE, "epoch": 3}, path),
    "safetensors": lambda path: save_file(STATE, path),
    "exported model": lambda path: save_file(
        {f"network.{k}": v for k, v in STATE.items()} | {"scale_C11": torch.ones(1, 1, 1)}, path
    ),
    "final model": lambda path: checkpoint.save(
        path, STATE, {"genotype": GENOTYPE.to_dict(), "classes": ["a", "b"]}, FINAL_MODEL
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_weights_are_read_by_name_whatever_the_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    WRITERS[name](path)
    found = read_weight_file(path)
    assert {k: v.tolist() for k, v in found.tensors.items()} == {
        k: v.tolist() for k, v in STATE.items()
    }
    assert found.sha256 == sha256_of(path)
    is_own = name == "final model"
    assert (found.genotype, found.classes) == ((GENOTYPE, ("a", "b")) if is_own else (None, None))


def damage(path: Path) -> None:
    torch.save({"w": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:400])


def damage_own(path: Path) -> None:
    WRITERS["final model"](path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")


CODE = "is a pickle that contains code or objects"
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (
        lambda path: torch.save({"w": RunsCode(path.with_name("ran"))}, path),
        f"{CODE} (posix.system), and is not loaded",
    ),
    "code in the old format": (
        lambda path: torch.save(
            {"w": RunsCode(path.with_name("ran"))}, path, _use_new_zipfile_serialization=False
        ),
        f"{CODE} (posix.system)",
    ),
    "code, not by torch": (
        lambda path: path.write_bytes(pickle.dumps({"w": RunsCode(path.with_name("ran"))})),
        CODE,
    ),
    "arguments": (
        lambda path: torch.save({"model": STATE, "args": argparse.Namespace()}, path),
        f"{CODE} (argparse.Namespace)",
    ),
    "a network": (lambda path: torch.save(NETWORK, path), CODE),
    "a list": (lambda path: torch.save([torch.ones(2)], path), "contains a list, not tensors"),
    "nothing": (lambda path: torch.save({"epoch": 1}, path), "contains no tensors by name"),
    "text": (lambda path: path.write_text("a,b\n1\n"), "is damaged, or no file of weights; write"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged, or no file of weights"),
    "cut": (damage, "is damaged, or no file of weights"),
    "a folder": (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
    "missing": (lambda path: None, "cannot be read (No such file or directory)"),
    "cut safetensors": (
        lambda path: path.write_bytes(b"\x10" + b"\0" * 7 + b'{"w":'),
        "is damaged, or no file of safetensors",
    ),
    "changed": (damage_own, "is damaged: its content does not fit its SHA-256"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_in_one_message_and_run_no_code(name: str, tmp_path: Path) -> None:
    write, expected = REFUSED[name]
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(InputError) as raised:
        read_weight_file(path)
    (problem,) = raised.value.problems
    assert (problem.key, problem.value) == ("training.weights", str(path))
    assert expected in problem.message
    assert "weights_only" not in problem.message, "the advice of torch to run the code"
    assert not (tmp_path / "ran").exists()


def test_the_file_with_code_would_run_it(tmp_path: Path) -> None:
    """The test above is worth something."""
    REFUSED["code"][0](tmp_path / "weights.pt")
    torch.load(tmp_path / "weights.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_message_shows_no_secret(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        read_weight_file(tmp_path / "none", source="s3://key:hunter2@bucket/w.pt")
    assert "hunter2" not in str(raised.value)
