"""Requirements of a method on the settings of a run. No torch here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from nascore.config import (
    SPACE_SECTIONS,
    BalanceConfig,
    CommonTrainingConfig,
    SearchConfig,
)
from nascore.config.recipes import SWITCHES
from nascore.errors import Problem

SplitBy = Literal["image", "class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings of a run that a method may refuse.

    Attributes:
        method: its name.
        split_by: what the splits of the data have apart: images, or classes.
        max_class_drop, int8_max_drop: settings of `promote`.
    """

    method: str
    search: SearchConfig
    training: CommonTrainingConfig
    split_by: SplitBy
    max_class_drop: float | None = None
    int8_max_drop: float | None = None


class Requirement(Protocol):
    """A condition on the settings of a run."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        """Return the settings that do not meet it."""
        ...


@dataclass(frozen=True, slots=True)
class OneWorker:
    """Each proposal needs the result of the one before."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        if run.search.workers == 1:
            return ()
        message = f"each proposal of {run.method} needs the result of the one before; set it to 1"
        return (Problem("search.workers", str(run.search.workers), message),)


@dataclass(frozen=True, slots=True)
class OneDevice:
    """Its networks are trained by one process."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        if run.training.devices == 1:
            return ()
        message = f"{run.method} trains its networks on one device; set it to 1"
        return (Problem("training.devices", str(run.training.devices), message),)


@dataclass(frozen=True, slots=True)
class BudgetOfSharedWeights:
    """A budget of weight updates or time: one network is trained for all architectures."""

    units: tuple[str, ...] = ("steps", "seconds", "gpu_hours")

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        budget = run.search.budget
        if budget.unit in self.units:
            return ()
        message = (
            f"{run.method} trains one network for all architectures and counts no children; "
            f"give one of {', '.join(self.units)}"
        )
        return (Problem(f"search.budget.{budget.unit}", f"{budget.amount:g}", message),)


@dataclass(frozen=True, slots=True)
class OneSpace:
    """The only space that the method searches."""

    name: str

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        if run.search.space.name == self.name:
            return ()
        message = f"{run.method} searches one space only; set it to {self.name}"
        return (Problem("search.space.name", run.search.space.name, message),)


@dataclass(frozen=True, slots=True)
class SpaceWithSharedWeights:
    """A space whose networks can share weights (`nascore.spaces.base.SharedSpace`)."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        space = run.search.space
        if space.shares_weights:
            return ()
        names = [one.model_fields["name"].default for one in SPACE_SECTIONS if one.shares_weights]
        message = f"{run.method} needs a space with shared weights: {' or '.join(names)}"
        return (Problem("search.space.name", space.name, message),)


@dataclass(frozen=True, slots=True)
class AccuracyObjective:
    """The accuracy as objective; `reason` continues a sentence that begins with the method."""

    reason: str

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        objective = run.search.objective
        if objective == "accuracy":
            return ()
        message = f"{run.method} {self.reason}; set it to accuracy"
        return (Problem("search.objective", objective, message),)


@dataclass(frozen=True, slots=True)
class FixedClasses:
    """Splits with images of the same classes."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        if run.split_by == "image":
            return ()
        message = f"{run.method} knows only the classes that it was trained on; set it to image"
        return (Problem("data.split_by", run.split_by, message),)


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """A final training that starts from the weights of the search."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        message = f"the final training of {run.method} starts from its search; set it to null"
        given = {name: getattr(run.training, name) for name in ("weights", "ensemble")}
        return [
            Problem(f"training.{name}", str(value), message)
            for name, value in given.items()
            if value is not None
        ]


@dataclass(frozen=True, slots=True)
class NoInt8:
    """Networks without a single static graph; `reason` continues a sentence about them."""

    reason: str

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        if run.int8_max_drop is None:
            return ()
        message = (
            f"networks of {run.method} {self.reason} and have no single graph to quantise; "
            "set it to null"
        )
        return (Problem("promote.int8_max_drop", f"{run.int8_max_drop:g}", message),)


@dataclass(frozen=True, slots=True)
class NewClasses:
    """Splits with different classes, and no settings about single classes."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        problems = []
        if run.split_by != "class":
            message = (
                f"{run.method} learns new classes from a few examples, and is evaluated on classes "
                "it has not seen; set it to class"
            )
            problems.append(Problem("data.split_by", run.split_by, message))
        fixed = f"has no effect on {run.method}, whose networks know no fixed classes; "
        for name, field in BalanceConfig.model_fields.items():
            value = getattr(run.training, name)
            if value != field.default:
                message = f"{fixed}set it to {field.default}"
                problems.append(Problem(f"training.{name}", value, message))
        switches = [name for name in SWITCHES if name in type(run.training).model_fields]
        for name in ("weights", "teacher", "ensemble", *switches):
            if (value := getattr(run.training, name)) is not None:
                shown = json.dumps(value).strip('"')
                problems.append(Problem(f"training.{name}", shown, f"{fixed}set it to null"))
        if run.training.recipe != "paper":
            problems.append(Problem("training.recipe", run.training.recipe, f"{fixed}leave it out"))
        if run.max_class_drop is not None:
            message = f"{fixed}set it to null"
            problems.append(Problem("promote.max_class_drop", f"{run.max_class_drop:g}", message))
        return problems
