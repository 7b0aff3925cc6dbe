"""The loop on a real, tiny space with real training; and its resumption."""

import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from callbacks import CallbacksOf

from nascore.config import BudgetConfig, CostConfig, SearchConfig, TrainingConfig
from nascore.context import SearchContext
from nascore.data.batches import load
from nascore.errors import ChildFailedError
from nascore.methods.baselines.options import RandomOptions
from nascore.methods.registry import METHODS
from nascore.results import Child, ChildScores, SearchResult
from nascore.search import worker
from nascore.search.runner import SearchFailed
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.training.child import ChildJob, ImageTraining, build_network

SHAPE = ImageShape(1, 8, 10)
SPACE = ChainSpaceConfig(num_layers=2)


def random_task(folder: Path, data: Path, *, seed: int = 0, children: int = 4) -> SearchContext:
    child = TrainingConfig(epochs=1)
    return SearchContext(
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


def search(task: SearchContext) -> SearchResult:
    return METHODS[task.method].load().search(task)


def test_search_returns_its_best_child_with_a_control_of_equal_cost(
    tmp_path: Path, digits_folder: Path
) -> None:
    seen: list[tuple[str, Child]] = []
    task = dataclasses.replace(
        random_task(tmp_path, digits_folder),
        callbacks=CallbacksOf(on_child=lambda arm, child: seen.append((arm, child))),
    )
    result = search(task)
    assert result.control is not None
    assert len(result.arm.children) == len(result.control.children) == 4
    best = max(child.valid_accuracy or 0 for child in result.arm.children)
    assert result.valid_accuracy == best
    assert result.verdict is not None
    assert "whether this random search beats a second one" in str(result.verdict["statement"])
    assert sorted(arm for arm, _ in seen) == ["control"] * 4 + ["method"] * 4
    assert not {c.genotype for c in result.arm.children} & {
        c.genotype for c in result.control.children
    }, "the control shares nothing with the method, not even its random numbers"
    assert SearchResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_same_seed_same_search_in_a_new_process_other_seed_other(
    tmp_path: Path, digits_folder: Path
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from test_runner import outcome, random_task, search\n"
        "print(outcome(search(random_task(Path(sys.argv[1]), Path(sys.argv[2])))))\n"
    )
    path = [str(Path(__file__).parent), *sys.path]
    (tmp_path / "other").mkdir()
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other"), str(digits_folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
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
        task = dataclasses.replace(
            random_task(parts, digits_folder), callbacks=CallbacksOf(on_child=kill_after(count))
        )
        with pytest.raises(Killed):
            search(task)
    assert outcome(search(random_task(parts, digits_folder))) == expected


def test_failed_children_are_recorded_and_the_search_goes_on(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ImageTraining.train

    def second_fails(self: ImageTraining, task: SearchContext, job: ChildJob) -> ChildScores:
        if job.number == 1:
            raise ChildFailedError("loss is nan at step 0")
        return real(self, task, job)

    monkeypatch.setattr(ImageTraining, "train", second_fails)
    result = search(random_task(tmp_path, digits_folder))
    assert [child.failure for child in result.arm.children] == ["", "loss is nan at step 0", "", ""]


def test_epochs_and_children_are_logged_and_nothing_is_printed(
    tmp_path: Path,
    digits_folder: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = changed(random_task(tmp_path, digits_folder, children=2), control=False)
    with caplog.at_level(logging.INFO, "nascore"):
        result = search(task)
    messages = [record.getMessage() for record in caplog.records]
    epochs = [message for message in messages if re.match(r"epoch \d+ of \d+: train acc", message)]
    assert len(epochs) == 2 * task.child.epochs
    for child in result.arm.children:
        assert any(
            message.startswith(f"method child {child.number}: valid accuracy {child.score:.4f}")
            for message in messages
        )
    assert capsys.readouterr() == ("", "")


def test_a_search_without_a_finished_child_says_why(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> object:
        raise ChildFailedError("does not fit in memory")

    monkeypatch.setattr(ImageTraining, "train", fails)
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
        callbacks=CallbacksOf(
            on_child=lambda arm, child: children.append(child),
            should_stop=lambda: len(children) >= 2,
        ),
    )
    task = dataclasses.replace(task, search=task.search.model_copy(update={"control": False}))
    result = search(task)
    assert len(result.arm.children) == 2
    assert result.genotype in {child.genotype for child in children}


# --- budgets --------------------------------------------------------------------------------


def changed(task: SearchContext, **search: object) -> SearchContext:
    return dataclasses.replace(task, search=task.search.model_copy(update=search))


def test_a_budget_of_time_ends_in_time(tmp_path: Path, digits_folder: Path) -> None:
    """Within 2 % or one child's time, whichever is larger; both arms, side by side."""
    task = changed(random_task(tmp_path, digits_folder), budget=BudgetConfig(seconds=3))
    result = search(task)
    finished = [child for child in result.arm.children if child.scores is not None]
    assert len(finished) >= 3
    late = max(0.02 * 3, min(child.duration_s for child in finished))
    assert result.arm.seconds < 3 + late + 0.3  # opening the study is not training
    assert result.arm.seconds > 2


def test_a_child_under_way_at_the_end_of_the_time_is_cut_off(
    tmp_path: Path, digits_folder: Path
) -> None:
    """The first children are quick and the last would take minutes, which cannot be known."""
    task = random_task(tmp_path, digits_folder)
    task = changed(task, budget=BudgetConfig(seconds=2), control=False)
    real, slow = ImageTraining.train, TrainingConfig(epochs=10_000)

    def slower_and_slower(self: ImageTraining, task: SearchContext, job: ChildJob) -> ChildScores:
        child = slow if job.number == 2 else task.child
        return real(self, changed(task, child=child), job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageTraining, "train", slower_and_slower)
        result = search(task)
    assert result.arm.seconds < 2 * 1.02 + 0.5
    assert result.arm.children[-1].failure == "cut off: the budget seconds=2 was spent"
    assert result.genotype in {child.genotype for child in result.arm.children[:2]}


def test_steps_are_counted_over_children(tmp_path: Path, digits_folder: Path) -> None:
    task = random_task(tmp_path, digits_folder)
    steps = task.splits.train.steps_per_epoch(task.child)
    result = search(changed(task, budget=BudgetConfig(steps=3 * steps + 1)))
    assert len(result.arm.children) == 3
    assert sum(child.num_steps for child in result.arm.children) == 3 * steps


# --- cost as limit or objective -----------------------------------------------------------------


def test_what_is_over_the_limit_is_not_trained_and_not_paid(
    tmp_path: Path, digits_folder: Path
) -> None:
    task = changed(
        random_task(tmp_path, digits_folder), cost=CostConfig(metric="num_params", limit=4000)
    )
    result = search(task)
    for arm in (result.arm, result.control):
        assert arm is not None
        trained = [child for child in arm.children if not child.is_rejected]
        assert len(trained) == 4, "the budget"
        assert len(arm.children) > 4, "some were too large, or this shows nothing"
        for child in trained:
            assert child.scores is not None
            assert child.scores.cost is not None
            assert child.scores.cost <= 4000
        for child in arm.children:
            if child.is_rejected:
                assert child.num_steps == 0
                assert "num_params" in child.failure
                assert "> limit 4000" in child.failure
    final = build_network(task.space, result.genotype, SHAPE, seed=0, final=True)
    assert sum(p.numel() for p in final.parameters()) <= 4000


def test_a_limit_that_nothing_keeps_ends_the_search_with_a_message(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nascore.search.worker._MAX_REJECTED", 12)
    task = changed(random_task(tmp_path, digits_folder), cost=CostConfig(metric="macs", limit=1))
    with pytest.raises(SearchFailed, match="none of 12 children finished: not trained: macs"):
        search(task)


def test_a_target_makes_the_cost_a_second_objective(tmp_path: Path, digits_folder: Path) -> None:
    """A weight that leaves no doubt: the smallest network wins, and proposers see why."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = search(random_task(tmp_path / "a", digits_folder, children=6))
    cost = CostConfig(metric="num_params", target=1000, weight=1)
    weighed = search(changed(random_task(tmp_path / "b", digits_folder, children=6), cost=cost))
    assert [c.genotype for c in weighed.arm.children] == [c.genotype for c in plain.arm.children]

    def value(child: Child) -> float:
        assert child.scores is not None
        assert child.scores.cost is not None
        return child.scores.valid_accuracy * 1000 / child.scores.cost

    best = max(weighed.arm.children, key=value)
    assert weighed.genotype == best.genotype
    assert weighed.valid_accuracy == best.valid_accuracy
    assert weighed.cost_metric == "num_params"


def test_latency_is_measured_on_the_spot(tmp_path: Path, digits_folder: Path) -> None:
    cost = CostConfig(metric="latency_ms", target=1)
    result = search(changed(random_task(tmp_path, digits_folder, children=2), cost=cost))
    costs = [child.scores.cost for child in result.arm.children if child.scores]
    assert all(cost is not None and 0.01 < cost < 1000 for cost in costs)


def test_the_pareto_front_is_in_the_result(tmp_path: Path, digits_folder: Path) -> None:
    result = search(random_task(tmp_path, digits_folder, children=6))
    front = [child for child in result.arm.children if child.number in result.pareto]
    points = [(c.scores.num_params, c.scores.valid_accuracy) for c in front if c.scores]
    for child in result.arm.children:
        assert child.scores is not None
        here = (child.scores.num_params, child.scores.valid_accuracy)
        beaten = any(
            cost <= here[0] and accuracy >= here[1] and (cost, accuracy) != here
            for cost, accuracy in points
        )
        assert beaten == (child.number not in result.pareto)


# --- pruning, and children that kill their workers ------------------------------------------------


def test_hopeless_children_are_pruned_and_their_steps_are_paid(
    tmp_path: Path, digits_folder: Path
) -> None:
    task = random_task(tmp_path, digits_folder, children=12)
    child = TrainingConfig(epochs=6)
    result = search(changed(task, child=child, pruner="successive-halving", control=False))
    pruned = [child for child in result.arm.children if child.status == "pruned"]
    assert 2 <= len(pruned) < 12
    assert all("pruned after epoch" in child.failure for child in pruned)
    whole = 6 * task.splits.train.steps_per_epoch(child)
    assert all(0 < child.num_steps < whole for child in pruned)
    assert result.genotype not in {child.genotype for child in pruned}


def test_a_child_whose_workers_keep_dying_counts_as_failed(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ImageTraining.train

    class Killed(BaseException):
        pass

    def deadly(self: ImageTraining, task: SearchContext, job: ChildJob) -> ChildScores:
        if job.number == 1:
            raise Killed
        return real(self, task, job)

    monkeypatch.setattr(ImageTraining, "train", deadly)
    monkeypatch.setattr(worker, "MAX_TRIES", 2)
    task = changed(random_task(tmp_path, digits_folder), control=False)
    for _ in range(2):
        with pytest.raises(Killed):
            search(task)
    result = search(task)
    assert [child.number for child in result.arm.children] == [0, 1, 2, 3]
    assert result.arm.children[1].failure == "given up: 2 workers died while they trained it"
