"""What a method is: its entry in the registry, and the functions that its module `method` has.

    pretrain(task) -> metrics                  what is learned before any child is trained
    search(task) -> SearchResult               the algorithm
    train_final(task, result) -> FinalModel    from scratch, unless the method says otherwise

A method that proposes architectures one by one also makes its proposer without a task, for replays
of tables and for other loops; its `pretrain` and `search` go through the same two functions:

    prepare_proposer(options, space, seeds, controller) -> metrics
    make_proposer(options, space, seeds, stream, controller=...) -> Proposer
"""

import importlib
import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from nascore.config import Section
from nascore.methods.common.method_options import MethodOptions

if TYPE_CHECKING:
    from nascore.context import SearchContext
    from nascore.methods.nasib.planning import BudgetPlan
    from nascore.results import SearchResult
    from nascore.search.proposer import Proposer
    from nascore.seeding import Seeds
    from nascore.spaces.base import SearchSpace
    from nascore.training.final_model import FinalModel


class MethodModule(Protocol):
    """What a method's module offers; each function may be started again after a crash."""

    def pretrain(self, task: "SearchContext") -> dict[str, float]: ...

    def search(self, task: "SearchContext") -> "SearchResult": ...

    def train_final(self, task: "SearchContext", result: "SearchResult") -> "FinalModel": ...


class ProposingModule(MethodModule, Protocol):
    """What the module of a proposing method offers beside."""

    def prepare_proposer(
        self, options: Section, space: "SearchSpace", seeds: "Seeds", controller: Path
    ) -> dict[str, float]:
        """Learns what can be learned before any child is trained, and leaves it in `controller`.

        Returns:
            Metrics of that learning; empty when there was nothing to learn.
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
        """A proposer without history.

        Args:
            stream: names its random streams, so that two of one seed share nothing.
            controller: the folder that `prepare_proposer` has filled for these options and this
                space, with whichever seeds; it is only read, so many proposers may share it.
        """
        ...


class PlanningModule(MethodModule, Protocol):
    """What the module of a method whose search follows its budget offers beside."""

    def plan(self, task: "SearchContext") -> "BudgetPlan":
        """What the task's budget buys; nothing of it is spent."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method: its one-line summary, its settings, and where its code is.

    Attributes:
        is_serial: each proposal needs what came before it, so one worker is all it can use.
        shares_batches: its workers train one network together (`nascore.training.distributed`), and
            not children of their own.
        budget_units: in which its budget may be given.
        needs_shared_weights: the space must offer them (`nascore.spaces.base.SharedSpace`).
        control: the method that its search is held against, at equal cost.
        space: the only space that it searches, where it does not take any.
        keeps_weights: its final training starts from weights that the search leaves, so that an
            architecture alone cannot be trained anew.
        few_shot: it learns classes from a few examples: train, valid and test have different
            classes, not different images of the same ones.
        plans: its search follows its budget, and says beforehand what that buys.
        only_accuracy: why it can take no other `search.objective`; empty where it can.
        diagnosis: the module that `nas diagnose` calls (`nascore.methods.common.run_diagnosis`), if
            it has one.
        report: the module of its section of the report (`nascore.report.sections`), if it has one.
    """

    summary: str
    options: type[MethodOptions]
    module: str
    is_serial: bool = False
    shares_batches: bool = False
    budget_units: tuple[str, ...] = ("children", "steps", "seconds", "gpu_hours")
    needs_shared_weights: bool = False
    control: str = "random"
    space: str | None = None
    keeps_weights: bool = False
    plans: bool = False
    few_shot: bool = False
    only_accuracy: str = ""
    diagnosis: str | None = None
    report: str | None = None

    @property
    def presets(self) -> Path:
        """Folder of the configurations of the method: `<name>/<preset>.yaml`."""
        package, _, _ = self.module.rpartition(".")
        return Path(str(importlib.resources.files(package))) / "presets"

    def load(self) -> MethodModule:
        return cast(MethodModule, importlib.import_module(self.module))

    def load_planning(self) -> "PlanningModule":
        """The module of a method that plans."""
        assert self.plans
        return cast(PlanningModule, self.load())

    def load_proposing(self) -> ProposingModule | None:
        """The module of a method that proposes architectures; None when it searches otherwise."""
        module = self.load()
        return cast(ProposingModule, module) if hasattr(module, "make_proposer") else None
