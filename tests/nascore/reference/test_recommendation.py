"""Which network is recommended: by validation score, among equals a standard one."""

import numpy as np
import pytest

from nascore.reference.recommendation import Contender, recommend, standard_error

LABELS = np.arange(1000) % 2


def contender(name: str, wrong: range, latency_ms: float) -> Contender:
    """A network that classifies the images at these places wrongly."""
    answers = LABELS.copy()
    answers[wrong.start : wrong.stop] ^= 1
    return Contender(name, 1 - len(wrong) / len(LABELS), latency_ms, np.eye(2)[answers])


@pytest.mark.parametrize(
    ("found", "standard", "ship"),
    [
        # wrong images and latency of both; the errors are on different images
        ((range(0, 10), 9.0), (range(500, 540), 1.0), "found"),  # clearly better, slower
        ((range(0, 40), 1.0), (range(500, 510), 9.0), "standard"),  # clearly worse, faster
        ((range(0, 20), 1.0), (range(500, 519), 2.0), "standard"),  # a tie, slightly worse
        ((range(0, 19), 1.0), (range(500, 520), 2.0), "standard"),  # a tie, slightly better
        ((range(0, 20), 1.0), (range(0, 20), 1.0), "standard"),  # the same
        ((range(0, 10), 1.0), (range(0, 13), 2.0), "standard"),  # 1.7 standard errors better
        ((range(0, 10), 1.0), (range(0, 15), 2.0), "found"),  # 2.2 standard errors better
        # The same difference as in the ties, but on the same images: no chance.
        ((range(0, 19), 2.0), (range(0, 30), 1.0), "found"),
    ],
)
def test_the_found_network_has_to_be_better_by_more_than_chance(
    found: tuple[range, float], standard: tuple[range, float], ship: str
) -> None:
    both = [contender("found", *found), contender("standard", *standard)]
    made = recommend(both, LABELS, objective="accuracy", rng=np.random.default_rng(0))
    assert made.ship == ship
    assert made.why.endswith(".")
    assert made.why.count("%") == 2, "the figures of both"
    assert made.why.count(" ms") == 2


def test_the_sentence_says_which_rule_decided() -> None:
    rng = np.random.default_rng(0)
    found = contender("found", range(40), 0.5)
    better = contender("resnet18", range(500, 510), 0.25)
    made = recommend([found, better], LABELS, objective="accuracy", rng=rng)
    assert made.why == (
        "resnet18 has the highest validation accuracy, by more than one standard error: the found "
        "network 96.00% at 0.500 ms (3.00 points lower, standard error 0.70), resnet18 99.00% at "
        "0.250 ms."
    )
    slow = contender("standard", range(500, 538), 0.75)
    made = recommend([found, slow], LABELS, objective="accuracy", rng=rng)
    assert made.ship == "standard"
    assert made.why.startswith("The standard network has the highest validation accuracy: ")
    assert made.why.endswith(" The found network is faster; registry.ship=found registers it.")
    slow = contender("standard", range(500, 542), 0.75)
    large = contender("resnet18", range(500, 541), 9.0)
    made = recommend([found, slow, large], LABELS, objective="accuracy", rng=rng)
    assert made.ship == "standard"
    assert made.why.startswith(
        "The standard network is within two standard errors of the highest validation accuracy, "
        "and is the fastest of the standard networks within two standard errors, and the found "
        "network has to be better by more than that: "
    )
    control = contender("control", range(500, 541), 0.25)
    made = recommend([found, control], LABELS, objective="accuracy", rng=rng)
    assert made.ship == "control"
    assert made.why.startswith(
        "The network of the random control is within one standard error of the highest validation "
        "accuracy, and is the fastest of the searched networks within one standard error: "
    )


@pytest.mark.parametrize("number", [100, 216, 300, 445, 1000])
def test_one_image_is_never_more_than_chance(number: int) -> None:
    """Its standard error is the difference itself, within rounding."""
    labels = np.zeros(number, dtype=int)
    right, wrong = np.tile([1.0, 0.0], (number, 1)), np.tile([1.0, 0.0], (number, 1))
    wrong[0] = [0.0, 1.0]
    large = Contender("resnet18", 1.0, 9.0, right)
    small = Contender("standard", 1 - 1 / number, 1.0, wrong)
    rng = np.random.default_rng(0)
    made = recommend([large, small], labels, objective="accuracy", rng=rng)
    assert made.ship == "standard"


def test_the_error_is_that_of_the_paired_difference() -> None:
    rng = np.random.default_rng(0)
    one, other = contender("a", range(0, 30), 1.0), contender("b", range(20, 60), 1.0)
    differences = np.zeros(1000)
    differences[0:20], differences[30:60] = -1, 1
    expected = differences.std(ddof=1) / np.sqrt(1000)
    found = standard_error(one, other, LABELS, objective="accuracy", rng=rng)
    assert found == pytest.approx(expected)


def test_other_objectives_are_resampled() -> None:
    """Balanced accuracy of two classes of equal size is the accuracy, and so is its error."""
    rng = np.random.default_rng(0)
    one, other = contender("a", range(0, 30), 1.0), contender("b", range(20, 60), 1.0)
    exact = standard_error(one, other, LABELS, objective="accuracy", rng=rng)
    found = standard_error(one, other, LABELS, objective="balanced_accuracy", rng=rng)
    assert found == pytest.approx(exact, rel=0.1)
