"""Local search: climb from a random architecture over neighbours that differ in one token.

Source: White et al., Exploring the Loss Landscape in Neural Architecture Search, UAI 2021, which
found it hard to beat on small benchmarks. There all neighbours are evaluated and the climb
continues from the best; at a local optimum it restarts at random. Departures, each a setting:
isomorphic networks count as one, and the climb continues from the first better neighbour, which is
the stronger baseline for a hundred children.
"""

from nascore.genotype import Genotype
from nascore.methods.baselines.options import LocalSearchOptions
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.search.random_search import sample_unseen
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace

_FAILED = float("-inf")


class LocalSearch:
    """Hill climbing with random restarts that never proposes the same network twice.

    The state is the current architecture (`_place`, None before a start), its neighbours that were
    not evaluated and the best evaluated one. It changes in `update` alone, so the history rebuilds
    it. With several workers a neighbour of an earlier architecture may end late: it then counts as
    a neighbour of the current one.
    """

    def __init__(
        self, options: LocalSearchOptions, space: SearchSpace, seeds: Seeds, stream: str
    ) -> None:
        self._options, self._space, self._seeds, self._stream = options, space, seeds, stream
        self._objective: dict[str, float] = {}  # of each evaluated network
        self._place: tuple[float, Genotype] | None = None
        self._untried: dict[str, Genotype] = {}
        self._best_neighbour: tuple[float, Genotype] | None = None

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """Return a neighbour that was not proposed before, or a random start if there is none."""
        rng = self._seeds.numpy(self._stream, "suggest", number)
        under_way = {self._key(genotype) for genotype in pending.values()}
        untried = [new for key, new in self._untried.items() if key not in under_way]
        if untried:
            return untried[int(rng.integers(len(untried)))]
        return sample_unseen(self._space, rng, self._objective.keys() | under_way, key=self._key)

    def update(self, child: Child) -> None:
        objective = _FAILED if child.objective is None else child.objective
        key = self._key(child.genotype)
        self._objective[key] = objective
        if self._place is None:
            if objective > _FAILED:  # a start that failed is followed by another one
                self._move_to(objective, child.genotype)
        else:
            self._untried.pop(key, None)
            self._consider(objective, child.genotype)
        self._climb()

    def _climb(self) -> None:
        """Move while that needs no new training; at a local optimum, request a new start."""
        while self._place is not None:
            is_better = (
                self._best_neighbour is not None and self._best_neighbour[0] > self._place[0]
            )
            if self._untried and not (is_better and self._options.improvement == "first"):
                return
            if is_better and self._best_neighbour is not None:
                self._move_to(*self._best_neighbour)
            else:
                self._place, self._untried = None, {}

    def _move_to(self, objective: float, genotype: Genotype) -> None:
        self._place, self._untried, self._best_neighbour = (objective, genotype), {}, None
        for neighbour in base.neighbours(self._space, genotype):
            key = self._key(neighbour)
            if key in self._objective:
                self._consider(self._objective[key], neighbour)
            else:
                self._untried.setdefault(key, neighbour)

    def _consider(self, objective: float, neighbour: Genotype) -> None:
        if self._best_neighbour is None or objective > self._best_neighbour[0]:
            self._best_neighbour = objective, neighbour

    def _key(self, genotype: Genotype) -> str:
        if self._options.isomorphism:
            return self._space.canonical(genotype)
        return genotype.to_json()
