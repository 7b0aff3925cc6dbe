"""Figures of classes, against values by hand and against scikit-learn."""

import json
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn import metrics as sk

from nascore.config import OBJECTIVES, Objective
from nascore.errors import ChildFailedError
from nascore.evaluation.class_metrics import calibration_error, class_figures, recalls, score
from nascore.evaluation.paired_bootstrap import compare_classifiers
from nascore.evaluation.resampling import Resampled

CLASSES = ("fine", "scratch", "dent")
# Six are fine, two are scratched, none has a dent.
LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1])
PREDICTED = np.array([0, 0, 0, 0, 1, 2, 1, 0])
LOGITS = 4.0 * np.eye(3)[PREDICTED]
OTHERS: tuple[Objective, ...] = ("balanced_accuracy", "macro_f1", "auroc")


def random_answers(seed: int, count: int = 300) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rare class 2, ties among the answers."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.6, 0.35, 0.05])
    logits = rng.normal(size=(count, 3)).round(1)
    logits[np.arange(count), labels] += 0.8
    return logits, labels


def test_the_figures_by_hand_and_none_without_images() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = class_figures(LOGITS, LABELS, CLASSES)
    fine, scratch, dent = (found.per_class[name] for name in CLASSES)
    assert fine == {"precision": 0.8, "recall": 4 / 6, "f1": 8 / 11, "support": 6}
    assert scratch == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert dent == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert found.confusion == [[4, 1, 1], [1, 1, 0], [0, 0, 0]], "rows are true"
    assert found.balanced_accuracy == pytest.approx((4 / 6 + 0.5) / 2)
    assert found.macro_f1 == pytest.approx((8 / 11 + 0.5) / 2)
    assert recalls(PREDICTED, LABELS, CLASSES) == {"fine": 4 / 6, "scratch": 0.5}


def test_a_class_that_is_never_predicted_has_recall_0_and_no_precision() -> None:
    found = class_figures(np.eye(3)[[0] * 8], LABELS, CLASSES)
    assert found.per_class["scratch"] == {"precision": None, "recall": 0, "f1": 0, "support": 2}


def test_the_most_confused_pairs_name_their_images() -> None:
    found = class_figures(LOGITS, LABELS, CLASSES)
    assert {(one["true"], one["predicted"]): one["examples"] for one in found.confused} == {
        ("fine", "scratch"): [4],
        ("fine", "dent"): [5],
        ("scratch", "fine"): [7],
    }
    labels = np.repeat([0, 1], [30, 5])
    (pair,) = class_figures(np.eye(2)[[1] * 35], labels, ("a", "b")).confused
    assert (pair["count"], pair["examples"]) == (30, [0, 1, 2, 3])


def test_the_calibration_error_by_hand() -> None:
    """Two right at 0.95, and of two at 0.65 one: |0.05| * 0.5 + |0.5 - 0.65| * 0.5."""
    probabilities = np.array([[0.95, 0.05], [0.05, 0.95], [0.65, 0.35], [0.65, 0.35]])
    assert calibration_error(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(0.1)


def test_answers_that_are_not_finite_have_no_ranking() -> None:
    logits = LOGITS.copy()
    logits[0, 0] = np.nan
    with np.errstate(all="ignore"):
        found = class_figures(logits, LABELS, CLASSES)
    assert (found.macro_auroc, found.calibration_error, found.roc) == (None, None, None)
    with pytest.raises(ChildFailedError, match="not finite"):
        score("auroc", logits, LABELS)


def test_all_is_json_and_the_curve_goes_from_corner_to_corner() -> None:
    logits, labels = random_answers(0)
    found = class_figures(logits, labels, CLASSES)
    json.dumps(asdict(found), allow_nan=False)
    assert found.roc is not None
    ends = [(found.roc["fpr"][i], found.roc["tpr"][i]) for i in (0, -1)]
    assert ends == [(0, 0), (1, 1)]
    assert len(found.roc["fpr"]) <= 100
    probabilities = softmax(logits, axis=1)
    expected = sk.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert found.macro_auroc == pytest.approx(expected)
    assert class_figures(LOGITS[:6], LABELS[:6], CLASSES).macro_auroc is None


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_rare_class_counts_as_much_as_a_common_one(objective: Objective) -> None:
    """Always "fine" is right for most images, and for most objectives worth nothing."""
    labels = np.repeat([0, 1], [195, 5])
    always = score(objective, np.tile([1.0, 0.0], (200, 1)), labels)
    f1 = sk.f1_score(labels, 0 * labels, average="macro")
    expected = {"accuracy": 0.975, "balanced_accuracy": 0.5, "macro_f1": f1, "auroc": 0.5}
    assert always == pytest.approx(expected[objective])
    assert score(objective, np.eye(2)[labels], labels) == 1.0


# --- two networks on the same images --------------------------------------------------------


@pytest.mark.parametrize("objective", OTHERS)
def test_a_resample_is_scored_as_scikit_learn_scores_its_images(objective: Objective) -> None:
    logits, labels = random_answers(1)
    resampled, rng = Resampled(objective, logits, labels), np.random.default_rng(0)
    order = np.argsort(labels, kind="stable")
    for _ in range(5):
        places = resampled.draw(rng)
        picked = order[places]
        assert np.bincount(labels[picked]).tolist() == np.bincount(labels).tolist()
        expected = score(objective, logits[picked], labels[picked])
        assert resampled.score(places) == pytest.approx(expected)


@pytest.mark.parametrize("objective", OTHERS)
def test_a_gain_in_a_rare_class_is_seen_by_all_objectives_but_accuracy(
    objective: Objective,
) -> None:
    """The new network finds 40 of 50 defects where the old one found none, and has 40 more false
    alarms among 1,950."""
    labels = np.repeat([0, 1], [1950, 50])
    new, old = np.tile([2.0, 0.0], (2000, 1)), np.tile([2.0, 0.0], (2000, 1))
    new[1950:1990] = new[:40] = [0.0, 2.0]
    rng = np.random.default_rng(0)
    found = compare_classifiers(new, old, labels, objective=objective, rng=rng)
    assert found.lower > 0.05
    assert found.difference == pytest.approx(found.new_score - found.old_score)
    assert found.new_accuracy == found.old_accuracy == 0.975
    plain = compare_classifiers(new, old, labels, objective="accuracy", rng=rng)
    assert plain.lower < 0 < plain.upper


def test_networks_that_are_equally_good_seldom_differ_for_certain() -> None:
    """One-sided, 2.5 %, of 60 comparisons in balanced accuracy; measured: 1."""
    labels, above = np.repeat([0, 1, 2], [100, 60, 20]), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        new, old = (rng.normal(size=(180, 3)) + np.eye(3)[labels] for _ in range(2))
        found = compare_classifiers(new, old, labels, objective="balanced_accuracy", rng=rng)
        above += found.lower > 0
    assert above <= 5
