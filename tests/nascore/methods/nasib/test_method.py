"""NASIB as a method: what its steps hand on, and that the verdict compares like with like."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from callbacks import CallbacksOf
from nasib_tasks import SPACE, make_task

from nascore.config import BudgetConfig
from nascore.data.batches import Splits
from nascore.errors import InputError
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.nasib import method
from nascore.methods.nasib.search import BudgetSearch
from nascore.methods.registry import METHODS
from nascore.report.sections import sections_of
from nascore.results import SearchResult
from nascore.spaces.base import ImageShape, check
from nascore.spaces.superkernel.space import SuperkernelSpace


def test_search_verdict_and_model(tmp_path: Path, digits: Splits) -> None:
    notes: list[str] = []
    metrics: dict[str, float] = {}
    task = dataclasses.replace(
        make_task(tmp_path, digits, control=True, budget=BudgetConfig(steps=32)),
        callbacks=CallbacksOf(
            on_metrics=lambda told, step: metrics.update(told), on_message=notes.append
        ),
    )
    assert method.pretrain(task)["warmup_steps"] == 4
    result = method.search(task)
    assert SearchResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert result.control is not None
    assert result.control.method == METHODS["nasib"].control
    for arm in (result.arm, result.control):
        assert len(arm.children) == 5
        assert len({child.genotype for child in arm.children}) == 1, "trainings of one choice"
        assert len({child.valid_accuracy for child in arm.children}) > 1, "with other weights"
    assert result.genotype == result.arm.children[0].genotype
    accuracies = [child.valid_accuracy or 0 for child in result.arm.children]
    assert result.valid_accuracy == pytest.approx(sum(accuracies) / 5)
    assert result.verdict is not None
    assert result.verdict["top_k"] == 5
    assert "random search with shared weights" in result.verdict["statement"]
    told = {"exploration", "spent", "candidates", "entropy_branch", "entropy_dilation"}
    assert {f"nasib/{name}" for name in told} <= metrics.keys()
    assert notes == [], "all convolutions fit"
    final = method.train_final(task, result)
    own = final.details["nasib"]
    assert own["steps"] == 32
    (shown,) = sections_of(final.details, None, {})
    assert "<strong>" not in shown
    assert shown.count('class="chart areas"') == 5
    assert "32 steps" in shown


def test_the_warm_up_is_the_beginning_of_the_search(
    tmp_path: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipeline the two steps have folders of their own."""
    whole = make_task(tmp_path / "whole", digits)
    BudgetSearch(whole).run()
    parts = make_task(tmp_path / "parts", digits)
    before = dataclasses.replace(parts, state=tmp_path / "before")
    method.pretrain(before)
    assert not checkpoint_path(parts.state).exists()
    made: list[int] = []
    step = WeightUpdates.step
    monkeypatch.setattr(WeightUpdates, "step", lambda *a, **b: (made.append(1), step(*a, **b))[1])
    result = method.search(parts)
    assert len(made) == 18, "two of twenty were made before"
    expected = BudgetSearch(whole)
    expected.restore()
    assert result.genotype == expected.genotype()
    assert result.arm.children[0].num_steps == 20


def test_of_several_processes_the_search_warms_up(tmp_path: Path, digits: Splits) -> None:
    task = make_task(tmp_path, digits)
    search = task.search.model_copy(update={"workers": 2})
    assert "warmup_steps" not in method.pretrain(dataclasses.replace(task, search=search))
    assert not checkpoint_path(task.controller).exists()


def test_without_a_control_nothing_comes_after_the_budget(
    tmp_path: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method, "search_by_proposing", None)  # would fail if it were called
    task = make_task(tmp_path, digits)
    method.pretrain(task)
    result = method.search(task)
    (child,) = result.arm.children
    assert child.genotype == result.genotype
    assert child.valid_accuracy == result.valid_accuracy
    assert (result.control, result.verdict) == (None, None)


def test_a_search_that_is_told_to_stop_has_an_architecture(tmp_path: Path, digits: Splits) -> None:
    task = make_task(tmp_path, digits, control=True)
    method.pretrain(task)
    result = method.search(
        dataclasses.replace(task, callbacks=CallbacksOf(should_stop=lambda: True))
    )
    check(task.space, result.genotype)
    assert result.verdict is None
    assert method.search(task).verdict is not None, "and it can be gone on with"


def test_an_architecture_is_trained_without_a_search(tmp_path: Path, digits: Splits) -> None:
    task = make_task(tmp_path, digits)
    method.pretrain(task)
    result = method.search(task)
    anew = dataclasses.replace(task, weights=tmp_path / "empty")
    assert method.train_final(anew, result).details == {}


# --- input that does not do ---------------------------------------------------------------------


def test_what_does_not_fit_the_image_is_told_before_anything_is_trained(
    tmp_path: Path, digits: Splits
) -> None:
    space = SPACE.model_copy(update={"kernel_sizes": (1, 7), "dilations": (1, 2, 3)})
    notes: list[str] = []
    task = dataclasses.replace(
        make_task(tmp_path, digits, space=space, budget=BudgetConfig(steps=1)),
        callbacks=CallbacksOf(on_message=notes.append),
    )
    method.pretrain(task)
    (note,) = notes
    assert note.startswith("12 of 24 convolutions"), "a 7x1 is as long as a 7x7"
    assert "7 with dilation 2, 7 with dilation 3" in note


def test_no_convolution_that_fits_is_refused(tmp_path: Path, digits: Splits) -> None:
    space = SPACE.model_copy(update={"kernel_sizes": (9,), "dilations": (1,)})
    with pytest.raises(InputError, match="none fits images of 8 pixels"):
        method.pretrain(make_task(tmp_path, digits, space=space))


def test_images_of_any_number_of_channels(tmp_path: Path) -> None:
    space = SuperkernelSpace(SPACE)
    for channels in (1, 2, 3, 7):
        network = space.build(
            space.genotype([(0, 0, 1, 0, 0)] * len(space.edges), [(0, 1)] * 4),
            ImageShape(channels, 8, 3),
        )
        assert network(torch.zeros(2, channels, 8, 8)).shape == (2, 3)
