"""The method: uniform samples, and a final network of a kind of its own."""

import dataclasses
import os
import signal
from pathlib import Path

from nascore.methods.copycat.network_kind import Scaled
from nascore.methods.copycat.options import CopycatOptions

from nascore.config import Section
from nascore.context import SearchContext
from nascore.genotype import Genotype
from nascore.results import SearchResult
from nascore.search.proposer import NONE_PENDING, Pending, Proposer
from nascore.search.random_search import RandomSearch
from nascore.search.runner import search_against_random
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.training.child import build_network
from nascore.training.final_model import FinalModel, train_network

Context = SearchContext[CopycatOptions]


class Copycat(RandomSearch):
    """Random search that kills its process once, at its second child, if a test asks for it."""

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        marker = os.environ.get("COPYCAT_DIES_AT_SECOND_CHILD")
        if number == 1 and marker and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().suggest(number, pending)


def prepare_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    return {}


def make_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    return Copycat(space, seeds, stream)


def pretrain(context: Context) -> dict[str, float]:
    return {}


def search(context: Context) -> SearchResult:
    return search_against_random(context, Copycat(context.space, context.seeds, "method"))


def train_final(context: Context, result: SearchResult) -> FinalModel:
    seed = context.seeds.integer("final", "weights")
    network = build_network(context.space, result.genotype, context.shape, seed=seed, final=True)
    final = train_network(context, Scaled(network), result.genotype)
    return dataclasses.replace(final, details={"copycat": {"width": context.options.width}})
