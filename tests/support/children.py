"""Children with an accuracy that a test chooses."""

from typing import Any

from nascore.genotype import Genotype
from nascore.results import Child, ChildScores


def make_child(number: int, genotype: Genotype, accuracy: float | None, **fields: Any) -> Child:
    """Return a finished child of this accuracy; one that failed where it is None.

    Args:
        fields: further attributes of `Child`.
    """
    if accuracy is None:
        failed = {"failure": "loss is nan", "status": "failed"}
        return Child(number=number, genotype=genotype, **{**failed, **fields})
    scores = ChildScores(accuracy, accuracy, num_params=1000 + number)
    return Child.of_scores(number, genotype, scores, **fields)
