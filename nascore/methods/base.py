"""A method: its entry in the registry, and the functions of its module `method`.

    pretrain(context) -> metrics                  training before any child is trained
    search(context) -> SearchResult               the algorithm
    train_final(context, result) -> FinalModel    from scratch, unless documented otherwise

A method that proposes architectures one by one also makes its proposer without a context, for
replays of tables and for other loops; its `pretrain` and `search` use the same two functions:

    prepare_proposer(options, space, seeds, controller) -> metrics
    make_proposer(options, space, seeds, stream, controller=...) -> Proposer

A method whose search follows its budget also has `plan(context) -> BudgetPlan`.
"""

import importlib
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from nascore.config import Section
from nascore.errors import Problem
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.requirements import FixedClasses, NewClasses, Requirement, RunSettings, SplitBy

if TYPE_CHECKING:
    from nascore.context import SearchContext
    from nascore.results import SearchResult
    from nascore.search.proposer import Proposer
    from nascore.seeding import Seeds
    from nascore.spaces.base import SearchSpace
    from nascore.training.final_model import FinalModel


class MethodModule(Protocol):
    """The module of a method; each function may be started again after a crash."""

    def pretrain(self, context: "SearchContext[Any]") -> dict[str, float]:
        """Train what is trained before any child, store it in `context.controller`."""
        ...

    def search(self, context: "SearchContext[Any]") -> "SearchResult":
        """Search until the budget is spent or a stop is requested."""
        ...

    def train_final(self, context: "SearchContext[Any]", result: "SearchResult") -> "FinalModel":
        """Train the network of the chosen architecture and test it once."""
        ...


class ProposingModule(MethodModule, Protocol):
    """The module of a method that proposes architectures one by one."""

    def prepare_proposer(
        self, options: Section, space: "SearchSpace", seeds: "Seeds", controller: Path
    ) -> dict[str, float]:
        """Train what is trained before any child, and store it in `controller`.

        Returns:
            Metrics of that training; empty when there was nothing to train.
        """
        ...

    def make_proposer(
        self,
        options: Section,
        space: "SearchSpace",
        seeds: "Seeds",
        stream: str,
        *,
        controller: Path,
    ) -> "Proposer":
        """Return a proposer without history.

        Args:
            stream: names its random streams, so that two proposers of one seed share nothing.
            controller: the folder that `prepare_proposer` has filled for these options and this
                space, with whichever seeds; it is only read, so many proposers may share it.
        """
        ...


class BudgetPlan(Protocol):
    """What a search would do with its budget."""

    def lines(self) -> list[str]:
        """Return the plan as text."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        ...


class PlanningModule(MethodModule, Protocol):
    """The module of a method whose search follows its budget."""

    def plan(self, context: "SearchContext[Any]") -> BudgetPlan:
        """Return what the search would do with its budget; nothing of it is spent."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method.

    Attributes:
        summary: one line.
        options: the class of its settings, `search.options`.
        module: dotted name of the module with its functions.
        requirements: conditions on the settings of a run.
        worker_layout: `study`: each worker trains children of a shared study; `group`: all workers
            train one network together (`nascore.training.distributed`).
        split_by: what the splits of the data have apart: images of the same classes, or classes,
            for methods that learn new classes from a few examples.
        control: the method that it is compared with, at equal cost.
        new_search_reason: why new data need a new search, although the architecture is known;
            continues a sentence that begins with the method. Empty where they do not.
        diagnosis: the module that `nas diagnose` calls (`nascore.methods.common.run_diagnosis`), if
            it has one.
        report: the module of its section of the report (`nascore.report.sections`), if it has one.
    """

    summary: str
    options: type[MethodOptions]
    module: str
    requirements: tuple[Requirement, ...] = ()
    worker_layout: Literal["study", "group"] = "study"
    split_by: SplitBy = "image"
    control: str = "random"
    new_search_reason: str = ""
    diagnosis: str | None = None
    report: str | None = None

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        """Return the settings of a run with which the method cannot work."""
        classes = FixedClasses() if self.split_by == "image" else NewClasses()
        return [
            problem
            for requirement in (classes, *self.requirements)
            for problem in requirement.problems(run)
        ]

    @property
    def presets(self) -> Path:
        """Folder of the configurations of the method: `<name>/<preset>.yaml`."""
        package, _, _ = self.module.rpartition(".")
        return Path(str(importlib.resources.files(package))) / "presets"

    def load(self) -> MethodModule:
        """Import the module of the method."""
        return cast(MethodModule, importlib.import_module(self.module))

    def load_planning(self) -> PlanningModule | None:
        """Import the module of a method that plans; return None for other methods."""
        module = self.load()
        return cast(PlanningModule, module) if hasattr(module, "plan") else None

    def load_proposing(self) -> ProposingModule | None:
        """Import the module of a method that proposes; return None for other methods."""
        module = self.load()
        return cast(ProposingModule, module) if hasattr(module, "make_proposer") else None
