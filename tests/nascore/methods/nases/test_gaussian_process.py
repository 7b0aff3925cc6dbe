"""The critic: what it says near and far from data, and what it learns of the tokens."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from nascore.methods.nases.gaussian_process import (
    Features,
    GaussianProcesses,
    Kernels,
    fit_kernels,
)

CARDINALITIES = (4, 4, 4)
ALL = torch.tensor(list(itertools.product(range(4), repeat=3)))


def features(tokens_NL: Tensor) -> Features:
    return Features(tokens_NL, CARDINALITIES)


def kernel(
    *, distance: float = 1.0, order: float = 0.0, share: float = 0.0, noise: float
) -> Kernels:
    """One kernel; every token counts `distance`."""
    return Kernels(
        torch.full((1, 3), math.log(distance), dtype=torch.double),
        torch.tensor([order], dtype=torch.double),
        torch.tensor([share], dtype=torch.double).logit(),
        torch.tensor([noise], dtype=torch.double).log(),
        torch.ones(1, dtype=torch.double),
    )


def split(seed: int = 0) -> tuple[Tensor, Tensor]:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    return ALL[order[:40]], ALL[order[40:]]


def standard(y_N: Tensor) -> Tensor:
    return (y_N - y_N.mean()) / y_N.std()


def by_order(tokens_NL: Tensor) -> Tensor:
    return (tokens_NL.double() - torch.tensor([1.0, 2.0, 0.0])).abs().sum(1)


def by_values(tokens_NL: Tensor) -> Tensor:
    """Neighbouring values have nothing in common."""
    effect = torch.tensor([0.0, 3.0, -3.0, 1.0], dtype=torch.double)
    return effect[tokens_NL].sum(1) + 2 * (tokens_NL[:, 0] == tokens_NL[:, 1])


@pytest.mark.parametrize(("objective", "by"), [(by_order, 1.0), (by_values, 0.0)])
def test_the_evidence_says_whether_order_matters_and_predicts_unseen_architectures(
    objective: object, by: float
) -> None:
    seen, unseen = split()
    y = objective(ALL)  # type: ignore[operator]
    mean, deviation = y.mean(), y.std()
    targets = (objective(seen) - mean) / deviation  # type: ignore[operator]
    kernels = fit_kernels(features(seen), targets)
    assert float(kernels.probability_K.sum()) == pytest.approx(1)
    assert abs(float(kernels.probability_K @ kernels.order_K) - by) < 0.6
    processes = GaussianProcesses(features(seen), targets, kernels)
    _, std = processes.predict(features(unseen))
    predicted = processes.mean(features(unseen))
    wanted = (objective(unseen) - mean) / deviation  # type: ignore[operator]
    assert torch.corrcoef(torch.stack([predicted, wanted]))[0, 1] > 0.9
    assert float(((predicted - wanted).abs() < 3 * std + 0.1).double().mean()) > 0.8


def test_a_token_that_does_not_matter_gets_little_weight() -> None:
    seen, _ = split()
    targets = standard(2.0 * seen[:, 0] + seen[:, 1])
    weights = fit_kernels(features(seen), targets).log_weight_KL
    assert bool((weights[:, 2] < weights[:, :2].min(dim=1).values - 0.2).all())
    equal = fit_kernels(features(seen), targets, relevance=False).log_weight_KL
    assert float((equal - equal[:, :1]).abs().max()) == 0


def test_it_follows_its_data_and_knows_what_it_does_not_know() -> None:
    near = ALL[(ALL <= 1).all(1)]
    targets = standard(by_order(near))
    processes = GaussianProcesses(features(near), targets, kernel(noise=1e-3))
    (mean,), (std,) = processes.predict(features(torch.cat([near, torch.tensor([[3, 3, 3]])])))
    torch.testing.assert_close(mean[:-1], targets, atol=0.05, rtol=0)
    assert std[-1] > 5 * std[:-1].max()
    assert abs(float(mean[-1])) < 0.2, "far from data it returns to the prior mean"


@pytest.mark.parametrize(("order", "apart"), [(0.0, 3.0), (1.0, 2.0)])
def test_posterior_by_hand_for_one_observation(order: float, apart: float) -> None:
    """Three unequal tokens, 2 of 3 values apart: k(x, x') = s (1 - d / 3) + (1 - s) exp(-d)."""
    one, other = torch.tensor([[0, 0, 0]]), torch.tensor([[2, 2, 2]])
    processes = GaussianProcesses(
        features(one),
        torch.tensor([1.5], dtype=torch.double),
        kernel(order=order, share=0.3, noise=0.1),
    )
    (mean,), (std,) = processes.predict(features(other))
    shared = 0.3 * (1 - apart / 3) + 0.7 * math.exp(-apart)
    assert float(mean[0]) == pytest.approx(1.5 * shared / 1.1, abs=1e-5)
    signal = (1.5**2 / 1.1 + 2) / (1 + 2)  # the prior counts as two observations of 1
    assert float(std[0]) == pytest.approx(math.sqrt(signal * (1 - shared**2 / 1.1)), abs=1e-5)


def test_equal_observations_do_not_break_it() -> None:
    tokens, zeros = ALL[:5].repeat(2, 1), torch.zeros(10, dtype=torch.double)
    kernels = fit_kernels(features(tokens), zeros)
    processes = GaussianProcesses(features(tokens), zeros, kernels)
    gain = processes.expected_improvement(features(ALL))
    assert bool(gain.isfinite().all())
    assert int(gain.argmax()) >= 5, "what was not seen promises more than what was"


def test_expected_improvement_against_sampling_and_with_nothing_to_gain() -> None:
    near = ALL[(ALL <= 1).all(1)]
    targets = standard(by_order(near))
    processes = GaussianProcesses(features(near), targets, kernel(noise=1e-2))
    (mean,), (std,) = processes.predict(features(ALL))
    best = processes.mean(features(near)).max()
    draws = torch.randn(20_000, 1, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    sampled = (mean + std * draws - best).clamp(min=0).mean(0)
    gain = processes.expected_improvement(features(ALL))
    torch.testing.assert_close(gain, sampled, atol=0.01, rtol=0.05)


def test_kernels_are_averaged_by_their_probability() -> None:
    near = features(ALL[:20])
    targets = standard(by_values(ALL[:20]))
    one, other = kernel(noise=1e-2), kernel(order=1.0, distance=0.3, noise=1e-1)
    both = Kernels(
        *(
            torch.cat([getattr(one, name), getattr(other, name)])
            for name in ("log_weight_KL", "order_K", "share_K", "log_noise_K")
        ),
        torch.tensor([0.25, 0.75], dtype=torch.double),
    )
    gains = [
        GaussianProcesses(near, targets, kernels).expected_improvement(features(ALL))
        for kernels in (one, other, both)
    ]
    torch.testing.assert_close(gains[2], 0.25 * gains[0] + 0.75 * gains[1])
