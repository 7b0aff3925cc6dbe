"""Local search: climb from a random architecture over neighbours that differ in one token.

Source: White et al., Exploring the Loss Landscape in Neural Architecture Search, UAI 2021, which
found it hard to beat on small benchmarks. There all neighbours are tried and the climb goes on from
the best of them; a summit is followed by a new random start. Departures, each a switch: isomorphic
networks count as one, and the climb goes on from the first better neighbour, which is the stronger
baseline where a hundred children are all there is.
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

    The state is the place reached (`_place`, None before a new start), its neighbours that were
    never tried and the best one of those that were. It changes in `update` alone, so the history
    rebuilds it. With several workers a child of an older place may end late: it is then judged as
    if it were a neighbour of the present one.
    """

    def __init__(
        self, options: LocalSearchOptions, space: SearchSpace, seeds: Seeds, stream: str
    ) -> None:
        self._options, self._space, self._seeds, self._stream = options, space, seeds, stream
        self._accuracy: dict[str, float] = {}  # of every network seen
        self._place: tuple[float, Genotype] | None = None
        self._untried: dict[str, Genotype] = {}
        self._best_neighbour: tuple[float, Genotype] | None = None

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """A neighbour that nobody has tried or is trying; a new start when there is none."""
        rng = self._seeds.numpy(self._stream, "suggest", number)
        under_way = {self._key(genotype) for genotype in pending.values()}
        untried = [new for key, new in self._untried.items() if key not in under_way]
        if untried:
            return untried[int(rng.integers(len(untried)))]
        return sample_unseen(self._space, rng, self._accuracy.keys() | under_way, key=self._key)

    def update(self, child: Child) -> None:
        accuracy = _FAILED if child.objective is None else child.objective
        key = self._key(child.genotype)
        self._accuracy[key] = accuracy
        if self._place is None:
            if accuracy > _FAILED:  # a start that failed is followed by another one
                self._move_to(accuracy, child.genotype)
        else:
            self._untried.pop(key, None)
            self._consider(accuracy, child.genotype)
        self._climb()

    def _climb(self) -> None:
        """Moves on while that needs no new training; at a summit, asks for a new start."""
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

    def _move_to(self, accuracy: float, genotype: Genotype) -> None:
        self._place, self._untried, self._best_neighbour = (accuracy, genotype), {}, None
        for neighbour in base.neighbours(self._space, genotype):
            key = self._key(neighbour)
            if key in self._accuracy:
                self._consider(self._accuracy[key], neighbour)
            else:
                self._untried.setdefault(key, neighbour)

    def _consider(self, accuracy: float, neighbour: Genotype) -> None:
        if self._best_neighbour is None or accuracy > self._best_neighbour[0]:
            self._best_neighbour = accuracy, neighbour

    def _key(self, genotype: Genotype) -> str:
        if self._options.isomorphism:
            return self._space.canonical(genotype)
        return genotype.to_json()
