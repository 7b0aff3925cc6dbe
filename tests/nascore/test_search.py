"""The loop on a real, tiny space with real training; and its resumption."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nascore.child import build_network
from nascore.config import BudgetConfig, ChainSpaceConfig, SearchConfig, TrainingConfig
from nascore.data.batches import load
from nascore.errors import ChildFailed
from nascore.methods import METHODS
from nascore.methods.options import RandomOptions
from nascore.results import Child, SearchResult
from nascore.search import SearchFailed
from nascore.seeding import Seeds
from nascore.spaces import ImageShape, make_space
from nascore.task import Task

SHAPE = ImageShape(1, 8, 10)
SPACE = ChainSpaceConfig(num_layers=2)


def random_task(folder: Path, data: Path, *, seed: int = 0, children: int = 4) -> Task:
    child = TrainingConfig(epochs=1)
    return Task(
        method="random",
        seeds=Seeds(seed),
        space=make_space(SPACE),
        splits=load(data, torch.device("cpu")),
        shape=SHAPE,
        search=SearchConfig(space=SPACE, budget=BudgetConfig(children=children), child=child),
        final=TrainingConfig(epochs=1),
        options=RandomOptions(),
        controller=folder,
        state=folder,
        report=lambda metrics, step: None,
    )


def outcome(result: SearchResult) -> list[tuple[object, ...]]:
    """What must repeat: everything but the clock."""
    arms = [result.arm, result.control]
    return [
        (child.number, child.genotype, child.valid_accuracy, child.failure)
        for arm in arms
        if arm is not None
        for child in arm.children
    ]


def search(task: Task) -> SearchResult:
    return METHODS[task.method].load().search(task)


def test_search_returns_its_best_child_with_a_control_of_equal_cost(
    tmp_path: Path, digits_folder: Path
) -> None:
    seen: list[tuple[str, Child]] = []
    task = dataclasses.replace(
        random_task(tmp_path, digits_folder), on_child=lambda arm, child: seen.append((arm, child))
    )
    result = search(task)
    assert result.control is not None
    assert len(result.arm.children) == len(result.control.children) == 4
    best = max(child.valid_accuracy or 0 for child in result.arm.children)
    assert result.valid_accuracy == best
    assert result.verdict is not None
    assert sorted(arm for arm, _ in seen) == ["control"] * 4 + ["method"] * 4
    assert not {c.genotype for c in result.arm.children} & {
        c.genotype for c in result.control.children
    }, "the control shares nothing with the method, not even its random numbers"
    assert SearchResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_same_seed_same_search_in_a_new_process_other_seed_other(
    tmp_path: Path, digits_folder: Path
) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path\n"
        "from test_search import outcome, random_task, search\n"
        "print(outcome(search(random_task(Path(sys.argv[1]), Path(sys.argv[2])))))\n"
    )
    here = str(Path(__file__).parent)
    (tmp_path / "other").mkdir()
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other"), str(digits_folder), here],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = outcome(search(random_task(tmp_path / "a", digits_folder)))
    assert out.strip() == str(first)
    assert first != outcome(search(random_task(tmp_path / "b", digits_folder, seed=1)))


def test_a_search_that_was_killed_goes_on_exactly(tmp_path: Path, digits_folder: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = outcome(search(random_task(whole, digits_folder)))

    class Killed(BaseException):
        pass

    def kill_after(count: int) -> Callable[[str, Child], None]:
        left = [count]

        def on_child(arm: str, child: Child) -> None:
            left[0] -= 1
            if left[0] <= 0:  # in either arm: a process dies as a whole
                raise Killed

        return on_child

    for count in (1, 2, 3):
        task = dataclasses.replace(random_task(parts, digits_folder), on_child=kill_after(count))
        with pytest.raises(Killed):
            search(task)
    assert outcome(search(random_task(parts, digits_folder))) == expected


def test_failed_children_are_recorded_and_the_search_goes_on(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nascore import search as module

    real = module.train_child

    def second_fails(task: Task, genotype: object, **kwargs: object) -> object:
        if kwargs["number"] == 1:
            raise ChildFailed("loss is nan at step 0")
        return real(task, genotype, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_child", second_fails)
    result = search(random_task(tmp_path, digits_folder))
    assert [child.failure for child in result.arm.children] == ["", "loss is nan at step 0", "", ""]


def test_a_search_without_a_finished_child_says_why(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> object:
        raise ChildFailed("does not fit in memory")

    monkeypatch.setattr("nascore.search.train_child", fails)
    with pytest.raises(SearchFailed, match="none of 4 children finished: does not fit in memory"):
        search(random_task(tmp_path, digits_folder))


def test_children_share_no_tensor_with_each_other() -> None:
    space = make_space(SPACE)
    from nascore.genotype import Genotype

    genotype = Genotype(space.identifier, (0,) * 8)
    one, two = (build_network(space, genotype, SHAPE, seed=0) for _ in range(2))
    storages = [{p.untyped_storage().data_ptr() for p in net.parameters()} for net in (one, two)]
    assert not storages[0] & storages[1]
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b), "the same seed gives the same initial weights"


def test_told_to_stop_it_returns_what_it_has(tmp_path: Path, digits_folder: Path) -> None:
    children: list[Child] = []
    task = dataclasses.replace(
        random_task(tmp_path, digits_folder),
        on_child=lambda arm, child: children.append(child),
        should_stop=lambda: len(children) >= 2,
    )
    task = dataclasses.replace(task, search=task.search.model_copy(update={"control": False}))
    result = search(task)
    assert len(result.arm.children) == 2
    assert result.genotype in {child.genotype for child in children}
