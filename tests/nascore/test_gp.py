"""The critic: what it says near and far from data, and which kernel the evidence chooses."""

import itertools

import pytest
import torch
from torch import Tensor

from nascore.gp import Features, GaussianProcess, Kernel, choose_kernel

CARDINALITIES = (4, 4, 4)
ALL = torch.tensor(list(itertools.product(range(4), repeat=3)))
METRICS = ("values", "order", "embedding")


def features(tokens_NL: Tensor) -> Features:
    """The embedding is one of tokens in order, squeezed into the cube."""
    return Features(tokens_NL, (tokens_NL.double() + 0.5) / 4, CARDINALITIES)


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


@pytest.mark.parametrize(
    ("objective", "metric"), [(by_order, {"order", "embedding"}), (by_values, {"values"})]
)
def test_the_evidence_finds_the_metric_and_predicts_unseen_architectures(
    objective: object, metric: set[str]
) -> None:
    seen, unseen = split()
    y = objective(ALL)  # type: ignore[operator]
    mean, deviation = y.mean(), y.std()
    targets = (objective(seen) - mean) / deviation  # type: ignore[operator]
    kernel = choose_kernel(features(seen), targets, METRICS)
    assert set(kernel.metrics) & metric
    predicted, std = GaussianProcess(features(seen), targets, kernel).predict(features(unseen))
    wanted = (objective(unseen) - mean) / deviation  # type: ignore[operator]
    assert torch.corrcoef(torch.stack([predicted, wanted]))[0, 1] > 0.9
    assert float(((predicted - wanted).abs() < 3 * std + 0.1).double().mean()) > 0.8


def test_it_follows_its_data_and_knows_what_it_does_not_know() -> None:
    near = ALL[(ALL <= 1).all(1)]
    targets = standard(by_order(near))
    process = GaussianProcess(features(near), targets, Kernel(("values",), 1.0, 0.0, 1e-3))
    mean, std = process.predict(features(torch.cat([near, torch.tensor([[3, 3, 3]])])))
    torch.testing.assert_close(mean[:-1], targets, atol=0.05, rtol=0)
    assert std[-1] > 5 * std[:-1].max()
    assert abs(float(mean[-1])) < 0.2, "far from data it returns to the prior mean"


def test_posterior_by_hand_for_one_observation() -> None:
    """k(x, x) = 1, k(x, x') = exp(-sqrt(3) / 2) at distance 1: mean = k y / (1 + noise)."""
    one, other = torch.tensor([[0, 0, 0]]), torch.tensor([[3, 3, 3]])
    kernel = Kernel(("values",), 2.0, 0.0, 0.1)
    process = GaussianProcess(features(one), torch.tensor([1.5], dtype=torch.double), kernel)
    mean, std = process.predict(features(other))
    shared = torch.exp(torch.tensor(-(3**0.5) / 2, dtype=torch.double))
    torch.testing.assert_close(mean[0], 1.5 * shared / 1.1, atol=1e-5, rtol=0)
    signal = 1.5**2 / 1.1  # the scale under which one observation is most likely
    torch.testing.assert_close(std[0], (signal * (1 - shared**2 / 1.1)).sqrt(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("metric", METRICS)
def test_every_distance_is_zero_to_itself_and_about_one_on_average(metric: str) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 4, (200, 3), generator=generator)
    z = torch.rand(200, 5, generator=generator)
    distance, main = (
        part
        for part in Features(tokens, z, CARDINALITIES).distances(
            Features(tokens, z, CARDINALITIES),
            metric,  # type: ignore[arg-type]
        )
    )
    assert float(distance.diagonal().abs().max()) < 1e-9
    assert 0.3 < float(distance.mean()) < 1.3
    torch.testing.assert_close(main.diagonal(), torch.ones(200, dtype=torch.double))


def test_equal_observations_do_not_break_it() -> None:
    tokens = ALL[:5].repeat(2, 1)
    kernel = choose_kernel(features(tokens), torch.zeros(10, dtype=torch.double), METRICS)
    process = GaussianProcess(features(tokens), torch.zeros(10, dtype=torch.double), kernel)
    mean, std = process.predict(features(ALL))
    assert bool(mean.isfinite().all())
    assert bool(std.isfinite().all())
    gain = process.expected_improvement(features(ALL), 0.0)
    assert bool(gain.isfinite().all())
    assert int(gain.argmax()) >= 5, "what was not seen promises more than what was"


def test_expected_improvement_against_sampling_and_with_nothing_to_gain() -> None:
    near = ALL[(ALL <= 1).all(1)]
    targets = standard(by_order(near))
    process = GaussianProcess(features(near), targets, Kernel(("values",), 1.0, 0.0, 1e-2))
    mean, std = process.predict(features(ALL))
    best = float(targets.max())
    draws = torch.randn(20_000, 1, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    sampled = (mean + std * draws - best).clamp(min=0).mean(0)
    gain = process.expected_improvement(features(ALL), best)
    torch.testing.assert_close(gain, sampled, atol=0.01, rtol=0.05)
    assert float(process.expected_improvement(features(ALL), 100.0).max()) < 1e-9
