"""The methods, by name. Importing this does not import torch; a module is loaded when used.

A method is one module that has a function for each pipeline step that depends on the method:

    pretrain(task) -> metrics                  what is learned before any child is trained
    search(task) -> SearchResult               the algorithm
    train_final(task, result) -> FinalModel    from scratch, unless the method says otherwise

and one line here. Nothing else in the repository knows a method by name.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from nascore.config import Section
from nascore.methods.options import NasesOptions, NasesPaperOptions, RandomOptions

if TYPE_CHECKING:
    from nascore.final import FinalModel
    from nascore.results import SearchResult
    from nascore.task import Task


class MethodModule(Protocol):
    """What a method's module offers; each function may be started again after a crash."""

    def pretrain(self, task: "Task") -> dict[str, float]: ...

    def search(self, task: "Task") -> "SearchResult": ...

    def train_final(self, task: "Task", result: "SearchResult") -> "FinalModel": ...


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method: its one-line summary, its settings, and where its code is."""

    summary: str
    options: type[Section]
    module: str

    def load(self) -> MethodModule:
        return cast(MethodModule, importlib.import_module(self.module))


METHODS: dict[str, Method] = {
    "nases": Method(
        "reinforcement learning in an architecture-embedding space",
        NasesOptions,
        "nascore.methods.nases",
    ),
    "nases-paper": Method(
        "NASES exactly as released, with its known defects as switches",
        NasesPaperOptions,
        "nascore.methods.nases",
    ),
    "random": Method(
        "random search: the baseline that every method must beat",
        RandomOptions,
        "nascore.methods.baselines",
    ),
}
