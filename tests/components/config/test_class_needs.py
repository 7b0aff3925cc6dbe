"""Settings about classes that method or data do not allow: one message each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.config.class_needs import unfit_for_classes
from components.config.schema import parse
from components.steps.prepare_data import _check_fit as check_fit
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError


def refused(settings: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        parse(settings)
    (problem,) = caught.value.problems
    return problem.key, str(problem)


@pytest.fixture
def info(digits_folder: Path) -> DatasetInfo:
    """Three classes, all of them in all splits."""
    counts = {"train": [5, 5, 5], "valid": [2, 2, 2], "test": [2, 2, 2]}
    classes = ("fine", "scratch", "dent")
    found = DatasetInfo.load(digits_folder)
    return replace(found, classes=classes, class_counts=counts)


def unfit(info: DatasetInfo, **settings: Any) -> list[tuple[str, str]]:
    problems = unfit_for_classes(parse(settings), info)
    return [(problem.key, str(problem)) for problem in problems]


def test_an_unknown_objective_is_refused_with_the_known_ones() -> None:
    key, told = refused({"search": {"objective": "f1"}})
    assert key == "search.objective"
    assert "macro_f1" in told
    assert "auroc" in told


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"method": "auto-meta", "search": {"objective": "macro_f1"}}, "search.objective"),
        ({"method": "instanas", "search": {"objective": "auroc"}}, "search.objective"),
        ({"method": "auto-meta", "training": {"sampling": "balanced"}}, "training.sampling"),
        ({"method": "auto-meta", "promote": {"max_class_drop": 0.1}}, "promote.max_class_drop"),
    ],
)
def test_methods_refuse_what_they_cannot_follow(settings: dict[str, Any], key: str) -> None:
    space = "mobile" if settings["method"] == "instanas" else "fewshot-cell"
    search = {"space": {"name": space}} | settings.get("search", {})
    if settings["method"] == "instanas":
        search["budget"] = {"steps": 100}
    data = {"source": "omniglot"} if settings["method"] == "auto-meta" else {}
    found, told = refused({**settings, "search": search, "data": data})
    assert found == key
    assert settings["method"] in told
    assert "set it to" in told


def test_classes_in_all_splits_are_fine(info: DatasetInfo) -> None:
    balanced = {"class_weights": "balanced", "sampling": "balanced"}
    assert unfit(info, search={"objective": "auroc"}, training=balanced) == []


def test_auroc_needs_two_classes_to_rank(info: DatasetInfo) -> None:
    alone = replace(info, class_counts={**info.class_counts, "valid": [6, 0, 0]})
    ((key, told),) = unfit(alone, search={"objective": "auroc"})
    assert key == "search.objective"
    assert "the valid split has images of only fine" in told
    assert unfit(alone, search={"objective": "macro_f1"}) == []
    with pytest.raises(InputError, match="ranks images of different classes"):
        check_fit(parse({"search": {"objective": "auroc"}}), alone, searches=False)


@pytest.mark.parametrize(("name", "other"), [("class_weights", "none"), ("sampling", "uniform")])
def test_balance_needs_training_images_of_each_class(
    name: str, other: str, info: DatasetInfo
) -> None:
    without = replace(info, class_counts={**info.class_counts, "train": [5, 0, 5]})
    ((key, told),) = unfit(without, training={name: "balanced"})
    assert key == f"training.{name}"
    assert "scratch has none" in told
    assert f"set it to {other}" in told
    assert unfit(without) == []
