"""`nas config`: what it prints is what `nas run` accepts and does."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from nascore.methods.registry import METHODS
from nascore.spaces.config import SPACE_SECTIONS
from pipelines.cli import main
from pipelines.config import resolve

OPERATIONS = ["conv", "max_pool_3x3", "avg_pool_3x3", "identity", "none"]

_ABSENT = object()  # a setting of another space, or of a section that the run does not have


def rows(*arguments: str) -> dict[str, dict[str, Any]]:
    result = CliRunner().invoke(main, ["config", "--json", *arguments])
    assert result.exit_code == 0, result.output
    listed = json.loads(result.stdout)
    by_key = {row["key"]: row for row in listed}
    assert len(by_key) == len(listed)
    return by_key


def test_a_method_with_one_space_has_the_settings_of_that_space_only() -> None:
    found = rows("nasib")
    section = next(
        one for one in SPACE_SECTIONS if one.model_fields["name"].default == "superkernel"
    )
    in_space = {key.removeprefix("search.space.") for key in found if ".space." in key}
    assert in_space == section.model_fields.keys()
    assert found["search.space.name"]["type"] == "superkernel"
    operations = found["search.space.operations"]
    assert operations["type"] == "list of " + "|".join(OPERATIONS)
    assert operations["default"] == OPERATIONS
    assert operations["description"] == "Operations of an edge; `conv` stands for all convolutions."
    assert "DARTS" in found["search.space.final_channels"]["description"]


@pytest.mark.parametrize(
    ("method", "spaces"),
    [
        ("instanas", {"mobile"}),
        ("auto-meta", {"fewshot-cell"}),
        ("nases-paper", {"chain", "nasbench201"}),
        ("enas", {"nasbench201", "enas-micro", "mobile", "superkernel"}),
        ("random", {one.model_fields["name"].default for one in SPACE_SECTIONS}),
    ],
)
def test_the_spaces_are_those_that_a_run_accepts(method: str, spaces: set[str]) -> None:
    assert set(rows(method)["search.space.name"]["type"].split("|")) == spaces


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_those_of_a_run(method: str, preset: str) -> None:
    config = resolve(None, preset, [f"method={method}"]).model_dump(mode="json")
    found = rows(method, "--preset", preset)
    for key, row in found.items():
        value: Any = config
        for part in key.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
        assert value is _ABSENT or row["default"] == value, key
    assert found["search.space.name"]["default"] == config["search"]["space"]["name"]
    assert found["search.budget.children"]["default"] == config["search"]["budget"]["children"]


def test_the_defaults_are_those_of_the_quick_preset_and_help_says_so() -> None:
    quick = rows("nasib")
    keys = ("search.space.name", "search.budget.children", "search.budget.steps", "train.epochs")
    assert [quick[key]["default"] for key in keys] == ["superkernel", None, 400, 30]
    text = " ".join(CliRunner().invoke(main, ["config", "--help"]).output.split())
    assert "`nas run` starts from the preset quick" in text
    assert "--preset paper" in text


def test_a_key_of_several_methods_or_spaces_names_each_of_them() -> None:
    found = rows("--all")
    assert 150 < len(found) <= 250
    candidates = found["search.options.num_candidates"]
    text = candidates["description"]
    assert "nases: Policy samples that the surrogate ranks" in text
    assert "memory-enas, enas, random-ws: Architectures that are sampled at the end" in text
    assert "nasib: Random architectures of the control" in text
    assert candidates["default"] == 256
    assert "Defaults: 256 for nases; 100 for memory-enas, enas, random-ws; 50 for nasib;" in text
    assert text.endswith("the default of the row is the first.")
    operations = found["search.space.operations"]
    assert operations["default"][0] == "none"
    assert "superkernel: Operations of an edge; `conv` stands" in operations["description"]
    assert f"{json.dumps(OPERATIONS)} for superkernel" in operations["description"]
    assert "list of conv|max_pool_3x3" in operations["type"]


def test_the_same_meaning_is_described_once() -> None:
    found = rows("--all")
    lr = found["search.options.weights.lr"]["description"]
    assert lr.startswith("Highest learning rate. Range: > 0. Defaults: 0.05 for memory-enas")
    only = found["search.options.startup_trials"]["description"]
    assert only.endswith("Only for the method tpe.")
    assert rows("tpe")["search.options.startup_trials"]["description"] in only
    assert "Only" not in rows("tpe")["search.options.startup_trials"]["description"]


def test_the_default_of_a_shared_key_is_that_of_the_chosen_space() -> None:
    channels = rows("enas", "--preset", "paper")["search.space.final_channels"]
    space = resolve(None, "paper", ["method=enas"]).search.space
    assert channels["default"] == space.model_dump()["final_channels"]
    assert f"Defaults: {channels['default']} for {space.name};" in channels["description"]


@pytest.mark.parametrize(
    ("method", "key", "named"),
    [
        ("instanas", "search.space.search_width", "Factor of all channels"),
        ("tpe", "data.split_by", "`data.valid_fraction` and `data.test_fraction`"),
        ("tpe", "search.space.vocabulary", "operations, kernel sizes and shortcuts"),
        ("tpe", "search.space.max_depth", "each stage has between one and this many"),
        ("instanas", "search.options.baseline", "the stages and channels of `search.space`"),
        ("instanas", "search.options.reward.start", "Largest rewarded latency"),
        ("instanas", "search.options.reward.end", "the stages and channels of `search.space`"),
        ("instanas", "search.options.points_start", "(`search.options.reward`)"),
        ("nases", "search.options.cycle", "the weights of the trained encoder"),
        ("nases-paper", "search.options.cycle", "the weights of the trained encoder"),
        ("tpe", "search.cost.limit", "In the unit of `search.cost.metric`"),
        ("tpe", "search.cost.target", "parameters, multiply-adds, or milliseconds"),
        ("auto-meta", "search.options.test_shots", "`search.options.episode.shots`"),
        ("auto-meta", "search.options.episode.ways", "N-way classification"),
    ],
)
def test_a_description_is_understood_without_its_neighbours(
    method: str, key: str, named: str
) -> None:
    """The list is sorted by key, so a description cannot refer to the one above it."""
    found = rows(method)
    assert named in found[key]["description"]
    vague = ("the same factor", "fractions above", "of that size", "thresholds keep", "the window")
    assert [
        one for one, row in found.items() if any(it in row["description"].lower() for it in vague)
    ] == []


def test_a_preset_is_of_one_method() -> None:
    result = CliRunner().invoke(main, ["config", "--all", "--preset", "paper"])
    assert result.exit_code == 2
    assert "--preset = paper: is of one method" in result.stderr
    result = CliRunner().invoke(main, ["config", "--preset", "papr"])
    assert result.exit_code == 2
    assert "did you mean 'paper'" in result.stderr
