"""The baselines that a method must beat. Each is a proposer of a few lines."""

from nascore import spaces
from nascore.final import FinalModel, train_from_scratch
from nascore.genotype import Genotype
from nascore.results import Child, SearchResult
from nascore.search import search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces import SearchSpace
from nascore.task import Task

_TRIES = 100  # draws before an architecture that was seen is accepted: the space is exhausted


class RandomSearch:
    """Uniform over token strings, without proposing the same network twice.

    Not repeating makes it the stronger baseline: a repeated architecture would waste a training.
    """

    def __init__(self, space: SearchSpace, seeds: Seeds, stream: str) -> None:
        self._space, self._seeds, self._stream = space, seeds, stream
        self._seen: set[str] = set()

    def suggest(self, number: int) -> Genotype:
        rng = self._seeds.numpy(self._stream, "suggest", number)
        for _ in range(_TRIES):
            genotype = spaces.sample(self._space, rng)
            if self._space.canonical(genotype) not in self._seen:
                break
        return genotype

    def update(self, child: Child) -> None:
        self._seen.add(self._space.canonical(child.genotype))


def pretrain(task: Task) -> dict[str, float]:
    """Nothing to learn beforehand."""
    return {}


def search(task: Task) -> SearchResult:
    control = RandomSearch(task.space, task.seeds, "control") if task.search.control else None
    return search_by_proposing(task, RandomSearch(task.space, task.seeds, "method"), control)


def train_final(task: Task, result: SearchResult) -> FinalModel:
    return train_from_scratch(task, result)
