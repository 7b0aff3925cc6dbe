"""Searches with shared weights resume bit for bit; other checkpoints are refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shared_tasks import METHOD_NAMES, are_equal, kept, make_task, outcome, run
from torch import Tensor

from nascore import checkpoint
from nascore.errors import InputError
from nascore.methods.common import one_shot_loop
from nascore.methods.enas import method as enas
from nascore.methods.enas.checkpoint import KIND
from nascore.methods.enas.shared_search import SharedSearch
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig

KILLED = Path(__file__).parents[3] / "support" / "killed_search.py"


class Killed(BaseException):
    """As good as kill -9: nothing is caught, nothing is written."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies in the middle of a weight step, after the gradient and before the update."""
    real = SharedSearch._train_weights

    def dying(self: SharedSearch, *given: Any) -> Tensor:
        if self._step == step:
            monkeypatch.setattr(self._weights._sgd, "step", die)
        return real(self, *given)

    monkeypatch.setattr(SharedSearch, "_train_weights", dying)


def die() -> None:
    raise Killed


# Deaths in steps, and in the writing of the first or second checkpoint of a process.
DEATHS = ("0", "3", "15", "s1", "16", "17", "31", "s2", "50", "64", "79", "95")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_killed_again_and_again_it_goes_on_bit_for_bit(
    tmp_path: Path, digits_folder: Path, method: str
) -> None:
    """Real processes, which get SIGKILL."""

    def work(folder: Path, *deaths: str) -> list[str]:
        command = [sys.executable, str(KILLED), method, str(folder), str(digits_folder), *deaths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert work(whole) == ["0"]
    assert work(parts, *DEATHS) == [*["-9"] * len(DEATHS), "0"]
    assert (parts / "outcome.json").read_text() == (whole / "outcome.json").read_text()
    for arm in ("method", "control"):
        tensors = [checkpoint.load(at / f"{arm}.ckpt", KIND)[0] for at in (whole, parts)]
        assert are_equal(*tensors)


def test_a_finished_search_does_nothing_again(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path, digits_folder)
    expected = outcome(run(task))

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(SharedSearch, "_train_weights", never)
    monkeypatch.setattr("nascore.training.child.ImageTraining.train", never)
    assert outcome(enas.search(task)) == expected


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path, digits_folder: Path) -> None:
    run(make_task(tmp_path, digits_folder))
    with pytest.raises(InputError, match="of a search with other settings"):
        enas.search(make_task(tmp_path, digits_folder, seed=1))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "another kind"])
def test_a_damaged_checkpoint_is_never_loaded(
    tmp_path: Path, digits_folder: Path, damage: str
) -> None:
    task = make_task(tmp_path, digits_folder)
    run(task)
    path = tmp_path / "method.ckpt"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    else:
        checkpoint.save(path, {}, {}, "something else")
    with pytest.raises(InputError, match="delete it to start"):
        enas.search(task)


@pytest.mark.slow
def test_it_searches_the_micro_space_and_goes_on_where_it_was_killed(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot_loop, "CHECKPOINT_EVERY_S", 0.0)
    micro = EnasMicroSpaceConfig(num_blocks=2, search_channels=4, final_channels=4)
    whole, parts = (
        make_task(tmp_path / name, digits_folder, space=micro, control=False)
        for name in ("whole", "parts")
    )
    expected = run(whole)
    enas.pretrain(parts)
    with monkeypatch.context() as patched:
        kill_at(20, patched)
        with pytest.raises(Killed):
            enas.search(parts)
    assert outcome(enas.search(parts)) == outcome(expected)
    assert expected.genotype.space == "enas-micro-2"
    assert are_equal(kept(parts), kept(whole))
