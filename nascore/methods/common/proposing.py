"""The steps of a method that proposes architectures one by one, made of its two own functions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nascore.context import SearchContext
from nascore.results import SearchResult
from nascore.search.proposer import Proposer
from nascore.search.runner import search_against_random
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.training.final_model import FinalModel, train_from_scratch


class PrepareProposer(Protocol):
    """See `nascore.methods.base.ProposingModule.prepare_proposer`."""

    def __call__(
        self, options: Any, space: SearchSpace, seeds: Seeds, controller: Path
    ) -> dict[str, float]: ...


class MakeProposer(Protocol):
    """See `nascore.methods.base.ProposingModule.make_proposer`."""

    def __call__(
        self, options: Any, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
    ) -> Proposer: ...


def prepare_nothing(
    options: Any, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    """Return no metrics: the method learns from children alone."""
    return {}


def _nothing_spent(controller: Path) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class ProposingSteps:
    """`nascore.methods.base.MethodModule` of a proposing method.

    Attributes:
        prior_cost_s: returns the wall seconds that `prepare_proposer` took; they count in the
            search's budget and comparison.
    """

    prepare_proposer: PrepareProposer
    make_proposer: MakeProposer
    prior_cost_s: Callable[[Path], float] = _nothing_spent

    def pretrain(self, context: SearchContext) -> dict[str, float]:
        """Learn what can be learned before any child is trained."""
        return self.prepare_proposer(
            context.options, context.space, context.seeds, context.controller
        )

    def search(self, context: SearchContext) -> SearchResult:
        """Train proposed children, and those of a random search at equal cost."""
        proposer = self.make_proposer(
            context.options, context.space, context.seeds, "method", controller=context.controller
        )
        return search_against_random(
            context, proposer, prior_cost_s=self.prior_cost_s(context.controller)
        )

    def train_final(self, context: SearchContext, result: SearchResult) -> FinalModel:
        """Train the best architecture from scratch."""
        return train_from_scratch(context, result)
