"""A search within a budget resumes bit for bit; other checkpoints are refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from nasib_tasks import SPACE, are_equal, kept, make_task, run

from nascore import checkpoint
from nascore.config import BudgetConfig
from nascore.data.batches import Splits
from nascore.errors import InputError, WeightsDivergedError
from nascore.genotype import Genotype
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.nasib.random_control import RandomControl
from nascore.methods.nasib.search import BudgetSearch
from nascore.spaces.base import check
from nascore.spaces.superkernel.space import SuperkernelSpace

KILLED = Path(__file__).parents[3] / "support" / "killed_nasib.py"
# Each after the one before it.
KILLS = ["w0", "s3", "d0", "w5", "d3", "s6", "w15", "d14", "w27", "d26"]
TERMS = ["t0", "t1", "t2", "t5", "t9", "t13", "t17", "t22", "t26", "t29"]


def test_the_same_seed_gives_the_same_search_and_another_another(
    tmp_path: Path, digits: Splits
) -> None:
    one, same, other = (
        run(tmp_path / name, digits, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert are_equal(kept(one), kept(same))
    assert one.history.rows == same.history.rows
    assert not are_equal(kept(one), kept(other))


@pytest.mark.parametrize("arm", [BudgetSearch, RandomControl])
def test_a_search_in_two_parts_is_the_search(
    tmp_path: Path, digits: Splits, arm: type[BudgetSearch]
) -> None:
    whole, first = (arm(make_task(tmp_path / name, digits), "x") for name in ("whole", "parts"))
    whole.run()
    first.run(until=0.45)
    assert 0 < first.step < whole.step
    second = arm(first.context, "x")
    second.run()
    assert are_equal(kept(second), kept(whole))
    assert second.history.rows == whole.history.rows
    assert second.genotype() == whole.genotype()


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [KILLS, TERMS], ids=["kill", "term"])
def test_it_goes_on_where_it_was_killed(
    tmp_path: Path, digits_folder: Path, deaths: list[str]
) -> None:
    """An architecture is found on the disk after each end, and in the end there is the same."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, given in ((whole, []), (parts, deaths)):
        folder.mkdir()
        command = [sys.executable, str(KILLED), str(folder), str(digits_folder), *given]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        lines = done.stdout.splitlines()
        statuses, found = lines[::2], lines[1::2]
        died = -9 if given == KILLS else 0
        assert statuses == [str(died)] * len(given) + ["0"], done.stderr
        assert len(given) == (0 if folder == whole else 10)
        for genotype in found:
            check(SuperkernelSpace(SPACE), Genotype.from_dict(json.loads(genotype)))
    outcomes = [json.loads((at / "outcome.json").read_text()) for at in (whole, parts)]
    assert outcomes[0] == outcomes[1]
    for arm in ("method", "control"):
        files = [
            checkpoint.load(at / "state" / f"{arm}.ckpt", f"nasib-{arm}") for at in (whole, parts)
        ]
        assert are_equal(files[0][0], files[1][0])
        assert files[0][1]["history"] == files[1][1]["history"]


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path, digits: Splits) -> None:
    run(tmp_path, digits, budget=BudgetConfig(steps=2))
    with pytest.raises(InputError, match="other settings"):
        run(tmp_path, digits, budget=BudgetConfig(steps=3))
    checkpoint_path(tmp_path / "state").write_bytes(b"damaged")
    with pytest.raises(InputError, match="delete it to start"):
        run(tmp_path, digits, budget=BudgetConfig(steps=2))


def test_weights_that_diverge_end_the_search(tmp_path: Path, digits: Splits) -> None:
    with pytest.raises(WeightsDivergedError, match=r"search\.options\.weights\.lr"):
        run(tmp_path, digits, weights={"batch_size": 32, "lr": 1e30})
