"""The policy of ENAS: exact on spaces small enough to list, and state that is really carried."""

import itertools
import statistics
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from nascore.methods.enas.controller import Controller, State
from nascore.methods.enas.options import ControllerOptions

SMALL = (2, 3, 2)
CELL_201 = (5,) * 6
ENAS_MICRO = (2, 5, 2, 5, 3, 5, 3, 5, 4, 5, 4, 5, 5, 5, 5, 5, 6, 5, 6, 5) * 2


def make_controller(
    cardinalities: tuple[int, ...] = SMALL, *, spread: float = 1.0, kind: type = Controller
) -> Controller:
    """A policy far from uniform: weights `spread` times wider than the initial ones."""
    torch.manual_seed(0)
    controller: Controller = kind(cardinalities, ControllerOptions(hidden_size=16))
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter *= spread
    return controller


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(num: int, cardinalities: tuple[int, ...], seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(cardinalities, size=(num, len(cardinalities))))


def all_strings(cardinalities: tuple[int, ...]) -> Tensor:
    return torch.tensor(list(itertools.product(*map(range, cardinalities))))


# --- a distribution over token strings ------------------------------------------------------


def test_probabilities_of_all_strings_sum_to_one() -> None:
    controller = make_controller(spread=10)
    probs_N = controller.read(all_strings(SMALL)).log_prob_BT.sum(1).exp().detach()
    assert probs_N.sum().item() == pytest.approx(1, abs=1e-5)
    assert float(probs_N.max() / probs_N.min()) > 1.5, "the test means nothing on a uniform policy"


def test_samples_are_as_frequent_as_the_policy_says() -> None:
    controller = make_controller(spread=10)
    strings = all_strings(SMALL)
    probs_N = controller.read(strings).log_prob_BT.sum(1).exp()
    num = 40_000
    tokens_BT = controller.sample(num, generator())
    counts_N = (tokens_BT[:, None] == strings).all(2).sum(0)
    deviations_N = (num * probs_N * (1 - probs_N)).sqrt()
    assert float(((counts_N - num * probs_N) / deviations_N).abs().max()) < 4


def test_entropy_is_that_of_the_whole_distribution() -> None:
    """By the chain rule, -sum_a p(a) log p(a) = sum_a p(a) sum_t H(. | a_<t)."""
    controller = make_controller(spread=10)
    reading = controller.read(all_strings(SMALL))
    log_prob_N = reading.log_prob_BT.sum(1)
    expected = -(log_prob_N.exp() * log_prob_N).sum()
    torch.testing.assert_close((log_prob_N.exp() * reading.entropy_BT.sum(1)).sum(), expected)


def test_logits_are_bounded_however_large_the_weights() -> None:
    controller = make_controller(spread=1e4)
    log_prob_BT = controller.read(uniform(50, SMALL)).log_prob_BT
    # The least likely of K values has at least 1 / (1 + (K - 1) e^(2 * 2.5)).
    for t, num_values in enumerate(SMALL):
        least = -np.log(1 + (num_values - 1) * np.exp(5.0))
        assert float(log_prob_BT[:, t].min()) >= least - 1e-5
    assert float(log_prob_BT.min()) < -4, "the bound is reached"


def test_temperature_divides_the_logits() -> None:
    hot = make_controller(spread=10)
    cold = Controller(SMALL, ControllerOptions(hidden_size=16, temperature=0.5, tanh_constant=1.1))
    cold.load_state_dict(hot.state_dict())
    state = hot.read_prefix(uniform(4, SMALL)[:, :1])
    logits_BK = hot.heads[1](state[0])
    for controller, expected_BK in (
        (hot, 2.5 * torch.tanh(logits_BK / 5.0)),
        (cold, 1.1 * torch.tanh(logits_BK / 0.5)),
    ):
        torch.testing.assert_close(controller.log_probs(1, state), expected_BK.log_softmax(1))


# --- sampling -------------------------------------------------------------------------------


@pytest.mark.parametrize("cardinalities", [CELL_201, ENAS_MICRO, (1, 2)])
def test_samples_are_strings_of_the_space(cardinalities: tuple[int, ...]) -> None:
    tokens_BT = make_controller(cardinalities).sample(500, generator())
    assert tokens_BT.dtype == torch.int64
    assert tokens_BT.shape == (500, len(cardinalities))
    assert not tokens_BT.requires_grad
    assert bool((tokens_BT >= 0).all())
    assert (tokens_BT.max(0).values + 1).tolist() == list(cardinalities), "all values occur"


def test_sampling_depends_on_the_generator_alone() -> None:
    controller = make_controller(ENAS_MICRO)
    first = controller.sample(20, generator(3))
    torch.manual_seed(99)
    assert torch.equal(controller.sample(20, generator(3)), first)
    assert not torch.equal(controller.sample(20, generator(4)), first)


def test_one_architecture_does_not_depend_on_those_beside_it() -> None:
    """Rows that start from different states follow the distributions of their own state."""
    controller = make_controller(spread=10)
    starts = [controller.read_prefix(prefix) for prefix in (torch.zeros(1, 3).long(), TWOS)]
    num = 10_000
    start = (
        torch.cat([h_1H.expand(num, -1) for h_1H, _ in starts]),
        torch.cat([c_1H.expand(num, -1) for _, c_1H in starts]),
    )
    tokens_BT = controller.sample(2 * num, generator(), start=start)
    for i, one in enumerate(starts):
        wide = one[0].expand(12, -1), one[1].expand(12, -1)
        probs_N = controller.read(all_strings(SMALL), start=wide).log_prob_BT.sum(1).exp()
        mine = tokens_BT[i * num : (i + 1) * num]
        shares_N = (mine[:, None] == all_strings(SMALL)).all(2).double().mean(0)
        torch.testing.assert_close(shares_N, probs_N.double(), atol=0.02, rtol=0)


TWOS = torch.tensor([[1, 2, 1]])


def test_completions_follow_the_policy_after_the_prefix() -> None:
    controller = make_controller(spread=10)
    num = 20_000
    state = controller.read_prefix(torch.tensor([[1]]).expand(num, -1))
    tokens_BR = controller.complete(state, 1, generator())
    assert tokens_BR.shape == (num, 2)
    rests = all_strings(SMALL[1:])
    strings = torch.cat([torch.ones(len(rests), 1).long(), rests], dim=1)
    probs_N = controller.read(strings).log_prob_BT[:, 1:].sum(1).exp()
    shares_N = (tokens_BR[:, None] == rests).all(2).double().mean(0)
    torch.testing.assert_close(shares_N, probs_N.double(), atol=0.015, rtol=0)


@pytest.mark.parametrize(("cardinalities", "limit_ms"), [(CELL_201, 100), (ENAS_MICRO, 400)])
def test_a_thousand_architectures_at_once_are_quick(
    cardinalities: tuple[int, ...], limit_ms: float, one_thread: None
) -> None:
    """On one core, with the default size; in seconds of the processor, since other work runs
    beside it."""
    controller = Controller(cardinalities, ControllerOptions())
    durations_s = []
    for seed in range(9):
        start = time.process_time()
        controller.sample(1000, generator(seed))
        durations_s.append(time.process_time() - start)
    assert 1000 * statistics.median(durations_s) <= limit_ms


# --- reading --------------------------------------------------------------------------------


def test_reading_goes_through_the_states_of_its_prefixes() -> None:
    controller = make_controller(CELL_201)
    tokens_BT = uniform(7, CELL_201)
    reading = controller.read(tokens_BT)
    assert reading.hidden_BTH.shape == (7, 6, 16)
    for t in range(6):
        state = controller.read_prefix(tokens_BT[:, :t])
        log_probs_BK = controller.log_probs(t, state)
        chosen_B = log_probs_BK.gather(1, tokens_BT[:, t : t + 1]).squeeze(1)
        torch.testing.assert_close(chosen_B, reading.log_prob_BT[:, t])
        after = controller.read_prefix(tokens_BT[:, : t + 1])
        torch.testing.assert_close(after[0], reading.hidden_BTH[:, t])
    torch.testing.assert_close(after, reading.last)


def test_reading_one_architecture_is_reading_it_among_others() -> None:
    controller = make_controller(ENAS_MICRO)
    tokens_BT = uniform(9, ENAS_MICRO)
    torch.testing.assert_close(
        controller.read(tokens_BT[3:4]).hidden_BTH, controller.read(tokens_BT).hidden_BTH[3:4]
    )


def test_gradients_reach_all_that_the_policy_is_made_of() -> None:
    controller = make_controller(CELL_201)
    reading = controller.read(uniform(200, CELL_201))
    (reading.log_prob_BT.sum() + reading.last[0].sum()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in controller.parameters())


# --- the state is carried -------------------------------------------------------------------


class ForgetfulController(Controller):
    """The defect of an early ENAS release: each step sees the last token and no state."""

    def _advance(self, x_BH: Tensor, state: State) -> State:
        return super()._advance(x_BH, (torch.zeros_like(state[0]), torch.zeros_like(state[1])))


def influence_of_the_first_token(controller: Controller) -> float:
    """How far the last hidden state moves when nothing but the first token changes."""
    tokens_BT = uniform(20, controller.cardinalities)
    changed_BT = tokens_BT.clone()
    changed_BT[:, 0] = (tokens_BT[:, 0] + 1) % controller.cardinalities[0]
    difference_BH = controller.read(tokens_BT).last[0] - controller.read(changed_BT).last[0]
    return float(difference_BH.abs().amax(1).min())


def test_the_last_state_depends_on_the_first_token() -> None:
    assert influence_of_the_first_token(make_controller(CELL_201)) > 1e-6


def test_a_state_that_is_not_carried_is_noticed() -> None:
    assert influence_of_the_first_token(make_controller(CELL_201, kind=ForgetfulController)) == 0


def test_the_start_state_matters_and_is_zero_when_not_given() -> None:
    controller = make_controller(CELL_201)
    tokens_BT = uniform(5, CELL_201)
    zeros = torch.zeros(5, 16), torch.zeros(5, 16)
    encoded = controller.read(uniform(5, CELL_201, seed=1)).last
    plain, given, moved = (
        controller.read(tokens_BT, start=start).log_prob_BT for start in (None, zeros, encoded)
    )
    assert torch.equal(plain, given)
    assert not torch.allclose(plain, moved)
