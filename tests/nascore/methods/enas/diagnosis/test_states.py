"""Instruments that look at a controller: conditioning, probes, and the identical-state test.

They are held against controllers of which the answer is known: one that forgets its state, one
whose weights are too small to condition on anything, and one that was trained to remember.
"""

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nascore.methods.enas.controller import Controller, State
from nascore.methods.enas.diagnosis import distances
from nascore.methods.enas.diagnosis.conditioning import conditioning, mean
from nascore.methods.enas.diagnosis.probes import noisy, property_probes, token_probes
from nascore.methods.enas.diagnosis.states import same_prefix, same_start
from nascore.methods.enas.options import ControllerOptions

CELL_201 = (5,) * 6


class ForgetfulController(Controller):
    """The defect of an early ENAS release: each step sees the last token and no state."""

    def _advance(self, x_BH: Tensor, state: State) -> State:
        return super()._advance(x_BH, (torch.zeros_like(state[0]), torch.zeros_like(state[1])))


def make_controller(*, spread: float = 6.0, kind: type[Controller] = Controller) -> Controller:
    torch.manual_seed(0)
    controller = kind(CELL_201, ControllerOptions(hidden_size=24))
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter *= spread
    return controller


def trained(loss: Callable[[Controller, Tensor], Tensor], num_steps: int) -> Controller:
    """A controller that was trained on uniform architectures."""
    controller = make_controller(spread=3)
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.02)
    for step in range(num_steps):
        optimizer.zero_grad()
        loss(controller, uniform(64, seed=100 + step)).backward()
        optimizer.step()
    return controller


@cache
def repeating() -> Controller:
    """Writes, from the state after an architecture, that one again."""

    def loss(controller: Controller, tokens_BT: Tensor) -> Tensor:
        start = controller.read_prefix(tokens_BT)
        return -controller.read(tokens_BT, start=start).log_prob_BT.mean()

    return trained(loss, 150)


@cache
def doubling() -> Controller:
    """Writes the first half of an architecture as its second half."""

    def loss(controller: Controller, tokens_BT: Tensor) -> Tensor:
        doubled_BT = tokens_BT[:, :3].repeat(1, 2)
        return -controller.read(doubled_BT).log_prob_BT[:, 3:].mean()

    return trained(loss, 150)


def uniform(num: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(CELL_201, size=(num, len(CELL_201))))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_hamming(tokens_NT: Tensor) -> dict[str, np.ndarray]:
    return {"hamming": distances.hamming(tokens_NT.numpy())}


# --- conditioning ---------------------------------------------------------------------------


def test_mean_divergence_against_its_definition() -> None:
    controller, tokens_NT = make_controller(), uniform(25)
    found = conditioning(controller, tokens_NT)
    log_probs = controller.distributions(tokens_NT)
    for t in range(6):
        over_all, beyond_last = [], []
        for i, j in itertools.permutations(range(25), 2):
            a, b = tokens_NT[i, :t], tokens_NT[j, :t]
            if torch.equal(a, b):
                continue
            p, q = log_probs[t][i].double(), log_probs[t][j].double()
            divergence = float(F.kl_div(q, p, log_target=True, reduction="sum"))
            over_all.append(divergence)
            if t > 1 and a[-1] == b[-1]:
                beyond_last.append(divergence)
        for value, expected in (
            (found.mean_kl[t], over_all),
            (found.mean_kl_beyond_last[t], beyond_last),
        ):
            assert value == (pytest.approx(np.mean(expected)) if expected else None)


def test_the_distributions_are_those_that_the_controller_reads() -> None:
    controller, tokens_NT = make_controller(), uniform(25)
    read = controller.read(tokens_NT).log_prob_BT
    for t, log_probs_NK in enumerate(controller.distributions(tokens_NT)):
        assert torch.equal(log_probs_NK.gather(1, tokens_NT[:, t : t + 1]).squeeze(1), read[:, t])


def test_a_controller_that_forgets_knows_its_last_token_and_no_more() -> None:
    sound, forgetful = (
        conditioning(make_controller(kind=kind), uniform(100))
        for kind in (Controller, ForgetfulController)
    )
    assert (mean(forgetful.mean_kl) or 0) > 1e-3
    assert mean(forgetful.mean_kl_beyond_last) == pytest.approx(0, abs=1e-12)
    assert (mean(sound.mean_kl_beyond_last) or 0) > 1e-3


def test_a_policy_that_never_looks_back_has_no_divergence() -> None:
    controller = make_controller()
    with torch.no_grad():
        for head in controller.heads:
            head.weight.zero_()  # type: ignore[operator]
    assert mean(conditioning(controller, uniform(50)).mean_kl) == pytest.approx(0, abs=1e-12)
    assert mean((None, None)) is None


# --- probes ---------------------------------------------------------------------------------


def test_what_is_in_the_state_is_read_off_and_what_is_not_is_not() -> None:
    tokens = uniform(400).numpy()
    code = np.eye(5)[tokens[:, 1]].reshape(400, 5)
    hidden = np.hstack([code, rng(1).normal(size=(400, 10))]) @ rng(2).normal(size=(15, 15))
    probes = token_probes(hidden, tokens, seed=0)
    assert probes[1].accuracy > 0.97
    for t in (0, 2, 3, 4, 5):
        assert abs(probes[t].gain) < 0.12
        assert 0.2 <= probes[t].chance < 0.3
    found = property_probes(
        hidden,
        {
            "second": tokens[:, 1].astype(float),
            "first": tokens[:, 0].astype(float),
            "flat": code[:, 0] * 0,
        },
        seed=0,
    )
    assert found["second"] == pytest.approx(1, abs=0.02)
    assert (found["first"] or 0) < 0.1
    assert found["flat"] is None


def test_noise_hides_what_is_faint_and_not_what_makes_up_the_state() -> None:
    tokens = uniform(400).numpy()
    hidden = np.hstack([np.eye(5)[tokens[:, 0]], 1e-4 * np.eye(5)[tokens[:, 1]]])
    exact = token_probes(hidden, tokens[:, :2], seed=0)
    assert [probe.accuracy for probe in exact] == [1, 1]
    strong, faint = token_probes(noisy(hidden, rng()), tokens[:, :2], seed=0)
    assert strong.accuracy > 0.95
    assert faint.gain < 0.1


def test_chance_is_the_most_frequent_value() -> None:
    tokens = np.zeros((50, 2), dtype=np.int64)
    tokens[:10, 1] = 3
    probes = token_probes(rng().normal(size=(50, 4)), tokens, seed=0)
    assert (probes[0].accuracy, probes[0].chance) == (1.0, 1.0)
    assert probes[1].chance == 0.8


def test_the_last_token_is_in_the_state_of_a_controller_that_forgets_and_the_first_is_not() -> None:
    tokens_NT = uniform(400)
    for kind, remembers in ((Controller, True), (ForgetfulController, False)):
        hidden = make_controller(spread=3, kind=kind).read_prefix(tokens_NT)[0].detach().numpy()
        probes = token_probes(hidden.astype(np.float64), tokens_NT.numpy(), seed=0)
        assert probes[-1].gain > 0.5
        assert (probes[-2].gain > 0.3) == remembers


# --- identical states -----------------------------------------------------------------------


def test_samples_from_one_state_are_alike_when_the_controller_was_trained_to_repeat() -> None:
    found = same_start(repeating(), uniform(50), by_hamming, generator=generator(), rng=rng())
    test = found["hamming"]
    assert test.difference == pytest.approx(test.between - test.within)
    assert test.difference > 1
    assert test.interval[0] > 0.5


def test_completions_of_one_beginning_are_alike_when_the_controller_was_trained_to_double() -> None:
    found = same_prefix(doubling(), uniform(100), by_hamming, generator=generator(), rng=rng())
    test = found["hamming"]
    assert test.within < 1.5
    assert test.difference > 0.8
    assert test.interval[0] > 0.5


def test_a_controller_that_forgets_does_not_tell_states_apart() -> None:
    controller = make_controller(kind=ForgetfulController)
    test = same_start(controller, uniform(50), by_hamming, generator=generator(), rng=rng())
    assert abs(test["hamming"].difference) < 0.05
    low, high = test["hamming"].interval
    assert low < 0 < high


def test_means_within_and_between_states_against_their_definition() -> None:
    controller, num, repeat = make_controller(), 4, 3
    starts_ST = uniform(num)
    found = same_start(
        controller, starts_ST, by_hamming, generator=generator(), rng=rng(), num_samples=repeat
    )["hamming"]
    hidden, cell = controller.read_prefix(starts_ST)
    start = hidden.repeat_interleave(repeat, 0), cell.repeat_interleave(repeat, 0)
    sampled = controller.sample(num * repeat, generator(), start=start)
    within, between = [], []
    for i, j in itertools.combinations(range(num * repeat), 2):
        same = i // repeat == j // repeat
        (within if same else between).append(int((sampled[i] != sampled[j]).sum()))
    assert found.within == pytest.approx(np.mean(within))
    assert found.between == pytest.approx(np.mean(between))


def test_completions_are_compared_behind_one_prefix() -> None:
    seen: list[Tensor] = []

    def spy(tokens_NT: Tensor) -> dict[str, np.ndarray]:
        seen.append(tokens_NT)
        return by_hamming(tokens_NT)

    starts_ST = uniform(30)
    same_prefix(make_controller(), starts_ST, spy, generator=generator(), rng=rng())
    (tokens_NT,) = seen
    assert tokens_NT.shape == (90, 6)
    assert torch.equal(tokens_NT[:, :3], starts_ST[:, :3].repeat(3, 1))
