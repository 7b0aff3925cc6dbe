"""New networks among candidates, and random ones that were not proposed before."""

import itertools

import numpy as np
import pytest
import torch

from nascore.genotype import Genotype
from nascore.methods.nases.dedup import Deduplicator, random_unseen
from nascore.spaces.base import SearchSpace


class Multisets:
    """Token strings whose order does not matter."""

    identifier = "multisets"

    def __init__(self, *cardinalities: int) -> None:
        self.cardinalities = cardinalities

    def canonical(self, genotype: Genotype) -> str:
        return str(sorted(genotype.tokens))


def make(*cardinalities: int) -> SearchSpace:
    return Multisets(*cardinalities)  # type: ignore[return-value]


def test_each_new_network_is_returned_once() -> None:
    tokens = torch.tensor([[0, 1], [1, 0], [2, 2], [1, 1], [2, 2]])
    deduplicator = Deduplicator(make(3, 3))
    assert deduplicator.new_indices(tokens, {str([1, 1])}).tolist() == [0, 2]
    assert deduplicator.new_indices(tokens, set()).tolist() == [0, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_small_space_is_enumerated_for_the_last_network(seed: int) -> None:
    """One of 8,000 strings is left: a hundred draws would seldom find it."""
    space, rng = make(20, 20, 20), np.random.default_rng(seed)
    seen = {str(sorted(tokens)) for tokens in itertools.product(range(20), repeat=3)}
    assert random_unseen(space, seen, rng) is None
    last = random_unseen(space, seen - {str([7, 7, 7])}, rng)
    assert last is not None
    assert last.tokens == (7, 7, 7)


def test_a_large_space_repeats_a_network() -> None:
    class Everything:
        def __contains__(self, key: object) -> bool:
            return True

    space = make(*[30] * 4)
    assert random_unseen(space, Everything(), np.random.default_rng(0)) is not None
