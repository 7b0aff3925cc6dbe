"""The distribution of NASIB: probabilities, samples and elimination."""

import math
from itertools import product

import pytest
import torch
from nasib_tasks import num_alive
from scipy import stats
from torch import Tensor

from nascore.errors import InputError
from nascore.methods.nasib.distribution import Distribution
from nascore.spaces.base import ImageShape
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace

SPACE = SuperkernelSpace(SuperkernelSpaceConfig())
LARGE, SMALL = ImageShape(3, 32, 10), ImageShape(1, 8, 10)
CONV, MAX, AVG, IDENTITY, NONE = range(5)
NUM_EDGES = len(SPACE.edges)
NOBODY, EVERYBODY = torch.zeros(NUM_EDGES, dtype=torch.bool), torch.ones(NUM_EDGES) > 0


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learned(shape: ImageShape = LARGE, *, seed: int = 0) -> Distribution:
    """With logits as if it had learned something."""
    distribution = Distribution(SPACE, shape)
    torch.nn.init.normal_(distribution.logits_ES, generator=generator(seed))
    return distribution


def operations() -> list[tuple[int, ...]]:
    """All of an edge, those that are no convolutions once."""
    strings = product(*map(range, SPACE.axis_sizes))
    return [tokens for tokens in strings if tokens[0] == CONV or not any(tokens[1:])]


def on_all_edges(tokens: tuple[int, ...]) -> Tensor:
    return torch.tensor([tokens] * NUM_EDGES)


# --- probabilities --------------------------------------------------------------------------


def test_in_the_beginning_each_axis_is_uniform() -> None:
    entropies = Distribution(SPACE, LARGE).entropies()
    assert list(entropies) == list(AXES)
    for (name, entropy_E), size in zip(entropies.items(), SPACE.axis_sizes, strict=True):
        assert (entropy_E - math.log(size)).abs().max() < 1e-3, name
        assert entropy_E.shape == (NUM_EDGES,)


def test_eighteen_logits_an_edge() -> None:
    assert Distribution(SPACE, LARGE).logits_ES.shape == (28, 18)


def test_probability_of_an_operation_is_the_product_of_its_axes() -> None:
    distribution = learned()
    probs = [log_p.exp() for log_p in distribution.log_probs().values()]
    for tokens in operations()[::7]:
        expected = probs[0][:, tokens[0]].clone()
        for axis in range(1, len(AXES)) if tokens[0] == CONV else ():
            expected *= probs[axis][:, tokens[axis]]
        found = distribution.log_prob(on_all_edges(tokens)).exp()
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=["all fit", "some do not fit"])
@pytest.mark.parametrize("num_dropped", [0, 2])
def test_probabilities_of_all_operations_sum_to_one(shape: ImageShape, num_dropped: int) -> None:
    distribution = learned(shape)
    for axis, size in zip(AXES, SPACE.axis_sizes, strict=True):
        distribution.eliminate(axis, size - num_dropped)
    probs = torch.stack([distribution.log_prob(on_all_edges(o)).exp() for o in operations()])
    torch.testing.assert_close(probs.sum(0), torch.ones(NUM_EDGES))
    assert len(operations()) == 96 + 4


def test_what_does_not_fit_has_no_probability() -> None:
    distribution = learned(SMALL)
    dropped = set(SPACE.dropped(SMALL))
    assert len(dropped) == 2 * 2 * (16 - 4)  # with 2 and with 3, both types: sizes beyond 3
    for tokens in operations():
        operation = SPACE.operation(tokens)
        name = operation if isinstance(operation, str) else operation.name
        prob_E = distribution.log_prob(on_all_edges(tokens)).exp()
        assert (prob_E == 0).all() if name in dropped else (prob_E > 0).all(), name


def test_images_smaller_than_every_kernel_are_refused() -> None:
    space = SuperkernelSpace(SuperkernelSpaceConfig(kernel_sizes=(5, 7), dilations=(2, 3)))
    with pytest.raises(InputError, match=r"kernel_sizes = \[5, 7\]: none fits images of 8 pixels"):
        Distribution(space, SMALL)
    assert num_alive(Distribution(space, ImageShape(1, 9, 2)))["height"] == [1] * NUM_EDGES


# --- samples --------------------------------------------------------------------------------


def test_gates_are_one_to_the_bit_and_carry_gradients() -> None:
    distribution = learned()
    sample = distribution.sample(distribution.noise(generator()), NOBODY, temperature=0.7)
    assert torch.equal(sample.gates_E, torch.ones(NUM_EDGES))
    sample.gates_E.sum().backward()
    gradient_ES = distribution.logits_ES.grad
    is_conv_E = sample.tokens_EA[:, 0] == CONV
    assert 0 < is_conv_E.sum() < NUM_EDGES
    assert (gradient_ES[:, :5].abs().sum(1) > 0).all()
    assert ((gradient_ES[:, 5:].abs().sum(1) > 0) == is_conv_E).all(), "of a kernel there is alone"


@pytest.mark.parametrize("temperature", [5.0, 0.3])
def test_choice_and_gradient_come_from_the_same_noise(temperature: float) -> None:
    """Forward the arg-max, backward the soft-max, both of what is computed here by hand."""
    distribution = learned()
    noise_ES = distribution.noise(generator(1))
    sample = distribution.sample(noise_ES, NOBODY, temperature=temperature)
    logits_ES = distribution.logits_ES.detach().clone().requires_grad_()
    start, gates = 0, []
    for axis, size in enumerate(SPACE.axis_sizes):
        noisy = (logits_ES + noise_ES)[:, start : start + size]
        assert torch.equal(noisy.argmax(1), sample.tokens_EA[:, axis])
        gates.append((noisy / temperature).softmax(1).amax(1))  # of the arg-max
        start += size
    is_conv_E = sample.tokens_EA[:, 0] == CONV
    # d(product of gates that are 1) = the sum of d(gate).
    total = gates[0].sum() + sum((gate * is_conv_E).sum() for gate in gates[1:])
    (expected,) = torch.autograd.grad(total, logits_ES)
    (found,) = torch.autograd.grad(sample.gates_E.sum(), distribution.logits_ES)
    torch.testing.assert_close(found, expected)


def _counts(distribution: Distribution, explores_E: Tensor, num: int) -> Tensor:
    """How often each value of each axis is drawn on each edge, (E, S)."""
    source = generator(2)
    counts = torch.zeros(distribution.logits_ES.shape)
    for _ in range(num):
        sample = distribution.sample(distribution.noise(source), explores_E, temperature=1.0)
        starts = torch.tensor([0, *SPACE.axis_sizes[:-1]]).cumsum(0)
        counts.scatter_add_(1, sample.tokens_EA + starts, torch.ones(sample.tokens_EA.shape))
    return counts


@pytest.mark.parametrize("explores", [False, True])
def test_samples_follow_the_probabilities_and_explore_uniformly(explores: bool) -> None:
    """On each axis, by a chi-squared test over all edges; one in a million fails by chance."""
    num, distribution = 400, learned()
    distribution.eliminate("height", 3)
    counts_ES = _counts(distribution, EVERYBODY if explores else NOBODY, num)
    start = 0
    for name, size in zip(AXES, SPACE.axis_sizes, strict=True):
        probs = distribution.log_probs()[name].exp().detach()
        if explores:
            probs = (probs > 0) / (probs > 0).sum(1, keepdim=True)
        seen = counts_ES[:, start : start + size]
        assert (seen[probs == 0] == 0).all()
        chi2 = ((seen - num * probs) ** 2 / (num * probs))[probs > 0].sum().item()
        freedom = int((probs > 0).sum()) - NUM_EDGES
        assert stats.chi2.sf(chi2, freedom) > 1e-6, name
        start += size


@pytest.mark.parametrize("explores_E", [NOBODY, EVERYBODY], ids=["policy", "uniform"])
def test_nothing_is_drawn_that_does_not_fit(explores_E: Tensor) -> None:
    distribution, source = learned(SMALL), generator(3)
    dropped, seen = set(SPACE.dropped(SMALL)), set()
    for _ in range(60):
        sample = distribution.sample(distribution.noise(source), explores_E, temperature=1.0)
        assert torch.isfinite(distribution.log_prob(sample.tokens_EA)).all()
        operations_ = [SPACE.operation(tuple(row)) for row in sample.tokens_EA.tolist()]
        seen |= {o.name for o in operations_ if not isinstance(o, str)}
    assert not seen & dropped
    assert {"standard_7x7_d1", "separable_3x3_d3"} & seen


def test_equal_generators_give_equal_samples() -> None:
    distribution = learned()
    one, other, third = (distribution.noise(generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


# --- elimination ----------------------------------------------------------------------------


def test_the_least_probable_goes_first_and_the_last_never() -> None:
    distribution = learned()
    before = distribution.log_probs()["width"].detach()
    assert distribution.eliminate("width", 3) == NUM_EDGES
    alive_EV = distribution.log_probs()["width"] > -torch.inf
    assert torch.equal((~alive_EV).int().argmax(1), before.argmin(1))
    assert distribution.eliminate("width", 0) == 2 * NUM_EDGES
    assert num_alive(distribution)["width"] == [1] * NUM_EDGES
    assert torch.equal(distribution.best()[:, AXES.index("width")], before.argmax(1))
    assert num_alive(distribution)["height"] == [4] * NUM_EDGES, "another axis"
    assert distribution.entropies()["width"].abs().max() == 0


def test_dilations_that_a_size_needs_stay_as_long_as_the_size() -> None:
    """The largest dilation is by far the best, but only small kernels fit with it."""
    distribution = Distribution(SPACE, SMALL)
    with torch.no_grad():
        distribution.logits_ES[:, -1] = 9.0
        distribution.logits_ES[0, 7 + 3] = 9.0  # height 7 is the best of the first edge
    distribution.eliminate("dilation", 1)
    dilations = distribution.best()[:, AXES.index("dilation")]
    assert (dilations == 0).all(), "sizes 5 and 7 fit with none but 1"
    again = Distribution(SPACE, SMALL)
    with torch.no_grad():
        again.logits_ES[:, -1] = 9.0
        again.logits_ES[0, 7 + 3] = 9.0
    for axis in ("height", "width", "dilation"):
        again.eliminate(axis, 1)
    assert again.best()[0].tolist() == [0, 0, 3, 0, 0]
    assert again.best()[1].tolist() == [0, 0, 0, 0, 2]


def test_gradients_stay_finite_when_values_are_gone() -> None:
    distribution = learned()
    for axis in AXES:
        distribution.eliminate(axis, 2)
    sample = distribution.sample(distribution.noise(generator()), NOBODY, temperature=0.1)
    entropy = sum(entropy_E.sum() for entropy_E in distribution.entropies().values())
    (sample.gates_E.sum() + entropy).backward()
    assert torch.isfinite(distribution.logits_ES.grad).all()
    assert (distribution.logits_ES.grad[~distribution.alive_ES] == 0).all()


def test_state_is_all_that_the_future_depends_on() -> None:
    one, other = learned(), Distribution(SPACE, LARGE)
    one.eliminate("branch", 2)
    assert set(one.state_dict()) == {"logits_ES", "alive_ES"}
    other.load_state_dict(one.state_dict())
    noise_ES = one.noise(generator())
    samples = [d.sample(noise_ES, NOBODY, temperature=1.0) for d in (one, other)]
    assert torch.equal(samples[0].tokens_EA, samples[1].tokens_EA)
