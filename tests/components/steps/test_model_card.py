"""The model card: every fact of a run is in it, and no name of a class breaks it."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.config.schema import parse
from components.registry.lookup import CHAMPION
from components.registry.model_registry import ModelVersion
from components.registry.promotion import Decision
from components.steps.model_card import (
    MAX_DESCRIPTION,
    card_of_folder,
    description,
    model_card,
)
from components.steps.overview import overview_page
from components.steps.reference_section import with_registered
from components.steps.registration import Promotion
from components.steps.run_notes import result_note
from components.steps.run_results import RunResults
from components.steps.summary import shipped_of, summary_of
from components.tracking.links import Links
from nascore.data.batches import load
from nascore.evaluation.class_metrics import class_figures
from nascore.latency.benchmark import LatencyResult
from nascore.results import Arm, SearchResult
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.training.final_model import FinalModel

URI = "models:/digits/3"
PROMOTION = Promotion(
    ModelVersion("digits", "3", URI), Decision(CHAMPION, "there was no champion"), "run-7", {}
)
LATENCY = LatencyResult(1.5, 2.5, 1.6, 0.1, 1.4, 1, "a CPU", 2, 20, 200, "2.10", "2026-01-02")
VERDICT = {"outcome": "undecided", "statement": "It is undecided whether it is better."}


@pytest.fixture
def results(digits_folder: Path) -> RunResults:
    config = parse({"method": "random", "train": {"epochs": 7}})
    space = make_space(config.search.space)
    genotype = make_genotype(space, [0] * len(space.cardinalities))
    splits = load(digits_folder, torch.device("cpu"))
    info, labels = splits.info, splits.test.labels.numpy()
    logits = np.eye(10)[np.where(labels == 8, 1, labels)]
    figures = asdict(class_figures(logits, labels, info.classes))
    shape = ImageShape(info.channels, info.size, len(info.classes))
    final = FinalModel(
        genotype, shape, torch.nn.Identity(), 0.95, 0.9, 0.9, 1234, 5678, 42, 3.0, figures=figures
    )
    return RunResults(
        config=config,
        space=space,
        search=SearchResult("random", 5, genotype, 0.8, Arm("random", (), 61.0), None, VERDICT),
        final=final,
        splits=splits,
        latency=LATENCY.to_dict(),
        timings={},
    )


def result_of(results: RunResults, timings: dict[str, Any] | None = None) -> dict[str, Any]:
    """As `result.json` has it: through JSON."""
    result = summary_of(results, PROMOTION, timings or {})
    read: dict[str, Any] = json.loads(json.dumps(result))
    return read


def card_of(results: RunResults, timings: dict[str, Any] | None = None) -> str:
    return model_card(result_of(results, timings), results.latency)


def test_the_card_contains_the_facts_of_the_run(results: RunResults) -> None:
    card = card_of(results, {"search": {"seconds": 61.0}, "promote": {"seconds": 4.0}})
    info, genotype = results.splits.info, results.final.genotype
    assert card.startswith("# digits, version 3\n")
    for fact in (
        "Classification of images (1 x 8 x 8) into 10 classes.",
        f'mlflow.pytorch.load_model("{URI}")',
        "| test accuracy | 90.00% (95% interval 86.43% to 92.67%, 359 images) |",
        "| balanced accuracy | 0.9000 |",
        "Median 1.50 ms, 95th percentile 2.50 ms for a batch of 1 on a CPU (2 CPU threads, "
        "torch 2.10): 200 runs after 20 warm-up runs, 2026-01-02.",
        "Verdict: undecided. It is undecided whether it is better.",
        "| search | 1 min 01 s |",
        "| all steps | 1 min 05 s |",
        "Alias `champion`: there was no champion.",
        "- The test split has only 359 images.",
        "- The class with the lowest recall is 8: 0.00%.",
        info.data_sha256,
        info.split_sha256,
        f"{info.num_train} training, {info.num_valid} validation and {info.num_test} test images",
        results.space.describe(genotype),
        "1,234 parameters, 5,678 multiply-adds",
        "42 weight updates in 3.0 s",
        "| epochs | 7 |",
        "| class | precision | recall | 95% interval | F1 | test images |",
        "(pixels / 255 - mean) / std, with mean 0.3",
        "Not compared with a standard network",
        "```text\n1 ",
    ):
        assert fact in card, fact
    shares = [
        float(line.split("|")[-2].strip().rstrip("%"))
        for line in card.partition("## Data")[2].partition("## Arch")[0].splitlines()
        if line.endswith("% |")
    ]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_a_run_without_a_control_is_not_given_a_verdict(results: RunResults) -> None:
    card = card_of(replace(results, search=replace(results.search, verdict=None)))
    assert "Not compared with random search" in card
    assert "Verdict" not in card


def test_names_of_classes_do_not_break_the_tables(results: RunResults) -> None:
    name = "a|b\n<script>`x`"
    figures = dict(results.final.figures or {})
    figures["per_class"] = {
        name if one == "8" else one: row for one, row in figures["per_class"].items()
    }
    card = card_of(replace(results, final=replace(results.final, figures=figures)))
    shown = r"a\|b \<script\>\`x\`"
    assert f"| {shown} | " in card
    assert f"The class with the lowest recall is {shown}: 0.00%." in card
    assert name not in card


def test_passwords_stay_out_of_the_card(results: RunResults) -> None:
    decision = Decision(CHAMPION, "as http://me:hunter2@host has it")
    result = summary_of(results, replace(PROMOTION, decision=decision), {})
    assert "as http://me:***@host has it" in model_card(result, results.latency)


def test_a_short_card_is_the_description(results: RunResults) -> None:
    assert description("# short\n", result_of(results)) == "# short\n"


def test_a_long_card_is_cut_at_its_sections_and_links_the_whole_one(results: RunResults) -> None:
    result, rows = result_of(results), "é" * 3000  # two bytes a character
    card = f"# title\n\n## A\n\na\n\n## B\n\n{rows}\n\n## C\n\nc\n"
    text = description(card, result)
    assert text == (
        "# title\n\n## A\n\na\n\n## C\n\nc\n\nNot shown here: B. The whole card: artifact "
        "`MODEL_CARD.md` of run run-7.\n"
    )
    result["links"] = {"run": "http://host/#/experiments/1/runs/run-7", "model": None}
    link = "[MODEL_CARD.md](http://host/#/experiments/1/runs/run-7/artifacts/MODEL_CARD.md)"
    assert description(card, result).endswith(f"The whole card: {link}.\n")


def test_the_description_of_a_real_card_fits_and_has_what_is_asked_first(
    results: RunResults,
) -> None:
    result = result_of(results)
    text = description(model_card(result, results.latency), result)
    assert len(text.encode()) <= MAX_DESCRIPTION
    for title in ("Task", "How to load", "Results", "Latency", "Search and verdict", "Limits"):
        assert f"\n## {title}\n" in text


def test_the_card_is_made_again_from_the_exported_files(
    results: RunResults, tmp_path: Path
) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result_of(results)))
    (tmp_path / "latency.json").write_text(json.dumps(results.latency))
    made = subprocess.run(
        [sys.executable, "-m", "components.steps.model_card", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == card_of(results) == card_of_folder(tmp_path)


def test_the_standard_network_of_the_space_is_compared(results: RunResults) -> None:
    result = result_of(results)
    result["standard"] = {"valid_accuracy": 0.7, "valid_score": 0.7, "is_chosen": False}
    card = model_card(result, results.latency)
    assert "trained in the same search: validation score 0.7000, against 0.8000" in card
    result["standard"]["is_chosen"] = True
    assert "it found no better one" in model_card(result, results.latency)


ENSEMBLE: dict[str, Any] = {
    "members": [
        {
            "architecture": "A <deep> one",
            "num_params": 1234,
            "test_accuracy": accuracy,
            "valid_accuracy": 0.9,
            "difference": 0.9 - accuracy,
            "p_value": p,
            "latency_ms": 0.5,
        }
        for accuracy, p in ((0.9, 1.0), (0.88, 0.21))
    ],
    "test_accuracy": 0.925,
    "valid_accuracy": 0.93,
    "test_score": 0.925,
    "num_params": 2468,
    "macs": 9,
    "seconds": 6.0,
    "difference": -0.025,
    "p_value": 0.0123,
    "latency": {"p50_ms": 1.25},
}


def test_the_card_compares_the_ensemble_with_the_found_network(results: RunResults) -> None:
    assert "Ensemble of the finalists" not in card_of(results)
    with_ensemble = replace(results, final=replace(results.final, ensemble=ENSEMBLE))
    card = card_of(with_ensemble)
    for fact in (
        "The ensemble of 2 finalists has 92.50% test accuracy, +2.50 points against the found "
        "network (p = 0.012), a median latency of 1.25 ms and 2,468 parameters.",
        "| finalist 1 | 90.00% | +0.00 | 1 | 0.500 ms | 1,234 |",
        "| finalist 2 | 88.00% | +2.00 | 0.21 | 0.500 ms | 1,234 |",
        "| ensemble | 92.50% | -2.50 | 0.012 | 1.25 ms | 2,468 |",
        "This model is not the ensemble",
    ):
        assert fact in card, fact


def test_overview_and_description_of_the_run_have_the_ensemble(results: RunResults) -> None:
    statement = "The ensemble of 2 finalists has 92.50% test accuracy, +2.50 points"
    for ensemble in (None, ENSEMBLE):
        given = replace(results, final=replace(results.final, ensemble=ensemble))
        result = result_of(given)
        page = overview_page(given, PROMOTION, result, Links(None, None))
        note = result_note(given, PROMOTION, result, experiment_id=None)
        assert (statement in page) == (statement in note) == (ensemble is not None)


def test_a_standard_network_that_is_registered_hides_no_ensemble(results: RunResults) -> None:
    given = replace(results, final=replace(results.final, ensemble=ENSEMBLE))
    result = result_of(given)
    standard = replace(given, shipped="standard", final=replace(given.final, ensemble=None))
    result["shipped"] = shipped_of(result_of(standard), "standard")
    assert with_registered(result)["ensemble"] == ENSEMBLE
