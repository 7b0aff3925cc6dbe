"""What the hidden state encodes, with a memory and without."""

import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from nascore.methods.enas.controller import Controller, State
from nascore.methods.enas.diagnosis.probes import TokenProbe, token_probes
from nascore.methods.enas.diagnosis.states import StateTest, same_prefix, same_start
from nascore.methods.enas.learner import Learner
from nascore.methods.enas.options import (
    ControllerOptions,
    EnasOptions,
    MemoryEnasOptions,
    MemoryOptions,
)
from nascore.seeding import Seeds

SMALL = (3, 4, 2, 3)
CELL_201 = (5,) * 6
TINY = ControllerOptions(hidden_size=8, architectures=4, lr=0.01)
REMEMBERED = MemoryOptions(capacity=30, warmup=12, batch_size=8, pretrain_steps=2)
Reward = Callable[[Tensor], Tensor]


def make_learner(
    options: EnasOptions, cardinalities: tuple[int, ...] = SMALL, *, seed: int = 0
) -> Learner:
    learner = Learner(cardinalities, options, Seeds(seed), "controller")
    learner.pretrain()
    return learner


def plain(controller: ControllerOptions = TINY) -> EnasOptions:
    return EnasOptions(controller=controller)


def remembering(
    controller: ControllerOptions = TINY, memory: MemoryOptions = REMEMBERED
) -> MemoryEnasOptions:
    return MemoryEnasOptions(controller=controller, memory=memory)


def planted(cardinalities: tuple[int, ...], seed: int = 0) -> Reward:
    """The share of tokens that agree with a string that nobody knows."""
    target_T = torch.from_numpy(np.random.default_rng(seed).integers(cardinalities))
    return lambda tokens_NT: (tokens_NT == target_T).double().mean(1)


def train(learner: Learner, reward: Reward, steps: range) -> list[dict[str, float]]:
    return [learner.update(step, reward) for step in steps]


LARGER = ControllerOptions(hidden_size=32, lr=0.01)


def test_the_state_encodes_architectures_that_it_has_not_seen() -> None:
    """Below the entropy of uniform tokens no decoder gets without looking at the state."""
    memory = MemoryOptions(pretrain_steps=150)
    learner = Learner(CELL_201, remembering(LARGER, memory), Seeds(0), "controller")
    before = learner.held_out_encoding_loss()
    metrics = learner.pretrain()
    assert before == pytest.approx(metrics["uniform_entropy"], abs=0.05)
    assert metrics["held_out_encoding_loss"] < metrics["uniform_entropy"] - 0.1
    assert metrics["held_out_encoding_loss"] == learner.held_out_encoding_loss()


def test_the_decoder_needs_the_state_of_the_very_architecture() -> None:
    memory = MemoryOptions(pretrain_steps=150)
    learner = make_learner(remembering(LARGER, memory), CELL_201)
    assert learner.encoder is not None
    tokens_BT = torch.from_numpy(np.random.default_rng(1).integers(5, size=(200, 6)))
    right = learner.encoder.loss(learner.controller, tokens_BT, torch.Generator().manual_seed(0))
    hidden_BH, _ = learner.controller.read_prefix(tokens_BT.roll(1, 0))
    shown_BT = torch.rand(tokens_BT.shape, generator=torch.Generator().manual_seed(0)) >= 0.5
    wrong = -learner.encoder.decoder(hidden_BH, tokens_BT, shown_BT).mean()
    assert right.item() < wrong.item() - 0.2


@pytest.mark.slow
def test_the_first_token_can_be_read_off_the_last_state_with_memory_and_less_without() -> None:
    """After as many updates on the same rewards, on one fixed set of uniform architectures."""
    memory = MemoryOptions(pretrain_steps=300)
    gains: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(3):
        for has_memory, options in ((True, remembering(LARGER, memory)), (False, plain(LARGER))):
            learner = make_learner(options, CELL_201, seed=seed)
            train(learner, planted(CELL_201, seed), range(150))
            gains[has_memory].append(_first_token(learner.controller).gain)
    assert statistics.median(gains[True]) >= 0.2
    assert statistics.median(gains[False]) <= statistics.median(gains[True]) - 0.2


def _first_token(controller: Controller) -> TokenProbe:
    rng = np.random.default_rng(5)
    tokens_NT = torch.from_numpy(rng.integers(5, size=(400, 6))).unique(dim=0)
    with torch.no_grad():
        hidden_NH = controller.read(tokens_NT).last[0].double().numpy()
    return token_probes(hidden_NH, tokens_NT.numpy(), seed=0)[0]


COPIES = (4,) * 6


def reward_for_copies(tokens_NT: Tensor) -> Tensor:
    """How much of the second half repeats the first: it pays to know what was written."""
    return (tokens_NT[:, :3] == tokens_NT[:, 3:]).double().mean(1)


def hamming(tokens_NT: Tensor) -> dict[str, np.ndarray]:
    return {"hamming": pdist(tokens_NT.numpy(), "hamming") * tokens_NT.shape[1]}


def state_tests(controller: Controller) -> tuple[StateTest, StateTest]:
    """By the same first half, and by the same start; differences in tokens of six."""
    rng = np.random.default_rng(5)
    tokens_ST = torch.from_numpy(rng.integers(COPIES, size=(200, 6)))
    generator = torch.Generator().manual_seed(0)
    prefix = same_prefix(controller, tokens_ST, hamming, generator=generator, rng=rng)
    start = same_start(controller, tokens_ST[:50], hamming, generator=generator, rng=rng)
    return prefix["hamming"], start["hamming"]


class StatelessController(Controller):
    """Zero recurrent weights, and nothing carried over."""

    def _advance(self, x_BH: Tensor, state: State) -> State:
        return super()._advance(0 * x_BH, (0 * state[0], 0 * state[1]))


@pytest.mark.slow
def test_what_follows_one_state_is_more_alike_with_memory() -> None:
    controller = ControllerOptions(hidden_size=32, lr=0.005, entropy_weight=0.02)
    memory = MemoryOptions(pretrain_steps=200)
    for seed in range(2):
        learner = make_learner(remembering(controller, memory), COPIES, seed=seed)
        train(learner, reward_for_copies, range(300))
        prefix, start = state_tests(learner.controller)
        assert prefix.difference > 0.4
        assert prefix.interval[0] > 0.2
        assert start.difference > 0.4
        without = make_learner(plain(controller), COPIES, seed=seed)
        train(without, reward_for_copies, range(300))
        assert abs(state_tests(without.controller)[0].difference) < 0.2
        stateless = StatelessController(COPIES, controller)
        stateless.load_state_dict(learner.controller.state_dict())
        prefix, start = state_tests(stateless)
        assert abs(prefix.difference) < 0.15
        assert abs(start.difference) < 0.05
