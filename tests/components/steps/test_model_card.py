"""The model card: every fact of a run is in it, and no name of a class breaks it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.config.schema import parse
from components.registry.aliases import CHAMPION
from components.registry.model_registry import ModelVersion
from components.registry.promotion import Decision
from components.steps.model_card import MAX_DESCRIPTION, description, model_card
from components.steps.registration import Promotion
from components.steps.run_results import RunResults
from components.steps.summary import summary_of
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


def card_of(results: RunResults, timings: dict[str, Any] | None = None) -> str:
    return model_card(results, PROMOTION, summary_of(results, PROMOTION, timings or {}))


def test_the_card_contains_the_facts_of_the_run(results: RunResults) -> None:
    card = card_of(results, {"search": {"seconds": 61.0}})
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
        "| class | precision | recall | F1 | test images |",
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
    promotion = replace(PROMOTION, decision=decision)
    card = model_card(results, promotion, summary_of(results, promotion, {}))
    assert "as http://me:***@host has it" in card


def test_a_short_card_is_the_description(results: RunResults) -> None:
    assert description("# short\n", "run-7") == "# short\n"


def test_a_long_card_is_cut_to_the_limit_of_the_server_and_names_the_whole_one() -> None:
    card = "# title\n" + "".join(f"| row {number} |\n" for number in range(2000))
    text = description(card, "run-7")
    body, _, pointer = text.partition("\n\n")
    assert MAX_DESCRIPTION - 100 < len(text) <= MAX_DESCRIPTION
    assert pointer == "The rest of this card: artifact `MODEL_CARD.md` of run run-7.\n"
    assert card.startswith(body + "\n")
