"""The policy network, and the arithmetic of independent Bernoulli variables."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from nascore.methods.instanas.controller import (
    PolicyNetwork,
    bounded,
    entropy,
    greedy,
    log_prob,
    make_policy_network,
    permuted,
    sample,
)


def images(number: int, size: int = 32, *, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def probabilities(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- the network ------------------------------------------------------------------------------


def test_network_is_that_of_the_release() -> None:
    """Stem 3-16, residual blocks of 16, 32 and 64 at strides 1, 2, 2, linear 64 to 85."""
    network = PolicyNetwork(3, (17, 5)).eval()
    convolutions = [
        (m.in_channels, m.out_channels, m.stride[0])
        for m in network.modules()
        if isinstance(m, torch.nn.Conv2d)
    ]
    assert convolutions == [
        *((3, 16, 1), (16, 16, 1), (16, 16, 1)),
        *((16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
    ]
    assert (network.head.in_features, network.head.out_features) == (64, 85)
    seen: list[int] = []
    network.stages.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[-1]))
    p_BLO = network(images(2))
    assert p_BLO.shape == (2, 17, 5)
    assert seen == [8]
    assert ((p_BLO > 0) & (p_BLO < 1)).all()


@pytest.mark.parametrize("size", [8, 9, 13, 32, 64])
@pytest.mark.parametrize(("num_stages", "pooling"), [(3, 1), (4, 2), (1, 1)])
def test_any_image_from_eight_pixels_on(size: int, num_stages: int, pooling: int) -> None:
    network = PolicyNetwork(3, (4, 5), channels=4, num_stages=num_stages, pooling=pooling)
    p_BLO = network(images(3, size))
    assert p_BLO.shape == (3, 4, 5)
    p_BLO.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_shortcuts_average_and_fill_up_with_zeros() -> None:
    """Where the body of a block is silent, its output is its averaged input beside zeros."""
    network = PolicyNetwork(3, (4, 5), channels=4, num_stages=2).eval()
    residual = network.stages[1]
    torch.nn.init.zeros_(residual.body[3].weight)
    x_BCHW = images(2, 6)[:, :1].repeat(1, 4, 1, 1).abs()
    out_BCHW = residual(x_BCHW)
    assert out_BCHW.shape == (2, 8, 3, 3)
    torch.testing.assert_close(out_BCHW[:, :4], torch.nn.functional.avg_pool2d(x_BCHW, 2))
    assert not out_BCHW[:, 4:].any()


def test_in_evaluation_images_do_not_depend_on_each_other() -> None:
    network = make_policy_network(3, (4, 5), seed=0)
    network(images(32))
    network.eval()
    with torch.no_grad():
        together = network(images(8))
        alone = torch.cat([network(x_CHW[None]) for x_CHW in images(8)])
    assert (together - alone).abs().max() < 1e-6
    assert together.std(dim=0).max() > 1e-4, "and they differ between images"


def test_weights_follow_the_seed_and_leave_the_generator() -> None:
    state = torch.get_rng_state()
    first, again, other = (
        make_policy_network(3, (4, 5), seed=seed, channels=4).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# --- the distribution -------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 0.7, 0.8, 0.95, 1.0])
def test_bounded_probabilities_stay_within_alpha(alpha: float) -> None:
    p_BLO = torch.cat([probabilities(50, 4, 5), torch.zeros(1, 4, 5), torch.ones(1, 4, 5)])
    found = bounded(p_BLO, alpha)
    low, high = torch.tensor([1 - alpha, alpha])
    assert found.min() >= low
    assert found.max() <= high
    torch.testing.assert_close(found[-2:, 0, 0], torch.stack([low, high]))
    torch.testing.assert_close(found, alpha * p_BLO + (1 - alpha) * (1 - p_BLO))


def test_bounding_does_not_change_what_is_likely() -> None:
    p_BLO = probabilities(20, 4, 5)
    assert torch.equal(greedy(bounded(p_BLO, 0.8)), greedy(p_BLO))


@pytest.mark.parametrize("alpha", [0.4, 1.1, math.nan])
def test_an_alpha_that_turns_the_policy_round_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        bounded(torch.rand(1, 2, 5), alpha)


def test_greedy_takes_what_is_at_least_as_likely_as_not() -> None:
    p_BLO = torch.tensor([[[0.49, 0.5, 0.51, 0.0, 1.0]]])
    assert greedy(p_BLO).tolist() == [[[False, True, True, False, True]]]


def test_samples_have_the_probabilities_and_follow_the_generator() -> None:
    p_BLO = probabilities(1, 4, 5).expand(20_000, -1, -1)
    first, again = (sample(p_BLO, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.dtype == torch.bool
    assert torch.equal(first, again)
    assert (first.float().mean(0) - p_BLO[0]).abs().max() < 0.02
    assert not sample(torch.zeros(100, 4, 5), torch.Generator()).any()
    assert sample(torch.ones(100, 4, 5), torch.Generator()).all()


def test_permuted_policies_are_the_same_ones_for_other_images() -> None:
    policy_BLO = probabilities(32, 4, 5) < 0.5
    moved = permuted(policy_BLO, torch.Generator().manual_seed(0))
    assert not torch.equal(moved, policy_BLO)
    rows = [sorted(map(str, policy.tolist())) for policy in (policy_BLO, moved)]
    assert rows[0] == rows[1]


def test_probabilities_of_all_policies_add_up_to_one() -> None:
    policies = torch.tensor(list(itertools.product([False, True], repeat=6))).view(-1, 2, 3)
    p_BLO = probabilities(1, 2, 3).double().expand(64, -1, -1)
    probs_B = log_prob(policies, p_BLO).exp()
    torch.testing.assert_close(probs_B.sum(), torch.tensor(1.0, dtype=torch.float64))
    by_hand = [
        math.prod(
            float(p) if bit else 1 - float(p)
            for bit, p in zip(policy.flatten(), p_BLO[0].flatten(), strict=True)
        )
        for policy in policies
    ]
    assert probs_B.tolist() == pytest.approx(by_hand)
    # Full entropy is -sum P log P over all policies.
    torch.testing.assert_close(entropy(p_BLO)[0], -(probs_B * probs_B.log()).sum())


def test_log_prob_of_what_is_certain_is_finite() -> None:
    p_BLO = torch.tensor([[[0.0, 1.0, 0.25]]])
    chosen = torch.tensor([[[False, True, True]]])
    assert log_prob(chosen, p_BLO).item() == pytest.approx(math.log(0.25))
    assert log_prob(~chosen, p_BLO).item() == -math.inf
    assert entropy(p_BLO).item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))


def test_entropy_prefers_neither_active_nor_inactive_operations() -> None:
    p = torch.linspace(0.01, 0.99, 99).view(-1, 1, 1)
    assert p[entropy(p).argmax()].item() == pytest.approx(0.5)
    torch.testing.assert_close(entropy(p), entropy(1 - p))
