"""Window, reward and loss: identities of the formulas, and where gradients go."""

import itertools
import math
import pickle

import pytest
import torch
from torch import Tensor

from nascore.errors import InputError
from nascore.methods.instanas.controller import (
    bounded,
    entropy,
    greedy,
    log_prob,
    make_policy_network,
    sample,
)
from nascore.methods.instanas.reward import Window, WindowSchedule, policy_loss, quality, reward
from nascore.methods.instanas.supernet import make_metagraph
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace

WINDOW = Window(0.25, 2.5)


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- the window -------------------------------------------------------------------------------


@pytest.mark.parametrize(("lower", "upper"), [(1, 1), (2, 1), (1, math.nan), (0, math.inf)])
def test_a_window_that_would_turn_the_parabola_is_refused(lower: float, upper: float) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(lower, upper)


def test_the_window_goes_from_the_start_to_the_end() -> None:
    schedule = WindowSchedule(minimum=1.0, baseline=10.0, maximum=40.0)
    assert schedule.at(0) == Window(1.0, 28.0)
    assert schedule.at(0.5) == Window(1.0, 16.5)
    assert schedule.at(1) == Window(1.0, 5.0)
    uppers = [schedule.at(epoch / 50).upper for epoch in range(51)]
    assert all(later < earlier for earlier, later in itertools.pairwise(uppers))


@pytest.mark.parametrize(
    "numbers",
    [
        {"minimum": 5.0, "baseline": 10.0, "maximum": 40.0},  # ends at its lower end
        {"minimum": 6.0, "baseline": 10.0, "maximum": 40.0},
        {"minimum": 1.0, "baseline": 10.0, "maximum": 7.0},  # goes up
        {"minimum": 1.0, "baseline": math.nan, "maximum": 40.0},
        {"minimum": 1.0, "baseline": 10.0, "maximum": math.inf},
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_before_the_search(
    numbers: dict[str, float],
) -> None:
    with pytest.raises(InputError, match="must fall") as caught:
        WindowSchedule(**numbers, key="search.options.reward")
    problem = pickle.loads(pickle.dumps(caught.value)).problems[0]
    assert problem.key == "search.options.reward"
    assert f"{numbers['minimum']:g}" in problem.message
    assert "measure the table again" in problem.message


@pytest.mark.parametrize("rho", [-0.1, 1.1, math.nan])
def test_more_than_all_of_a_search_cannot_be_done(rho: float) -> None:
    with pytest.raises(ValueError, match="rho must be within 0 and 1"):
        WindowSchedule(1.0, 10.0, 40.0).at(rho)


# --- the reward -------------------------------------------------------------------------------


def test_quality_is_one_in_the_middle_and_zero_at_the_ends_and_beyond() -> None:
    middle = (WINDOW.lower + WINDOW.upper) / 2
    found = quality(of(WINDOW.lower, WINDOW.upper, 0.0, 3.0, 1e9, middle), WINDOW)
    assert found.tolist() == pytest.approx([0, 0, 0, 0, 0, 1])
    assert found[-1] == 1


def test_quality_is_the_formula_of_the_release() -> None:
    latency = torch.linspace(0, 3, 61, dtype=torch.float64)
    lb, ub = WINDOW.lower, WINDOW.upper
    expected = [max(0, (ub - x) * (x - lb) / ((ub - lb) ** 2 / 4)) for x in latency.tolist()]
    assert quality(latency, WINDOW).tolist() == pytest.approx(expected)


def test_a_wrong_answer_has_no_reward() -> None:
    latency = torch.rand(64) * 3
    correct = torch.arange(64) % 2 == 0
    found = reward(correct, latency, WINDOW)
    assert (found[~correct] == 0).all()
    torch.testing.assert_close(found[correct], 30 * quality(latency, WINDOW)[correct])


# --- the loss ---------------------------------------------------------------------------------


def test_loss_is_the_sum_over_images_and_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    p_BLO = bounded(torch.rand(6, 4, 5, generator=generator, dtype=torch.float64))
    policy = sample(p_BLO, generator)
    sampled, usual = torch.rand(2, 6, generator=generator, dtype=torch.float64)
    expected = 0.0
    for b, i, j in itertools.product(range(6), range(4), range(5)):
        p, bit = float(p_BLO[b, i, j]), bool(policy[b, i, j])
        advantage = float(sampled[b] - usual[b])
        expected -= advantage * math.log(p if bit else 1 - p)
        expected -= 0.8 * -(p * math.log(p) + (1 - p) * math.log(1 - p))
    found = policy_loss(log_prob(policy, p_BLO), entropy(p_BLO), sampled, usual, entropy_weight=0.8)
    assert float(found) == pytest.approx(expected / 6)


def test_rewards_carry_no_gradient() -> None:
    leaves = [torch.rand(4, requires_grad=True) for _ in range(4)]
    policy_loss(*leaves).backward()
    assert all(leaf.grad is not None for leaf in leaves[:2])
    assert all(leaf.grad is None for leaf in leaves[2:])


def test_what_is_better_than_greedy_becomes_likelier() -> None:
    logits = torch.zeros(1, 1, 5, requires_grad=True)
    policy = torch.tensor([[[True, False, False, True, False]]])
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for better in (1.0, -1.0):
        with torch.no_grad():
            logits.zero_()
        p_BLO = bounded(logits.sigmoid())
        loss = policy_loss(
            log_prob(policy, p_BLO), entropy(p_BLO), of(better), of(0.0), entropy_weight=0.0
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.equal(logits > 0, policy if better > 0 else ~policy)


def test_a_controller_pass_leaves_the_meta_graph_bit_identical() -> None:
    """Weights, buffers and gradients; the controller learns through log_prob and entropy alone."""
    space, shape = MobileSpace(MobileSpaceConfig(stages=((4, 2, 1),))), ImageShape(3, 8, 5)
    graph = make_metagraph(space, shape, seed=0).eval()
    controller = make_policy_network(3, graph.policy_shape, seed=0, channels=4)
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(16, 3, 8, 8, generator=generator)
    y_B = torch.randint(5, (16,), generator=generator)
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    cost_LO = torch.rand(graph.policy_shape, generator=generator)

    p_BLO = controller(x_BCHW)
    within_BLO = bounded(p_BLO)
    within_BLO.retain_grad()
    sampled, usual = sample(within_BLO, generator), greedy(p_BLO)
    assert not sampled.requires_grad
    assert not usual.requires_grad
    rewards = []
    for policy in (sampled, usual):
        latency_B = (graph.effective(policy) * cost_LO).sum(dim=(1, 2))
        # With gradients on, on purpose: even then none reaches the graph.
        correct_B = graph(x_BCHW, policy).argmax(1) == y_B
        rewards.append(reward(correct_B, latency_B, Window(0.0, 8.0)))
    policy_loss(log_prob(sampled, within_BLO), entropy(within_BLO), *rewards).backward()

    assert all(torch.equal(before[name], tensor) for name, tensor in graph.state_dict().items())
    assert all(parameter.grad is None for parameter in graph.parameters())
    assert all(parameter.grad is not None for parameter in controller.parameters())
    advantage_B = (rewards[0] - rewards[1])[:, None, None]
    assert advantage_B.any(), "else nothing would be shown"
    p, bit = within_BLO.detach(), sampled.float()
    of_log_prob = -advantage_B * (bit / p - (1 - bit) / (1 - p))
    of_entropy = -0.8 * ((1 - p) / p).log()
    torch.testing.assert_close(within_BLO.grad, (of_log_prob + of_entropy) / 16)
