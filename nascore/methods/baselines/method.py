"""The baselines that a method must beat; the type of the options selects the baseline."""

from pathlib import Path

from nascore.config import Section
from nascore.methods.baselines.evolution import RegularizedEvolution
from nascore.methods.baselines.local_search import LocalSearch
from nascore.methods.baselines.options import (
    LocalSearchOptions,
    RandomOptions,
    RegularizedEvolutionOptions,
    TpeOptions,
)
from nascore.methods.baselines.tpe import Tpe
from nascore.methods.common.proposing import ProposingSteps, prepare_nothing
from nascore.search.proposer import Proposer
from nascore.search.random_search import RandomSearch
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace

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


def make_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    """Make the baseline that has these options; `controller` is not read."""
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


prepare_proposer = prepare_nothing
_STEPS = ProposingSteps(prepare_proposer, make_proposer)
pretrain, search, train_final = _STEPS.pretrain, _STEPS.search, _STEPS.train_final
