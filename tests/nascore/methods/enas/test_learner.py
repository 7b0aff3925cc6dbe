"""REINFORCE for the controller, with and without a memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nascore import checkpoint
from nascore.methods.enas.learner import Learner, NonFiniteRewardError
from nascore.methods.enas.options import (
    ControllerOptions,
    EnasOptions,
    MemoryEnasOptions,
    MemoryOptions,
)
from nascore.seeding import Seeds

SMALL = (3, 4, 2, 3)
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


def noting(reward: Reward, judged: list[Tensor]) -> Reward:
    """The same rewards; what they were asked for comes into `judged`."""

    def noted(tokens_NT: Tensor) -> Tensor:
        judged.append(tokens_NT)
        return reward(tokens_NT)

    return noted


def always(value: float) -> Reward:
    return lambda tokens_NT: torch.full((len(tokens_NT),), value)


def train(learner: Learner, reward: Reward, steps: range) -> list[dict[str, float]]:
    return [learner.update(step, reward) for step in steps]


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit; NaN is the reward of what was never judged."""
    return one.keys() == other.keys() and all(
        torch.allclose(one[k], other[k], rtol=0, atol=0, equal_nan=True) for k in one
    )


# --- REINFORCE --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [plain, remembering])
def test_it_finds_a_planted_optimum_long_before_uniform_sampling(
    options: Callable[[ControllerOptions], EnasOptions],
) -> None:
    """One of 4^8 = 65,536 strings, which uniform sampling takes as many draws for on average."""
    cardinalities = (4,) * 8
    controller = ControllerOptions(hidden_size=16, lr=0.01)
    for seed in range(2):
        learner = make_learner(options(controller), cardinalities, seed=seed)
        reward = planted(cardinalities, seed)
        judged: list[Tensor] = []
        train(learner, noting(reward, judged), range(150))
        assert float(reward(judged[0]).max()) < 1
        assert float(reward(torch.cat(judged)).max()) == 1, "found among 1,500"
        assert float(reward(learner.sample(200, "after")).mean()) > 0.75, "a quarter is chance"


def test_the_baseline_is_a_moving_average_of_rewards_before_the_update() -> None:
    options = ControllerOptions(hidden_size=8, architectures=4, baseline_decay=0.75)
    learner = make_learner(plain(options))
    seen = [learner.update(step, always(value)) for step, value in enumerate((0.2, 0.6, 1.0))]
    expected = [0.2, 0.75 * 0.2 + 0.25 * 0.6, 0.75 * (0.75 * 0.2 + 0.25 * 0.6) + 0.25]
    assert [metrics["baseline"] for metrics in seen] == pytest.approx(expected)
    assert [metrics["reward"] for metrics in seen] == pytest.approx([0.2, 0.6, 1.0])


def test_what_is_as_good_as_the_baseline_teaches_nothing() -> None:
    learner = make_learner(plain(TINY.model_copy(update={"entropy_weight": 0.0})))
    before = learner.controller.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    train(learner, always(1.0), range(3))
    assert are_equal(learner.controller.state_dict(), before)


def test_entropy_is_rewarded_and_never_punished() -> None:
    """With equal rewards nothing else moves the policy."""
    learner = make_learner(plain(TINY.model_copy(update={"entropy_weight": 1.0})))
    with torch.no_grad():
        for head in learner.controller.heads:
            head.bias += torch.linspace(0, 8, len(head.bias))  # type: ignore[arg-type, operator]
    metrics = train(learner, always(1.0), range(60))
    entropies = [one["entropy"] for one in metrics]
    assert entropies[-1] > entropies[0] + 0.1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("options", [plain(), remembering()])
def test_from_a_reward_that_is_no_number_nothing_is_learned(
    options: EnasOptions, value: float
) -> None:
    learner = make_learner(options)
    train(learner, planted(SMALL), range(3))
    before, bad = learner.state(), torch.tensor([0.5, 0.1, value, 0.3])
    with pytest.raises(
        NonFiniteRewardError, match=r"the reward of architecture \[.*\] is -?(nan|inf)"
    ):
        learner.update(3, lambda tokens: bad)
    assert are_equal(learner.state(), before)
    untouched = make_learner(options)
    train(untouched, planted(SMALL), range(3))
    for one in (learner, untouched):
        train(one, planted(SMALL), range(3, 5))
    assert are_equal(learner.state(), untouched.state()), "and it goes on as if nothing had been"


def test_samples_have_names() -> None:
    learner = make_learner(plain())
    first = learner.sample(20, "paths", 3)
    learner.sample(5, "others")
    assert torch.equal(learner.sample(20, "paths", 3), first)
    assert not torch.equal(learner.sample(20, "paths", 4), first)


# --- the memory beside it ---------------------------------------------------------------------


def test_what_was_judged_is_remembered_with_its_reward() -> None:
    learner = make_learner(remembering())
    assert learner.encoder is not None
    assert learner.encoder.memory.state()["rewards"].isnan().all(), "the warm-up was never judged"
    judged: list[Tensor] = []
    reward = planted(SMALL)
    learner.update(0, noting(reward, judged))
    state = learner.encoder.memory.state()
    kept = dict(zip(map(tuple, state["tokens"].tolist()), state["rewards"].tolist(), strict=True))
    for row in judged[0]:
        assert kept[tuple(row.tolist())] == pytest.approx(float(reward(row[None])))


def test_without_a_warm_up_it_learns_from_what_was_sampled() -> None:
    memory = MemoryOptions(capacity=30, warmup=0, batch_size=8)
    metrics = train(make_learner(remembering(memory=memory)), planted(SMALL), range(2))
    assert ["encoding_loss" in one for one in metrics] == [False, True]


def test_equal_seeds_start_from_the_same_policy_with_and_without_memory() -> None:
    without = make_learner(plain())
    memory = REMEMBERED.model_copy(update={"pretrain_steps": 0})
    with_memory = make_learner(remembering(memory=memory))
    assert are_equal(with_memory.controller.state_dict(), without.controller.state_dict())
    assert torch.equal(with_memory.sample(9, "x"), without.sample(9, "x"))


def test_no_weight_on_the_memory_is_plain_enas_bit_for_bit() -> None:
    learners = [
        make_learner(options)
        for options in (
            plain(),
            remembering(memory=REMEMBERED.model_copy(update={"weight": 0.0})),
            remembering(),
        )
    ]
    for learner in learners:
        train(learner, planted(SMALL), range(20))
    without, zero, some = (learner.state() for learner in learners)
    assert are_equal(without, zero)
    assert not are_equal(without, {name: some[name] for name in without if name in some})


# --- what survives ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [plain(), remembering()], ids=["plain", "with memory"])
def test_read_back_at_any_step_it_goes_on_bit_for_bit(tmp_path: Path, options: EnasOptions) -> None:
    reward, num_steps = planted(SMALL), 12
    whole = make_learner(options)
    expected_metrics = train(whole, reward, range(num_steps))
    for step in np.random.default_rng(0).choice(num_steps + 1, size=4, replace=False).tolist():
        first = make_learner(options)
        train(first, reward, range(step))
        checkpoint.save(tmp_path / "learner.ckpt", first.state(), {}, "learner")
        second = Learner(SMALL, options, Seeds(0), "controller")  # without its pre-training
        second.load_state(checkpoint.load(tmp_path / "learner.ckpt", "learner")[0])
        assert train(second, reward, range(step, num_steps)) == expected_metrics[step:]
        assert are_equal(second.state(), whole.state())


def test_the_state_is_a_copy() -> None:
    learner = make_learner(remembering())
    train(learner, planted(SMALL), range(2))
    state = learner.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    train(learner, planted(SMALL), range(2, 4))
    assert are_equal(state, before)
    assert not are_equal(learner.state(), before)
