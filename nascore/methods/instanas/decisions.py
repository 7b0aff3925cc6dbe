"""Statistics of the policies of a search: do different images have different ones?

A controller may have collapsed to one network for all images. Then there is one policy, no two
images differ, and the mutual information of image and policy is 0.

B images, L blocks, O operations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Policy = tuple[tuple[bool, ...], ...]
"""The operations of one image, by block."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Policies over a set of images.

    Attributes:
        num_images: number of images.
        num_distinct: number of distinct policies.
        mean_hamming: mean number of bits in which two images differ, over all pairs.
        policy_entropy_bits: entropy of the policies in use. A greedy policy is a function of its
            image, so this is its mutual information with the image, estimated on these images.
        mutual_information_bits: of the image and a sampled policy; see `mutual_information`.
        active_share: fraction of images that have each operation, by block.
        most_used: policies with the number of their images, most used first.
        fastest, slowest: positions of images by the latency of their policies.
    """

    num_images: int
    num_distinct: int
    mean_hamming: float
    policy_entropy_bits: float
    mutual_information_bits: float
    active_share: tuple[tuple[float, ...], ...]
    most_used: tuple[tuple[Policy, int], ...]
    fastest: tuple[int, ...]
    slowest: tuple[int, ...]


def explain(
    p_BLO: Tensor, policy_BLO: Tensor, latency_B: Tensor, *, num_examples: int = 8
) -> Explanation:
    """Return statistics of the policies of B images.

    Args:
        p_BLO: the controller's probabilities.
        policy_BLO: the effective policies, bool: an empty block that uses the default operation is
            the same network as one that chooses it.
        latency_B: latency of these policies.
        num_examples: number of images at each end, and of policies that are listed.

    Raises:
        ValueError: there is no image, or the arguments are of different lengths.
    """
    if not 0 < len(policy_BLO) == len(p_BLO) == len(latency_B):
        raise ValueError(
            "probabilities, policies and latencies of the same images are needed, got "
            f"{len(p_BLO)}, {len(policy_BLO)} and {len(latency_B)}"
        )
    fastest, slowest = extremes(latency_B, num_examples)
    ranked = most_used(policy_BLO)
    return Explanation(
        num_images=len(policy_BLO),
        num_distinct=len(ranked),
        mean_hamming=mean_hamming(policy_BLO),
        policy_entropy_bits=policy_entropy(policy_BLO),
        mutual_information_bits=mutual_information(p_BLO),
        active_share=tuple(map(tuple, policy_BLO.double().mean(dim=0).tolist())),
        most_used=tuple(ranked[:num_examples]),
        fastest=fastest,
        slowest=slowest,
    )


def num_distinct(policy_BLO: Tensor) -> int:
    """Return the number of distinct policies."""
    return len(policy_BLO.unique(dim=0))


def most_used(policy_BLO: Tensor, number: int | None = None) -> list[tuple[Policy, int]]:
    """Return distinct policies and their numbers of images, most used first, in a fixed order."""
    policies, counts = policy_BLO.bool().unique(dim=0, return_counts=True)
    # Distinct rows come sorted; a stable sort keeps that order among equals.
    order = counts.argsort(descending=True, stable=True)[:number]
    rows = [tuple(map(tuple, row)) for row in policies[order].tolist()]
    return list(zip(rows, counts[order].tolist(), strict=True))


def mean_hamming(policy_BLO: Tensor) -> float:
    """Return the mean number of bits in which two images differ; 0 for a single image."""
    num = len(policy_BLO)
    if num < 2:
        return 0.0
    ones_LO = policy_BLO.double().sum(dim=0)
    differing_pairs = (ones_LO * (num - ones_LO)).sum()
    return float(differing_pairs / (num * (num - 1) / 2))


def policy_entropy(policy_BLO: Tensor) -> float:
    """Return the entropy in bits of the policies in use, from their counts (a plug-in estimate).

    It is at most log2 B, so many policies need many images.
    """
    _, counts = policy_BLO.unique(dim=0, return_counts=True)
    shares = counts.double() / len(policy_BLO)
    return float(torch.special.entr(shares).sum() / math.log(2))


def mutual_information(p_BLO: Tensor) -> float:
    """Return I(image; policy) in bits, the sum over operations of H(mean_b p_b) - mean_b H(p_b).

    A plug-in estimate with the controller's own probabilities, over these images. Given the image
    the bits are independent, so the sum of their informations is an upper bound of that of the
    policy as a whole: bits that always change together are counted several times.
    """
    p_BLO = p_BLO.detach().double()
    of_mean = _binary_entropy(p_BLO.mean(dim=0)).sum()
    mean_of = _binary_entropy(p_BLO).mean(dim=0).sum()
    return max(0.0, float((of_mean - mean_of) / math.log(2)))  # rounding alone is below zero


def extremes(latency_B: Tensor, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of the fastest and the slowest images, the most extreme first."""
    fastest: Sequence[int] = latency_B.argsort(stable=True)[:number].tolist()
    slowest: Sequence[int] = latency_B.argsort(descending=True, stable=True)[:number].tolist()
    return tuple(fastest), tuple(slowest)


def _binary_entropy(p: Tensor) -> Tensor:
    both: Tensor = torch.special.entr(p) + torch.special.entr(1 - p)
    return both
