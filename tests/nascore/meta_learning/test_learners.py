"""Meta-learners against plain optimisers, finite differences and each other; real digits."""

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from few_shot_data import few_shot_data
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.data.class_splits import EpisodeShape, split_classes
from nascore.meta_learning.conv4 import Conv4
from nascore.meta_learning.execution import run_looped, run_vmapped
from nascore.meta_learning.learners import (
    Forward,
    Inner,
    Parameters,
    TaskScores,
    adapt,
    adapted_accuracy,
    fomaml_gradient,
    maml_gradient,
    meta_step,
    predict,
    reptile_gradient,
    stateless,
)
from nascore.meta_learning.task_adaptation import begin, last_layer, plain_grad

SGD = Inner("sgd", learning_rate=0.1, num_steps=3)


def make_network(*, channels: int = 4, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Conv4(1, 8, 3, channels=channels).to(dtype)


def make_tasks(
    num_tasks: int, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_tasks, 15, 1, 8, 8, generator=generator, dtype=dtype)
    y = torch.arange(3).repeat(5).expand(num_tasks, -1)
    return x[:, :6], y[:, :6], x[:, 6:], y[:, 6:]


def smooth() -> tuple[Forward, Parameters]:
    """A network without kinks, for finite differences."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3))
    return stateless(nn.Sequential(*layers).double())


def largest_difference(first: Parameters, second: Parameters) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


# --- adaptation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_adaptation_is_what_the_optimiser_of_torch_does(optimiser: str) -> None:
    support_x, support_y, *_ = (part[0] for part in make_tasks(1, dtype=torch.float64))
    batches = torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5], [5, 4, 1, 0]])
    inner = Inner(optimiser, learning_rate=0.02, num_steps=3)  # type: ignore[arg-type]
    forward, parameters = stateless(make_network(dtype=torch.float64))
    adapted = adapt(forward, parameters, support_x, support_y, inner=inner, batches=batches)
    network = make_network(dtype=torch.float64).train()
    theirs: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    if optimiser == "adam":
        theirs = torch.optim.Adam(network.parameters(), lr=0.02, betas=(0.0, 0.999))
    for batch in batches:
        theirs.zero_grad()
        F.cross_entropy(network(support_x[batch]), support_y[batch]).backward()
        theirs.step()
    expected = dict(network.named_parameters())
    # Biases before a batch norm have no gradient but rounding, which Adam makes steps of.
    real = [n for n in expected if not (n.endswith("bias") and expected[n].shape == (4,))]
    kept = {n: adapted[n] for n in real}, {n: expected[n].detach() for n in real}
    assert largest_difference(*kept) < 1e-9
    assert largest_difference(adapted, parameters) > 1e-3


def test_one_reptile_step_is_plain_sgd() -> None:
    """One inner step, one task, eps = 1."""
    support_x, support_y, *_ = make_tasks(1)
    forward, parameters = stateless(make_network())
    inner = Inner("sgd", learning_rate=0.1, num_steps=1)
    gradients = run_looped(
        partial(reptile_gradient, forward, parameters, inner=inner), support_x, support_y
    )
    stepped = meta_step(parameters, gradients, 1.0)
    network = make_network()
    F.cross_entropy(network(support_x[0]), support_y[0]).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    expected = {name: p.detach() for name, p in network.named_parameters()}
    assert largest_difference(stepped, expected) < 1e-6
    assert largest_difference(stepped, parameters) > 1e-3


def test_reptile_goes_part_of_the_way_to_the_mean() -> None:
    tasks = make_tasks(4)[:2]
    forward, parameters = stateless(make_network())
    ends = [adapt(forward, parameters, x, y, inner=SGD) for x, y in zip(*tasks, strict=True)]
    function = partial(reptile_gradient, forward, parameters, inner=SGD)
    stepped = meta_step(parameters, run_looped(function, *tasks), 0.25)
    for name, p in parameters.items():
        mean = torch.stack([end[name] for end in ends]).mean(0)
        torch.testing.assert_close(stepped[name], p + 0.25 * (mean - p), atol=1e-6, rtol=0)


# --- gradients of MAML ---------------------------------------------------------------------------


@pytest.mark.parametrize("prototypes", [False, True])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_gradient_of_maml_is_that_of_finite_differences(optimiser: str, prototypes: bool) -> None:
    forward, parameters = smooth()
    task = [part[0] for part in make_tasks(1, dtype=torch.float64)]
    inner = Inner(
        optimiser,  # type: ignore[arg-type]
        learning_rate=0.05,
        num_steps=2,
        prototypes=prototypes,
    )
    gradients = maml_gradient(forward, parameters, *task, inner=inner)
    first_order = fomaml_gradient(forward, parameters, *task, inner=inner)

    def loss_at(moved: Parameters) -> float:
        adapted = adapt(forward, moved, task[0], task[1], inner=inner)
        return float(F.cross_entropy(forward(adapted, task[2]), task[3]))

    generator = torch.Generator().manual_seed(0)
    names = [name for name in parameters if name != "0.bias"]  # cancelled by the batch norm
    for name in names:
        for place in torch.randint(parameters[name].numel(), (4,), generator=generator).tolist():
            ends = []
            for shift in (1e-5, -1e-5):
                moved = {key: p.clone() for key, p in parameters.items()}
                moved[name].view(-1)[place] += shift
                ends.append(loss_at(moved))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(gradients[name].flatten()[place]) == pytest.approx(
                slope, abs=1e-7, rel=1e-5
            )
    assert largest_difference(gradients, first_order) > 1e-3, "the second order matters"


def test_first_order_is_the_gradient_at_the_adapted_parameters() -> None:
    forward, parameters = smooth()
    task = [part[0] for part in make_tasks(1, dtype=torch.float64)]
    gradients = fomaml_gradient(forward, parameters, *task, inner=SGD)
    adapted = adapt(forward, parameters, task[0], task[1], inner=SGD)
    leaves = {name: p.detach().requires_grad_() for name, p in adapted.items()}
    F.cross_entropy(forward(leaves, task[2]), task[3]).backward()
    expected = {name: p.grad for name, p in leaves.items() if p.grad is not None}
    assert largest_difference(gradients, expected) < 1e-12


def test_first_order_goes_through_prototypes_but_not_through_steps() -> None:
    forward, parameters = smooth()
    x, y, query_x, query_y = (part[0] for part in make_tasks(1, dtype=torch.float64))
    inner = dataclasses.replace(SGD, prototypes=True)
    gradients = fomaml_gradient(forward, parameters, x, y, query_x, query_y, inner=inner)
    start = begin(forward, parameters, x, y, inner=inner)
    adapted = adapt(forward, parameters, x, y, inner=inner)

    def loss_at(moved: Parameters) -> float:
        again = begin(forward, moved, x, y, inner=inner)
        shifted = {name: again[name] + adapted[name] - start[name] for name in start}
        return float(F.cross_entropy(forward(shifted, query_x), query_y))

    for place in range(4):
        moved = [{name: p.clone() for name, p in parameters.items()} for _ in range(2)]
        moved[0]["0.weight"].view(-1)[place] += 1e-5
        moved[1]["0.weight"].view(-1)[place] -= 1e-5
        slope = (loss_at(moved[0]) - loss_at(moved[1])) / 2e-5
        assert float(gradients["0.weight"].flatten()[place]) == pytest.approx(slope, rel=1e-5)
    assert not gradients["4.weight"].any(), "shared weights that are not used stay"


@pytest.mark.parametrize("prototypes", [False, True])
@pytest.mark.parametrize("gradient", [reptile_gradient, fomaml_gradient])
def test_by_autograd_alone_they_are_the_same(
    gradient: Callable[..., Parameters], prototypes: bool
) -> None:
    task = [part[0] for part in make_tasks(1, dtype=torch.float64)]
    used = task[:2] if gradient is reptile_gradient else task
    inner = dataclasses.replace(SGD, prototypes=prototypes)
    function = partial(gradient, *smooth(), *used, inner=inner)
    found = function(grad=plain_grad)
    assert largest_difference(found, function()) < 1e-12
    assert not any(p.requires_grad for p in found.values())


# --- prototypes -----------------------------------------------------------------------------------


def test_prototypes_begin_with_the_nearest_mean() -> None:
    forward, parameters = smooth()
    x_NCHW, labels = torch.randn(7, 1, 8, 8, dtype=torch.float64), [0, 0, 1, 2, 2, 2, 1]
    inner = Inner("sgd", 0.1, 0, prototypes=True)
    start = begin(forward, parameters, x_NCHW, torch.tensor(labels), inner=inner)
    features_ND = torch.tanh(
        F.batch_norm(F.conv2d(x_NCHW, parameters["0.weight"]), None, None, training=True)
    ).flatten(1)
    for row, logits_K in zip(features_ND, forward(start, x_NCHW), strict=True):
        distances = [
            float(((row - features_ND[[own == k for own in labels]].mean(0)) ** 2).sum())
            for k in range(3)
        ]
        found = (logits_K - logits_K[0]).tolist()
        expected = [(distances[0] - distance) / 72**0.5 for distance in distances]
        assert found == pytest.approx(expected)
    assert torch.equal(start["0.weight"], parameters["0.weight"])


def test_the_last_layer_is_found() -> None:
    assert last_layer(smooth()[1]) == ("4.weight", "4.bias")
    _, parameters = stateless(nn.Sequential(nn.Linear(3, 3), nn.Conv2d(1, 1, 1)))
    with pytest.raises(ValueError, match=r"ends with \['1.weight', '1.bias'\]; prototypes need"):
        last_layer(parameters)


# --- all tasks at once or one by one --------------------------------------------------------------


@pytest.mark.parametrize("prototypes", [False, True])
@pytest.mark.parametrize("gradient", [reptile_gradient, fomaml_gradient, maml_gradient])
def test_both_ways_give_the_same_gradients(
    gradient: Callable[..., Parameters], prototypes: bool
) -> None:
    tasks = make_tasks(3)
    forward, parameters = stateless(make_network())
    used = tasks[:2] if gradient is reptile_gradient else tasks
    inner = dataclasses.replace(SGD, prototypes=prototypes)
    function = partial(gradient, forward, parameters, inner=inner)
    at_once, one_by_one = run_vmapped(function, *used), run_looped(function, *used)
    assert at_once["0.weight"].shape == (3, 4, 1, 3, 3)
    largest = max(1.0, *(float(p.abs().max()) for p in one_by_one.values()))
    assert largest_difference(at_once, one_by_one) < 1e-5 * largest


@pytest.mark.parametrize("channels", [1, 3])
def test_a_loop_passes_images_with_channels_last_and_convolutions_keep_that(channels: int) -> None:
    x_TBCHW, last = torch.randn(2, 5, channels, 8, 8), torch.channels_last
    weights = torch.randn(4, channels, 3, 3)

    def function(x_BCHW: Tensor) -> Tensor:
        assert x_BCHW.shape == (5, channels, 8, 8)
        y_BCHW = torch.nn.functional.conv2d(x_BCHW, weights)
        assert y_BCHW.is_contiguous(memory_format=last)
        return y_BCHW

    expected = torch.stack([torch.nn.functional.conv2d(x, weights) for x in x_TBCHW])
    torch.testing.assert_close(run_looped(function, x_TBCHW), expected)


# --- batch norm and evaluation ------------------------------------------------------------------


def test_batch_norm_uses_the_batch_in_every_mode() -> None:
    network = make_network()
    forward, parameters = stateless(network)
    x = 5 + 3 * make_tasks(1)[0][0]
    network.train()
    training = forward(parameters, x)
    network.eval()
    torch.testing.assert_close(forward(parameters, x), training)
    reference = make_network().train()
    torch.testing.assert_close(reference(x), training)
    assert float((reference.eval()(x) - training).abs().max().detach()) > 0.1
    assert not list(network.buffers())


def test_networks_with_a_state_are_refused() -> None:
    network = make_network()
    network.register_buffer("state", torch.zeros(1))
    with pytest.raises(ValueError, match="buffers cannot be meta-trained: state"):
        stateless(network)


def test_queries_do_not_help_each_other_unless_transductive() -> None:
    forward, parameters = stateless(make_network())
    support_x, _, query_x, _ = (part[0] for part in make_tasks(1))
    other_x = torch.cat([query_x[:1], 4 + query_x[1:]])
    alone, same = (
        predict(forward, parameters, support_x, x, transductive=False)[0]
        for x in (query_x, other_x)
    )
    torch.testing.assert_close(alone, same)
    expected = forward(parameters, torch.cat([support_x, query_x[:1]]))[-1]
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-4)
    together, moved = (
        predict(forward, parameters, support_x, x, transductive=True)[0] for x in (query_x, other_x)
    )
    assert float((together - moved).abs().max()) > 1e-3


def test_scores_have_a_mean_and_an_interval() -> None:
    scores = TaskScores.of(torch.tensor([0.4, 0.6, 0.5, 0.7]))
    assert scores.mean == pytest.approx(0.55)
    assert scores.interval == pytest.approx(1.96 * np.std([0.4, 0.6, 0.5, 0.7], ddof=1) / 2)
    assert scores.num_tasks == 4
    with pytest.raises(ValueError, match="at least two"):
        TaskScores.of(torch.tensor([1.0]))


def test_adaptation_helps_on_classes_never_seen() -> None:
    """Reptile on digits of four classes; judged on three others before and after adaptation."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    splits = split_classes(range(10), valid_fraction=0.3, test_fraction=0.3, seed=0)
    data = few_shot_data(images, digits.target, splits)
    train = data.sampler("train", EpisodeShape(3, 5, 1))
    valid = data.sampler("valid", EpisodeShape(3, 5, 5))
    forward, parameters = stateless(make_network(channels=8))
    inner, generator = Inner("adam", 0.01, 5), torch.Generator().manual_seed(0)
    for step in range(20):
        drawn = train.draw(4, generator)
        function = partial(reptile_gradient, forward, parameters, inner=inner)
        gradients = run_vmapped(function, drawn.support_x, drawn.support_y)
        parameters = meta_step(parameters, gradients, 1 - step / 20)
    drawn = valid.draw(50, generator)
    tasks = (drawn.support_x, drawn.support_y, drawn.query_x, drawn.query_y)
    before, after = (
        TaskScores.of(
            run_looped(
                partial(
                    adapted_accuracy,
                    forward,
                    parameters,
                    inner=Inner("adam", 0.01, num_steps),
                    transductive=False,
                ),
                *tasks,
            )
        )
        for num_steps in (0, 10)
    )
    assert after.mean - after.interval > before.mean + before.interval
    assert after.mean - 3 * after.interval / 1.96 > 1 / 3
    assert not (train.used | valid.used) & set(splits.test)


# --- the network of MAML ---------------------------------------------------------------------


def test_four_convolutions_are_those_of_maml() -> None:
    network = Conv4(3, 84, 5)
    assert sum(p.numel() for p in network.parameters()) == 32_901
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"] * 4 + ["Flatten", "Linear"]
    assert network(torch.randn(2, 3, 84, 84)).shape == (2, 5)


@pytest.mark.parametrize("size", [1, 7, 8, 28])
def test_four_convolutions_read_images_of_any_size(size: int) -> None:
    assert Conv4(1, size, 3)(torch.randn(2, 1, size, size)).shape == (2, 3)
