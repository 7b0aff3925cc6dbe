"""With the memory the hidden state is ordered by what was written, more than without it."""

from functools import cache
from statistics import median

import pytest
from torch import Tensor

from nascore.methods.enas.diagnosis.diagnosis import Diagnosis, diagnose, fixed_set
from nascore.methods.enas.learner import Learner
from nascore.methods.enas.options import EnasOptions, MemoryEnasOptions
from nascore.seeding import Seeds
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.nasbench201.space import Cell201Space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("one_thread"),
]

SEEDS = range(5)
NUM_UPDATES = 200
SPACE = Cell201Space(Cell201SpaceConfig())
CONTROLLER = {"lr": 0.005}


def reward(tokens_NT: Tensor) -> Tensor:
    """Pays for one operation, and for neighbours that are equal."""
    is_wanted = (tokens_NT == 3).double().mean(1)
    is_repeated = (tokens_NT[:, 1:] == tokens_NT[:, :-1]).double().mean(1)
    return 0.5 * is_wanted + 0.5 * is_repeated


@cache
def trained(seed: int, *, remembers: bool) -> Diagnosis:
    options = EnasOptions.model_validate({"controller": CONTROLLER})
    if remembers:
        options = MemoryEnasOptions.model_validate(
            {"controller": CONTROLLER, "memory": {"pretrain_steps": 500}}
        )
    learner = Learner(SPACE.cardinalities, options, Seeds(seed), "controller")
    learner.pretrain()
    for number in range(NUM_UPDATES):
        learner.update(number, reward)
    return diagnose(learner.controller, fixed_set(SPACE))


def spearman(found: Diagnosis) -> float:
    correlation = found.correlations["euclidean"]["edit"]
    return 0.0 if correlation is None else correlation.spearman


def test_states_are_ordered_by_the_graphs_that_were_written() -> None:
    """One set of architectures for all, which neither arm has chosen."""
    gains = [
        spearman(trained(seed, remembers=True)) - spearman(trained(seed, remembers=False))
        for seed in SEEDS
    ]
    assert median(gains) >= 0.1


def test_the_first_token_can_be_read_off_the_last_state() -> None:
    """Also when the state is noisy: what a random network keeps by chance is lost in noise."""
    clean = [trained(seed, remembers=True).token_probes[0].gain for seed in SEEDS]
    assert median(clean) >= 0.2
    noisy = {
        remembers: median(
            trained(seed, remembers=remembers).noisy_token_probes[0].gain for seed in SEEDS
        )
        for remembers in (True, False)
    }
    assert noisy[True] >= 0.2
    assert noisy[False] < noisy[True] - 0.2
