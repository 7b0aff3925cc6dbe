"""A search of InstaNAS within its budget resumes bit for bit; other checkpoints are refused."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from callbacks import CallbacksOf
from instanas_tasks import are_equal, make_task, run

from nascore import checkpoint
from nascore.config import BudgetConfig
from nascore.errors import InputError, WeightsDivergedError
from nascore.methods.instanas import costs, method
from nascore.methods.instanas.networks import load_graph, new_controller

KILLED = Path(__file__).parents[3] / "support" / "killed_instanas.py"


@pytest.mark.timing
def test_a_budget_of_seconds_holds(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path / "run", digits_folder, budget=BudgetConfig(seconds=6), control=False)
    method.pretrain(task)
    graph = load_graph(task)
    table = costs.load_table(task, graph, new_controller(task, graph))
    arm = method._arm(task, table, "method")
    arm.run()
    assert 5.9 < arm.seconds < 8
    assert [point.name for point in arm.points] == ["A", "B", "C"]


def test_a_search_that_is_told_to_stop_has_an_answer(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path / "run", digits_folder)
    method.pretrain(task)
    asked = iter([False] * 20)
    stopped = dataclasses.replace(
        task, callbacks=CallbacksOf(should_stop=lambda: next(asked, True))
    )
    result = method.search(stopped)
    assert result.verdict is None
    assert 0 < result.valid_accuracy <= 1
    assert method.search(task).verdict is not None  # and it can be gone on with


@pytest.mark.slow
def test_killed_again_and_again_it_goes_on_bit_for_bit(tmp_path: Path, digits_folder: Path) -> None:
    """Real processes, which get SIGKILL: in every kind of update, and while a file is written."""

    def work(folder: Path, *deaths: str) -> list[str]:
        command = [sys.executable, str(KILLED), str(folder), str(digits_folder), *deaths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    deaths = ("p3", "p1", "s1", "d0", "d4", "w0", "d7", "s2", "w9", "w15", "d22", "w29")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert work(whole) == ["0"]
    assert work(parts, *deaths) == [*["-9"] * len(deaths), "0"]
    assert (parts / "outcome.json").read_text() == (whole / "outcome.json").read_text()
    for name in ("method", "control"):
        kept = [
            checkpoint.load(at / f"{name}.ckpt", f"instanas-{name}")[0] for at in (whole, parts)
        ]
        assert are_equal(*kept)


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path, digits_folder: Path) -> None:
    run(make_task(tmp_path / "run", digits_folder, control=False))
    other = make_task(tmp_path / "run", digits_folder, control=False, seed=1)
    with pytest.raises(InputError, match="is of a search with other settings"):
        method.search(other)


def test_a_damaged_checkpoint_is_never_loaded(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path / "run", digits_folder, control=False)
    run(task)
    path = task.state / "method.ckpt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="damaged"):
        method.search(task)


def test_weights_that_diverge_are_told(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(
        tmp_path / "run", digits_folder, pretraining={"epochs": 2, "batch_size": 32, "lr": 1e30}
    )
    with pytest.raises(WeightsDivergedError, match=r"lower search.options.pretraining.lr=1e\+30"):
        method.pretrain(task)
