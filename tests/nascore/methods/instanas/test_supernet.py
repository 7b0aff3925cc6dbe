"""The meta-graph: an image has the logits of its own network, and training reaches its parts."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.methods.instanas.supernet import MIN_IMAGES, MetaGraph, make_metagraph
from nascore.spaces.base import ImageShape, make_genotype
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.network import OPS
from nascore.spaces.mobilenet.space import MobileSpace, effective
from nascore.spaces.ops import evaluation_mode

CONFIG = MobileSpaceConfig(stages=((4, 2, 1), (8, 2, 2)), stem_channels=4)
SPACE = MobileSpace(CONFIG)
SHAPE = ImageShape(3, 8, 5)
BASIC = OPS.index("basic")


def images(number: int, *, seed: int = 0, shape: ImageShape = SHAPE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, shape.channels, shape.size, shape.size, generator=generator)


def policies(number: int, *, keep: float = 0.4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, SPACE.num_blocks, len(OPS), generator=generator) < keep


@pytest.fixture(params=["sum", "mean"])
def graph(request: pytest.FixtureRequest) -> MetaGraph:
    """In evaluation mode, with running averages of some training behind it."""
    space = MobileSpace(CONFIG.model_copy(update={"combine": request.param}))
    graph = make_metagraph(space, SHAPE, seed=0)
    for seed in range(3):
        graph(images(32, seed=seed), policies(32, keep=1.0))
    return graph.eval()


def masked(graph: MetaGraph, x_BCHW: Tensor, policy_BLO: Tensor) -> Tensor:
    """The reference: all operations on all images, and a mask."""
    x_BCHW = graph.stem(x_BCHW)
    for plan in graph.plans:
        chosen_BO = policy_BLO[:, plan.index].clone()
        if plan.is_first:
            chosen_BO[~chosen_BO.any(1), BASIC] = True
        terms = [
            chosen_BO[:, o, None, None, None] * graph.operation(plan.index, o)(x_BCHW)
            for o in range(len(OPS))
        ]
        is_empty_B = ~chosen_BO.any(1)
        x_BCHW = (
            sum(terms) if plan.is_first else sum(terms, is_empty_B[:, None, None, None] * x_BCHW)
        )
        if graph.space.config.combine == "mean":
            x_BCHW = x_BCHW / chosen_BO.sum(1).clamp(min=1)[:, None, None, None]
    return graph.head(x_BCHW)


# --- what is computed -------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 1.0])
def test_forward_is_that_of_all_operations_and_a_mask(graph: MetaGraph, keep: float) -> None:
    x_BCHW, policy_BLO = images(24), policies(24, keep=keep)
    with torch.no_grad():
        expected, found = masked(graph, x_BCHW, policy_BLO), graph(x_BCHW, policy_BLO)
    assert (expected - found).abs().max() < 1e-5


def test_an_image_does_not_change_the_logits_of_another(graph: MetaGraph) -> None:
    x_BCHW, policy_BLO = images(24), policies(24, keep=0.25)
    with torch.no_grad():
        together = graph(x_BCHW, policy_BLO)
        alone = torch.cat([graph(x_BCHW[i : i + 1], policy_BLO[i : i + 1]) for i in range(24)])
        other = graph(
            torch.cat([x_BCHW[:1], 100 * images(5, seed=9)]),
            torch.cat([policy_BLO[:1], policies(5, seed=9)]),
        )
    assert (together - alone).abs().max() < 1e-5
    assert (together[0] - other[0]).abs().max() < 1e-5


def test_an_empty_start_of_a_stage_is_basic_whatever_the_batch_has(graph: MetaGraph) -> None:
    """The release takes k3e6 where the whole batch is empty there."""
    empty = torch.zeros(6, *graph.policy_shape, dtype=torch.bool)
    mixed = empty.clone()
    mixed[1:] = policies(5)
    basic = empty.clone()
    basic[:, [plan.is_first for plan in graph.plans], BASIC] = True
    x_BCHW = images(6)
    with torch.no_grad():
        logits = [graph(x_BCHW, policy)[0] for policy in (empty, mixed, basic)]
    assert (logits[0] - logits[1]).abs().max() < 1e-5
    assert (logits[0] - logits[2]).abs().max() < 1e-5
    assert torch.isfinite(logits[0]).all()


def test_effective_completes_empty_starts_of_stages_only(graph: MetaGraph) -> None:
    policy = torch.zeros(2, *graph.policy_shape, dtype=torch.bool)
    policy[1, 2, 0] = True
    before = policy.clone()
    completed = graph.effective(policy)
    assert torch.equal(policy, before), "what is given stays"
    assert completed[0].nonzero().tolist() == [[0, BASIC], [2, BASIC]]
    assert completed[1].nonzero().tolist() == [[0, BASIC], [2, 0]]
    assert torch.equal(effective(policy[1], graph.plans), completed[1])
    assert torch.equal(graph.effective(completed), completed)


def test_empty_blocks_pass_their_input_on(graph: MetaGraph) -> None:
    """With empty blocks after the first of a stage the network is that of the others alone."""
    policy = torch.zeros(3, *graph.policy_shape, dtype=torch.bool)
    policy[:, 0, 1] = policy[:, 2, 3] = True
    x_BCHW = images(3)
    with torch.no_grad():
        inner = graph.operation(2, 3)(graph.operation(0, 1)(graph.stem(x_BCHW)))
        assert torch.equal(graph(x_BCHW, policy), graph.head(inner))


def test_a_static_network_has_the_weights_of_the_graph(graph: MetaGraph) -> None:
    for policy_LO in policies(4, seed=3):
        network = graph.static(policy_LO).eval()
        own = {id(p) for p in graph.parameters()}
        assert {id(p) for p in network.parameters()} <= own
        with torch.no_grad():
            expected = graph(images(6), policy_LO.expand(6, -1, -1))
            assert (network(images(6)) - expected).abs().max() < 1e-5


def test_a_network_of_its_own_takes_the_weights_of_the_graph(graph: MetaGraph) -> None:
    genotype = make_genotype(graph.space, policies(1)[0].flatten().tolist())
    own = graph.space.build(genotype, SHAPE, "final")
    own.load_state_dict(graph.static(policies(1)[0]).state_dict())
    with torch.no_grad():
        expected = graph(images(3), policies(1).expand(3, -1, -1))
        assert (own.eval()(images(3)) - expected).abs().max() < 1e-5


def test_images_or_policies_of_another_shape_are_refused(graph: MetaGraph) -> None:
    with pytest.raises(ValueError, match=r"for images \(3, 8, 8\), got \(3, 16, 16\)"):
        graph(images(2, shape=ImageShape(3, 16, 5)), policies(2))
    with pytest.raises(ValueError, match=r"\(2, 4, 5\), got \(3, 4, 5\)"):
        graph(images(2), policies(3))
    with pytest.raises(ValueError, match=r"\(2, 4, 5\), got \(2, 4, 4\)"):
        graph(images(2), policies(2)[:, :, :4])


# --- training ---------------------------------------------------------------------------------


def test_gradients_are_those_of_each_image_in_its_own_network(graph: MetaGraph) -> None:
    """In evaluation mode, where the statistics of the batch play no part."""
    x_BCHW, y_B, policy_BLO = images(8), torch.arange(8) % 5, policies(8)
    F.cross_entropy(graph(x_BCHW, policy_BLO), y_B, reduction="sum").backward()
    found = {name: p.grad for name, p in graph.named_parameters()}
    graph.zero_grad()
    for x_CHW, y, policy_LO in zip(x_BCHW, y_B, policy_BLO, strict=True):
        F.cross_entropy(graph.static(policy_LO).eval()(x_CHW[None]), y[None]).backward()
    for name, parameter in graph.named_parameters():
        if parameter.grad is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_operations_that_no_image_has_get_no_gradient() -> None:
    graph = make_metagraph(SPACE, SHAPE, seed=0)
    policy = policies(16, keep=0.0)
    policy[:, 0, 2] = policy[:, 1, 0] = policy[:, 2, 4] = True
    graph(images(16), policy).square().mean().backward()
    touched = {name.split(".")[1] for name, p in graph.named_parameters() if p.grad is not None}
    assert touched == {"stem", "head", "block0/k5e6", "block1/k3e6", "block2/basic"}


def buffers(module: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in module.buffers()]


def test_statistics_are_of_the_images_that_have_the_operation() -> None:
    """Trained on half of a batch, an operation has the averages of that half."""
    graph, halved = make_metagraph(SPACE, SHAPE, seed=0), make_metagraph(SPACE, SHAPE, seed=0)
    x_BCHW, policy = images(32), policies(32, keep=0.0)
    policy[:, 0, 1] = True
    policy[:16, 0, 0] = True
    with evaluation_mode(graph.stem), evaluation_mode(halved.stem):
        graph(x_BCHW, policy)
        halved(x_BCHW[:16], policy[:16])
    for one, other in zip(
        buffers(graph.operation(0, 0)), buffers(halved.operation(0, 0)), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("count", [1, MIN_IMAGES - 1])
def test_few_images_of_a_batch_do_not_change_running_averages(count: int) -> None:
    """Not even of one image on a map of one pixel, where batch statistics do not exist."""
    shape = ImageShape(3, 2, 5)
    graph = make_metagraph(SPACE, shape, seed=0)
    policy = policies(32, keep=0.0)
    policy[:, :, BASIC] = True
    policy[:count, :, 0] = True
    before = [buffers(graph.operation(block, 0)) for block in range(4)]
    graph(images(32, shape=shape), policy).square().mean().backward()
    for block in range(4):
        operation = graph.operation(block, 0)
        assert operation.training
        assert all(map(torch.equal, buffers(operation), before[block]))
        assert all(p.grad is not None for p in operation.parameters()), "but it learns"
        assert not any(map(torch.equal, buffers(graph.operation(block, BASIC)), before[block]))


@pytest.mark.parametrize(("count", "batch"), [(MIN_IMAGES, 32), (4, 4)])
def test_enough_images_or_the_whole_batch_change_running_averages(count: int, batch: int) -> None:
    graph = make_metagraph(SPACE, SHAPE, seed=0)
    policy = policies(batch, keep=0.0)
    policy[:count, 1, 0] = True
    before = buffers(graph.operation(1, 0))
    graph(images(batch), policy)
    assert not any(map(torch.equal, buffers(graph.operation(1, 0)), before))


def test_no_gradient_and_no_statistics_in_evaluation(graph: MetaGraph) -> None:
    before = buffers(graph) + [p.detach().clone() for p in graph.parameters()]
    with torch.no_grad():
        graph(images(16), policies(16))
    after = buffers(graph) + list(graph.parameters())
    assert all(itertools.starmap(torch.equal, zip(before, after, strict=True)))


def test_a_few_steps_learn_through_random_policies() -> None:
    """Two kinds of images, told apart by their brightness, through other operations each time."""
    graph = make_metagraph(SPACE, SHAPE, seed=0)
    y_B = torch.arange(32) % 2
    x_BCHW = images(32) * 0.3 + y_B[:, None, None, None]
    optimizer = torch.optim.SGD(graph.parameters(), lr=0.05, momentum=0.9)
    for step in range(30):
        optimizer.zero_grad()
        F.cross_entropy(graph(x_BCHW, policies(32, keep=0.5, seed=step)), y_B).backward()
        optimizer.step()
    graph.eval()
    with torch.no_grad():
        hits = graph(x_BCHW, policies(32, keep=0.5, seed=99)).argmax(1) == y_B
    assert hits.float().mean() > 0.9


def test_weights_follow_the_seed_and_leave_the_generator() -> None:
    state = torch.get_rng_state()
    first, again, other = (
        make_metagraph(SPACE, SHAPE, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_published_size_makes_a_training_step() -> None:
    """17 blocks for 32x32 images, with policies as op-dropping ends: half of the operations."""
    stages = (
        (16, 1, 1),
        (24, 2, 1),
        (32, 3, 2),
        (64, 4, 2),
        (96, 3, 1),
        (160, 3, 2),
        (320, 1, 1),
    )
    config = MobileSpaceConfig(stages=stages, stem_channels=32, head_channels=1280)
    shape = ImageShape(3, 32, 10)
    graph = make_metagraph(MobileSpace(config), shape, seed=0)
    assert graph.policy_shape == (17, 5)
    policy = torch.rand(4, 17, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    optimizer = torch.optim.SGD(graph.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    before = graph.operation(16, 0).body[0].weight.detach().clone()
    loss = F.cross_entropy(graph(images(4, shape=shape), policy), torch.arange(4))
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p).all() for p in graph.parameters())
    assert not torch.equal(graph.operation(16, 0).body[0].weight, before)
