"""Do policies differ between images? Measures that are zero for a constant controller."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from nascore.methods.instanas.controller import greedy
from nascore.methods.instanas.decisions import (
    explain,
    extremes,
    mean_hamming,
    most_used,
    mutual_information,
    num_distinct,
    policy_entropy,
)
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace, effective


def policies(number: int, *, seed: int = 0, size: tuple[int, int] = (3, 5)) -> Tensor:
    return torch.rand(number, *size, generator=torch.Generator().manual_seed(seed)) < 0.4


def test_a_constant_controller_has_one_policy_and_says_nothing_of_the_image() -> None:
    p_BLO = torch.linspace(0.1, 0.9, 15).view(1, 3, 5).expand(256, -1, -1)
    found = explain(p_BLO, greedy(p_BLO), torch.ones(256))
    assert (found.num_distinct, found.mean_hamming, found.policy_entropy_bits) == (1, 0.0, 0.0)
    assert found.mutual_information_bits == pytest.approx(0, abs=1e-9)
    assert found.most_used[0][1] == found.num_images == 256


def test_policies_that_differ_are_told_apart() -> None:
    p_BLO = torch.rand(256, 3, 5, generator=torch.Generator().manual_seed(0))
    found = explain(p_BLO, greedy(p_BLO), torch.ones(256))
    assert found.num_distinct >= 2
    assert found.mean_hamming > 0
    assert found.policy_entropy_bits > 1
    assert found.mutual_information_bits > 1
    assert len(found.active_share) == 3
    assert found.active_share[1][2] == pytest.approx(float((p_BLO[:, 1, 2] >= 0.5).double().mean()))


def test_two_ways_to_write_one_network_are_one_policy() -> None:
    plans = MobileSpace(MobileSpaceConfig(stages=((4, 2, 1),))).plans(ImageShape(3, 8, 5))
    written = torch.zeros(2, 2, 5, dtype=torch.bool)
    written[1, 0, 4] = True  # what an empty start of a stage is anyway
    assert num_distinct(written) == 2
    assert num_distinct(effective(written, plans)) == 1


def test_mean_hamming_is_the_mean_over_all_pairs() -> None:
    policy_BLO = policies(9)
    pairs = [int((a ^ b).sum()) for a, b in itertools.combinations(policy_BLO, 2)]
    assert mean_hamming(policy_BLO) == pytest.approx(sum(pairs) / len(pairs))
    assert mean_hamming(policy_BLO[:1]) == 0


def test_distinct_policies_and_their_use() -> None:
    a, b, c = policies(3)
    policy_BLO = torch.stack([a, b, a, c, a, b])
    assert num_distinct(policy_BLO) == 3
    ranked = most_used(policy_BLO)
    assert [count for _, count in ranked] == [3, 2, 1]
    assert torch.equal(torch.tensor([policy for policy, _ in ranked]), torch.stack([a, b, c]))
    assert most_used(policy_BLO, 2) == ranked[:2]
    expected = -sum(share * math.log2(share) for share in (3 / 6, 2 / 6, 1 / 6))
    assert policy_entropy(policy_BLO) == pytest.approx(expected)


def test_the_order_of_equally_used_policies_does_not_depend_on_the_images() -> None:
    policy_BLO = policies(12)
    assert most_used(policy_BLO) == most_used(policy_BLO.flip(0))


def test_information_of_certain_probabilities_is_that_of_their_shares() -> None:
    """Half of the images have the first bit for certain: one bit. The others are constant."""
    p_BLO = torch.zeros(8, 1, 5)
    p_BLO[:4, 0, 0] = 1.0
    p_BLO[:, 0, 1] = 1.0
    p_BLO[:, 0, 2] = 0.3
    assert mutual_information(p_BLO) == pytest.approx(1)
    assert policy_entropy(p_BLO >= 0.5) == pytest.approx(1)


def test_information_by_hand() -> None:
    def h(p: float) -> float:
        return -p * math.log2(p) - (1 - p) * math.log2(1 - p)

    p_BLO = torch.tensor([[[0.1, 0.5]], [[0.7, 0.5]]])
    assert mutual_information(p_BLO) == pytest.approx(h(0.4) - (h(0.1) + h(0.7)) / 2, abs=1e-6)


def test_information_is_an_upper_bound_of_that_of_the_whole_policy() -> None:
    """Bits that change together are one bit of policy, and counted twice."""
    p_BLO = torch.zeros(8, 1, 2)
    p_BLO[:4] = 1.0
    assert mutual_information(p_BLO) == pytest.approx(2)
    assert policy_entropy(p_BLO >= 0.5) == pytest.approx(1)


def test_extremes_are_the_fastest_and_the_slowest() -> None:
    latency = torch.tensor([3.0, 1.0, 2.0, 1.0, 5.0, 3.0])
    assert extremes(latency, 3) == ((1, 3, 2), (4, 0, 5))
    assert extremes(latency[:2], 3) == ((1, 0), (0, 1))


def test_arguments_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="got 4, 4 and 3"):
        explain(torch.rand(4, 3, 5), policies(4), torch.rand(3))
    with pytest.raises(ValueError, match="got 0, 0 and 0"):
        explain(torch.rand(0, 3, 5), policies(0), torch.rand(0))
