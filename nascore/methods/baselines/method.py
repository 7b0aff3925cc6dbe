"""The baselines that a method must beat: one module each, and what they share.

Which baseline a task asks for follows from the type of its options.
"""

from pathlib import Path

from nascore.config import Section
from nascore.context import SearchContext
from nascore.methods.baselines.evolution import RegularizedEvolution
from nascore.methods.baselines.local_search import LocalSearch
from nascore.methods.baselines.options import (
    LocalSearchOptions,
    RandomOptions,
    RegularizedEvolutionOptions,
    TpeOptions,
)
from nascore.methods.baselines.tpe import Tpe
from nascore.results import SearchResult
from nascore.search.proposer import Proposer
from nascore.search.random_search import RandomSearch
from nascore.search.runner import Control, search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.training.final_model import FinalModel, train_from_scratch

__all__ = [
    "LocalSearch",
    "RandomSearch",
    "RegularizedEvolution",
    "Tpe",
    "make_proposer",
    "prepare_proposer",
    "pretrain",
    "search",
    "train_final",
]


def prepare_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    """Nothing to learn beforehand."""
    return {}


def make_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    """The baseline whose options these are; `controller` is not read."""
    match options:
        case RegularizedEvolutionOptions():
            return RegularizedEvolution(options, space, seeds, stream)
        case LocalSearchOptions():
            return LocalSearch(options, space, seeds, stream)
        case TpeOptions():
            return Tpe(options, space, seeds, stream)
        case RandomOptions():
            return RandomSearch(space, seeds, stream)
        case _:
            raise TypeError(f"no baseline has options of type {type(options).__name__}")


def pretrain(task: SearchContext) -> dict[str, float]:
    """Nothing to learn beforehand."""
    return prepare_proposer(task.options, task.space, task.seeds, task.controller)


def search(task: SearchContext) -> SearchResult:
    """Children by the baseline's proposals, beside a random search at equal cost."""
    proposer = make_proposer(
        task.options, task.space, task.seeds, "method", controller=task.controller
    )
    control = None
    if task.search.control:
        control = Control(RandomSearch(task.space, task.seeds, "control"))
    return search_by_proposing(task, proposer, control)


def train_final(task: SearchContext, result: SearchResult) -> FinalModel:
    return train_from_scratch(task, result)
