"""Regularized evolution.

Source: Real et al., Regularized Evolution for Image Classifier Architecture Search, AAAI 2019,
algorithm 1. The population starts with random architectures; then the best of a random sample is
mutated, and the child replaces the *oldest* member, so that no member stays because of one lucky
measurement. The paper has a population of 100 and samples of 25 for 20,000 children; the defaults
here are for a hundred children. A mutation changes one token.
"""

from collections import deque

from nascore.genotype import Genotype
from nascore.methods.baselines.options import RegularizedEvolutionOptions
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace


class RegularizedEvolution:
    """As published, an architecture may be proposed, and trained, repeatedly.

    The population is the last `population_size` children that finished, in the order in which they
    ended, so the history alone rebuilds it. Failed children never enter it, and those that other
    workers are training do not yet, as in the paper's parallel version.
    """

    def __init__(
        self, options: RegularizedEvolutionOptions, space: SearchSpace, seeds: Seeds, stream: str
    ) -> None:
        self._options, self._space, self._seeds, self._stream = options, space, seeds, stream
        self._population: deque[tuple[float, Genotype]] = deque(maxlen=options.population_size)

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        rng = self._seeds.numpy(self._stream, "suggest", number)
        if len(self._population) < self._options.population_size:
            return base.sample(self._space, rng)
        # With replacement, as the paper's pseudocode draws: the same member may be drawn again.
        drawn = rng.integers(len(self._population), size=self._options.sample_size)
        _, parent = max((self._population[i] for i in drawn), key=lambda member: member[0])
        return base.mutate(self._space, parent, rng)

    def update(self, child: Child) -> None:
        if child.objective is not None:
            self._population.append((child.objective, child.genotype))
