"""Descriptions of runs before there is a result."""

from dataclasses import replace
from pathlib import Path

import pytest

from components.config.schema import parse
from components.tracking.run_description import (
    ReusedArchitecture,
    escaped,
    start_note,
    step_note,
    table,
)
from nascore.data.prepared import DatasetInfo


@pytest.fixture
def info(digits_folder: Path) -> DatasetInfo:
    import torch

    from nascore.data.batches import load

    return load(digits_folder, torch.device("cpu")).info


def test_a_run_that_has_begun_names_method_space_data_and_budget(info: DatasetInfo):
    config = parse({"method": "tpe", "seed": 3, "search": {"budget": {"children": 64}}})
    note = start_note(config, info)
    for words in ("**tpe**", "the space chain", "**digits**", "budget 64 children", "seed 3"):
        assert words in note
    assert f"{info.num_train:,} train" in note
    assert "10 classes" in note
    assert "No result yet" in note


def test_a_retraining_without_a_search_names_the_search_that_found_its_architecture(
    info: DatasetInfo,
) -> None:
    note = start_note(parse({"method": "random"}), info, ReusedArchitecture("3", "nases"))
    assert "the architecture of version 3 was reused, which a search with **nases** found" in note
    assert "random" not in note
    assert "budget" not in note


def test_a_step_says_what_it_does_and_of_which_search(info: DatasetInfo):
    config = parse({"method": "random"})
    assert step_note("search", config).startswith("Trains children")
    assert "Step `search` of Architecture search with **random**" in step_note("search", config)
    assert "Step `train_final` of a run on **digits**, seed 0." in step_note("train_final", config)


def test_neither_a_name_nor_a_secret_breaks_the_markdown(info: DatasetInfo):
    source = "npz:s3://key:s3cr3t-word@bucket/a|b*c.npz"
    config = parse({"method": "random"})
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": source})})
    note = start_note(config, replace(info, source=source))
    assert "s3cr3t-word" not in note
    assert r"**a\|b\*c**" in note
    assert table({"data": "a|b\nc"}) == "| | |\n| --- | --- |\n| data | a\\|b c |"
    assert escaped("[x](y)_<b>`#") == r"\[x\](y)\_\<b\>\`\#"
