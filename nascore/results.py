"""What a search leaves behind, as values that can be written to JSON and read back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nascore.config import Objective
from nascore.genotype import Genotype

VERSION = 2

Status = Literal["finished", "failed", "pruned", "rejected"]
Report = Callable[[dict[str, float], int], None]
"""`report(metrics, step)`: how nascore tells the outside; it knows no tracking server."""


@dataclass(frozen=True, slots=True)
class ChildScores:
    """What the training of one child measured.

    Attributes:
        valid_accuracy: of the epoch with the best score, fraction.
        train_accuracy: best over the epochs, fraction, of the augmented training images.
        num_steps: weight updates.
        duration_s: wall seconds of building, training and judging.
        cost: of the final network, in the metric of `search.cost`; None without one.
        valid_score, train_score: in the objective of the search, best over the epochs; None where
            that is the accuracy.
    """

    valid_accuracy: float
    train_accuracy: float
    num_params: int
    num_steps: int
    duration_s: float
    cost: float | None = None
    valid_score: float | None = None
    train_score: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.valid_accuracy) and math.isfinite(self.train_accuracy)):
            raise ValueError(f"accuracies must be finite, got {self}")
        if not (math.isfinite(self.valid) and math.isfinite(self.train)):
            raise ValueError(f"scores must be finite, got {self}")

    @property
    def valid(self) -> float:
        """What the search maximises."""
        return self.valid_accuracy if self.valid_score is None else self.valid_score

    @property
    def train(self) -> float:
        """The same of the training images."""
        return self.train_accuracy if self.train_score is None else self.train_score

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; scores that are the accuracies are left out."""
        absent = {name for name in ("valid_score", "train_score") if getattr(self, name) is None}
        return {name: value for name, value in asdict(self).items() if name not in absent}

    def named(self, objective: Objective) -> dict[str, Any]:
        """The same under names that say what the scores are, `valid_macro_f1` for one."""
        names = {"valid_score": f"valid_{objective}", "train_score": f"train_{objective}"}
        return {names.get(name, name): value for name, value in self.to_dict().items()}


@dataclass(frozen=True, slots=True)
class Child:
    """One architecture of a search, finished or failed.

    Attributes:
        number: 0-based position in the study.
        scores: None when the child failed.
        failure: why it failed, in words; empty when it did not.
        started_s: seconds since the epoch, as `ended_s`.
        num_steps: weight updates that it has cost, whether it failed or not.
        status: `rejected` when its network was over a limit and was not trained.
    """

    number: int
    genotype: Genotype
    scores: ChildScores | None
    failure: str = ""
    started_s: float = 0.0
    ended_s: float = 0.0
    num_steps: int = 0
    status: Status = "finished"

    @property
    def is_rejected(self) -> bool:
        return self.status == "rejected"

    @property
    def duration_s(self) -> float:
        """Wall seconds that it has cost."""
        return max(0.0, self.ended_s - self.started_s)

    @property
    def valid_accuracy(self) -> float | None:
        return None if self.scores is None else self.scores.valid_accuracy

    @property
    def score(self) -> float | None:
        """What the search maximises; the validation accuracy by default."""
        return None if self.scores is None else self.scores.valid

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "genotype": self.genotype.to_dict(),
            "scores": None if self.scores is None else self.scores.to_dict(),
            "failure": self.failure,
            "started_s": self.started_s,
            "ended_s": self.ended_s,
            "num_steps": self.num_steps,
            "status": self.status,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Child":
        scores = data["scores"]
        return cls(
            number=int(data["number"]),
            genotype=Genotype.from_dict(data["genotype"]),
            scores=None if scores is None else ChildScores(**scores),
            failure=data["failure"],
            started_s=data["started_s"],
            ended_s=data["ended_s"],
            num_steps=int(data["num_steps"]),
            status=data["status"],
        )


def best_child(
    children: Sequence[Child],
    *,
    value: Callable[[Child], float | None] = lambda child: child.score,
) -> Child | None:
    """Highest value, or validation score; the earliest of equals. None when none finished."""
    finished = [child for child in children if child.scores is not None]
    if not finished:
        return None
    return max(finished, key=lambda child: (value(child), -child.number))


def pareto_front(children: Sequence[Child]) -> tuple[int, ...]:
    """Numbers of the children that none beats in score and cost, the cheapest first.

    Children without a cost of the final network are compared by the parameters of their own.
    """
    finished = [child for child in children if child.scores is not None]
    front: list[int] = []
    best = -math.inf
    for child in sorted(finished, key=_cheapest_first):
        assert child.scores is not None
        if child.scores.valid > best:
            best = child.scores.valid
            front.append(child.number)
    return tuple(front)


def _cheapest_first(child: Child) -> tuple[float, float, int]:
    assert child.scores is not None
    cost = child.scores.num_params if child.scores.cost is None else child.scores.cost
    return cost, -child.scores.valid, child.number


@dataclass(frozen=True, slots=True)
class Arm:
    """One search process: the method itself, or its control.

    Attributes:
        children: all children in the order in which they ended, failed ones included.
        seconds: wall time of the arm, training of its own coder or controller included.
    """

    method: str
    children: tuple[Child, ...]
    seconds: float

    @property
    def best(self) -> Child | None:
        return best_child(self.children)

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "children": [child.to_dict() for child in self.children],
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Arm":
        children = tuple(Child.from_dict(child) for child in data["children"])
        return cls(data["method"], children, data["seconds"])


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The end of a search: the chosen genotype and everything that led to it.

    Attributes:
        genotype: best valid architecture by the objective on the validation split.
        valid_accuracy: of that child, as judged in the search; fraction.
        control: random search at equal cost; None when it was turned off.
        verdict: `nascore.evaluation.verdict.Verdict.to_dict()`; None without a control.
        cost_metric: what the costs of `pareto` are measured in.
        pareto: numbers of the children of the Pareto front of score and cost.
        objective: what was maximised.
        valid_score: of that child, in the objective; None where that is the accuracy.
    """

    method: str
    seed: int
    genotype: Genotype
    valid_accuracy: float
    arm: Arm
    control: Arm | None
    verdict: dict[str, Any] | None
    cost_metric: str = "num_params"
    pareto: tuple[int, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    version: int = VERSION
    objective: Objective = "accuracy"
    valid_score: float | None = None

    @property
    def score(self) -> float:
        """Of the chosen child, in the objective."""
        return self.valid_accuracy if self.valid_score is None else self.valid_score

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "method": self.method,
            "seed": self.seed,
            "genotype": self.genotype.to_dict(),
            "valid_accuracy": self.valid_accuracy,
            "arm": self.arm.to_dict(),
            "control": None if self.control is None else self.control.to_dict(),
            "verdict": self.verdict,
            "cost_metric": self.cost_metric,
            "pareto": list(self.pareto),
            "versions": self.versions,
            "objective": self.objective,
            "valid_score": self.valid_score,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "SearchResult":
        if data.get("version") != VERSION:
            raise ValueError(
                f"search result version must be {VERSION}, got {data.get('version')!r}"
            )
        return cls(
            method=data["method"],
            seed=int(data["seed"]),
            genotype=Genotype.from_dict(data["genotype"]),
            valid_accuracy=data["valid_accuracy"],
            arm=Arm.from_dict(data["arm"]),
            control=None if data["control"] is None else Arm.from_dict(data["control"]),
            verdict=data["verdict"],
            cost_metric=data["cost_metric"],
            pareto=tuple(data["pareto"]),
            versions=data["versions"],
            objective=data.get("objective", "accuracy"),
            valid_score=data.get("valid_score"),
        )
