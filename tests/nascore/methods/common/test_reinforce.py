import math

import numpy as np
import pytest
import torch

from nascore.methods.common import reinforce


def test_reward_by_hand_and_its_gap_penalty() -> None:
    assert reinforce.gap_reward(0.8, 0.9) == pytest.approx(0.7**3)
    assert (
        reinforce.gap_reward(0.8, 0.95)
        < reinforce.gap_reward(0.8, 0.9)
        < reinforce.gap_reward(0.8, 0.8)
    )


def test_standardised_rewards_have_mean_0_and_variance_1() -> None:
    advantages = reinforce.standardise(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(advantages, [-math.sqrt(1.5), 0, math.sqrt(1.5)])


@pytest.mark.parametrize("rewards", [[], [0.5], [0.5, 0.5, 0.5]])
def test_nothing_to_compare_gives_no_advantage(rewards: list[float]) -> None:
    assert not reinforce.standardise(np.array(rewards)).any()


def test_ranks_become_normal_quantiles_and_ties_share_theirs() -> None:
    values = reinforce.rank_to_normal(np.array([5.0, -100.0, 5.0, 7.0]))
    assert values[0] == values[2]
    assert values[1] == pytest.approx(-1.1503, abs=1e-4)  # Phi^-1(1/8)
    assert values[3] == pytest.approx(1.1503, abs=1e-4)


def test_gaussian_log_probability_equals_torch() -> None:
    z, mean = torch.rand(5, 3), torch.rand(5, 3)
    expected = torch.distributions.Normal(mean, 0.3).log_prob(z).sum(1)
    torch.testing.assert_close(reinforce.gaussian_log_prob(z, mean, 0.3), expected)


def test_reinforce_moves_the_mean_towards_good_actions_and_from_bad_ones() -> None:
    action = torch.tensor([[0.9], [0.1]])
    mean = torch.full((2, 1), 0.5, requires_grad=True)
    advantage = torch.tensor([1.0, -1.0])
    reinforce.reinforce_loss(reinforce.gaussian_log_prob(action, mean, 0.5), advantage).backward()
    # dL/dmean = -A (a - mean) / sigma^2 / B, by hand: -0.8 for both.
    torch.testing.assert_close(mean.grad, torch.tensor([[-0.8], [-0.8]]))
