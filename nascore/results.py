"""Results of a search, as values that are written to JSON and read back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nascore.config import Objective
from nascore.errors import InputError
from nascore.genotype import Genotype

VERSION = 3

Status = Literal["finished", "failed", "pruned", "rejected"]


@dataclass(frozen=True, slots=True)
class ChildScores:
    """Measurements of one child. None: not measured.

    Attributes:
        valid_accuracy: of the epoch with the best score, fraction.
        train_accuracy: best over the epochs, fraction, on the augmented training images.
        num_params: parameters of the network that was trained.
        cost: of the final network, in the metric of `search.cost`.
        valid_score, train_score: best over the epochs in the metric of `search.objective`; None
            where that metric is the accuracy.
    """

    valid_accuracy: float
    train_accuracy: float | None = None
    num_params: int | None = None
    cost: float | None = None
    valid_score: float | None = None
    train_score: float | None = None

    def __post_init__(self) -> None:
        measured = (self.valid_accuracy, self.train_accuracy, self.valid_score, self.train_score)
        if not all(math.isfinite(value) for value in measured if value is not None):
            raise ValueError(f"accuracies and scores must be finite, got {self}")

    @property
    def valid(self) -> float:
        """Validation score in the metric of `search.objective`."""
        return self.valid_accuracy if self.valid_score is None else self.valid_score

    @property
    def train(self) -> float | None:
        """Training score in the metric of `search.objective`."""
        return self.train_accuracy if self.train_score is None else self.train_score

    @property
    def compared_cost(self) -> float | None:
        """Cost for the Pareto front: `cost`, or the parameters where it was not measured."""
        return self.num_params if self.cost is None else self.cost

    def to_dict(self) -> dict[str, Any]:
        """Return JSON without the fields that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def named(self, objective: Objective) -> dict[str, Any]:
        """Return `to_dict` with the scores under the name of their metric, as `valid_macro_f1`."""
        names = {"valid_score": f"valid_{objective}", "train_score": f"train_{objective}"}
        return {names.get(name, name): value for name, value in self.to_dict().items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One architecture of a search: finished, failed, pruned or rejected.

    Attributes:
        number: 0-based position in the study.
        objective: the value that the search maximises: the validation score, multiplied by the
            factor of the cost target where there is one. None where the child did not finish.
        train_objective: the same on the training images; None where it was not measured.
        scores: measurements; None where the child did not finish or was evaluated elsewhere.
        failure: the reason; empty where the child finished.
        started_s, ended_s: seconds since the epoch; None where they are unknown.
        num_steps: weight updates, those of a failed training included; where a space is trained for
            equal computation, those that the settings say (`nascore.training.length`).
        status: `pruned`: the pruner ended its training; `rejected`: its cost is over the limit, so
            it was not trained.
    """

    number: int
    genotype: Genotype
    objective: float | None = None
    train_objective: float | None = None
    scores: ChildScores | None = None
    failure: str = ""
    started_s: float | None = None
    ended_s: float | None = None
    num_steps: int = 0
    status: Status = "finished"

    def __post_init__(self) -> None:
        is_finished = self.status == "finished"
        if is_finished != (self.objective is not None) or is_finished == bool(self.failure):
            raise ValueError(f"a finished child has an objective, others a failure; got {self}")
        if self.scores is not None and not is_finished:
            raise ValueError(f"only a finished child has scores; got {self}")
        if self.objective is not None and not math.isfinite(self.objective):
            raise ValueError(f"the objective must be finite; got {self}")

    @classmethod
    def of_scores(
        cls,
        number: int,
        genotype: Genotype,
        scores: ChildScores,
        *,
        cost_factor: float = 1.0,
        **rest: Any,
    ) -> "Child":
        """Return a finished child whose objective is its score times the factor of its cost.

        Args:
            rest: further attributes.
        """
        train = scores.train
        return cls(
            number=number,
            genotype=genotype,
            objective=scores.valid * cost_factor,
            train_objective=None if train is None else train * cost_factor,
            scores=scores,
            **rest,
        )

    @property
    def is_rejected(self) -> bool:
        """Whether its cost was over the limit."""
        return self.status == "rejected"

    @property
    def duration_s(self) -> float | None:
        """Wall seconds from its start to its end."""
        if self.started_s is None or self.ended_s is None:
            return None
        return max(0.0, self.ended_s - self.started_s)

    @property
    def valid_accuracy(self) -> float | None:
        """Validation accuracy, fraction."""
        return None if self.scores is None else self.scores.valid_accuracy

    @property
    def score(self) -> float | None:
        """Validation score in the metric of `search.objective`, whatever the cost."""
        return None if self.scores is None else self.scores.valid

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        scores = None if self.scores is None else self.scores.to_dict()
        return {**_fields(self), "genotype": self.genotype.to_dict(), "scores": scores}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Child":
        """Read what `to_dict` returned."""
        scores = data["scores"]
        return cls(
            **{
                **data,
                "genotype": Genotype.from_dict(data["genotype"]),
                "scores": None if scores is None else ChildScores(**scores),
            }
        )


def best_child(children: Sequence[Child]) -> Child | None:
    """Return the child with the highest objective, the earliest of equals; None without any."""
    finished = [child for child in children if child.objective is not None]
    return max(finished, key=lambda child: (child.objective, -child.number), default=None)


def pareto_front(children: Sequence[Child]) -> tuple[int, ...]:
    """Return the numbers of the children that none beats in score and cost, the cheapest first.

    Children without a cost of the final network are compared by the parameters of their own.
    """
    measured = [
        (child.scores.compared_cost, -child.scores.valid, child.number)
        for child in children
        if child.scores is not None and child.scores.compared_cost is not None
    ]
    front: list[int] = []
    best = math.inf
    for _, negative_score, number in sorted(measured):
        if negative_score < best:
            best = negative_score
            front.append(number)
    return tuple(front)


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the two searches of a run: the method itself, or its control.

    Attributes:
        children: in the order in which they ended, failed ones included.
        seconds: wall time of the arm, pretraining of its own included.
    """

    method: str
    children: tuple[Child, ...]
    seconds: float

    @property
    def best(self) -> Child | None:
        """The child with the highest objective."""
        return best_child(self.children)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return {**_fields(self), "children": [child.to_dict() for child in self.children]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Arm":
        """Read what `to_dict` returned."""
        children = tuple(Child.from_dict(child) for child in data["children"])
        return cls(**{**data, "children": children})


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The chosen architecture of a search, and the children that led to it.

    Attributes:
        genotype: the child with the highest objective on the validation split.
        valid_accuracy: of that child in the search; fraction.
        control: random search at equal cost; None when it was turned off.
        verdict: `nascore.evaluation.verdict.Verdict.to_dict()`; None without a control.
        cost_metric: the metric of the costs of `pareto`.
        pareto: numbers of the children of the Pareto front of score and cost.
        objective: the metric that was maximised.
        valid_score: of that child in this metric; None where it is the accuracy.
        reference: `name` and `seconds` of the standard network that is trained in place of the
            chosen architecture; None where that one is.
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
    reference: dict[str, Any] | None = None

    @property
    def score(self) -> float:
        """Validation score of the chosen child in the metric of `objective`."""
        return self.valid_accuracy if self.valid_score is None else self.valid_score

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return {
            **_fields(self),
            "genotype": self.genotype.to_dict(),
            "arm": self.arm.to_dict(),
            "control": None if self.control is None else self.control.to_dict(),
            "pareto": list(self.pareto),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SearchResult":
        """Read what `to_dict` returned; further keys are ignored.

        Raises:
            InputError: another version of this program wrote it.
        """
        if data.get("version") != VERSION:
            raise InputError.of(
                "search result",
                f"version {data.get('version')!r}",
                f"was written by another version of this program, which reads {VERSION}; "
                "search again into a new folder",
            )
        names = cls.__dataclass_fields__.keys() - {"reference"}
        return cls(
            **{
                **{name: data[name] for name in names},
                "reference": data.get("reference"),  # absent in results of earlier versions
                "genotype": Genotype.from_dict(data["genotype"]),
                "arm": Arm.from_dict(data["arm"]),
                "control": None if data["control"] is None else Arm.from_dict(data["control"]),
                "pareto": tuple(data["pareto"]),
            }
        )


def _fields(value: Child | Arm | SearchResult) -> dict[str, Any]:
    """Return the fields of a dataclass, not nested ones."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
