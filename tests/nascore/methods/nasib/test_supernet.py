"""A path through superkernels is the network that has its operations, at no cost of its own."""

import statistics
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_

from nascore.methods.nasib.distribution import Distribution
from nascore.methods.nasib.supernet import SuperkernelSupernet, make_superkernel_supernet
from nascore.spaces import base
from nascore.spaces.base import ImageShape
from nascore.spaces.parts import fresh
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.space import SuperkernelSpace

SHAPE = ImageShape(3, 10, 4)
SPACE = SuperkernelSpace(
    SuperkernelSpaceConfig(num_nodes=2, num_stages=2, search_channels=4, kernel_sizes=(1, 3, 5))
)


@pytest.fixture(scope="module")
def supernet() -> SuperkernelSupernet:
    return make_superkernel_supernet(SPACE, SHAPE, seed=0)


def images(batch: int = 12, shape: ImageShape = SHAPE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, shape.channels, shape.size, shape.size, generator=generator)


def tokens(seed: int, space: SuperkernelSpace = SPACE, shape: ImageShape = SHAPE) -> Tensor:
    """Uniform operations for all edges."""
    distribution = Distribution(space, shape)
    noise_ES = distribution.noise(torch.Generator().manual_seed(seed))
    everywhere_E = torch.ones(len(space.edges), dtype=torch.bool)
    return distribution.sample(noise_ES, everywhere_E, temperature=1.0).tokens_EA


def plain(supernet: SuperkernelSupernet, tokens_EA: Tensor) -> nn.Module:
    """The same network of plain convolutions with weights of their own."""
    space, shape = supernet._space, supernet._shape
    return replace_all_batch_norm_modules_(space.network(supernet.cells(tokens_EA), shape, fresh))


@pytest.mark.parametrize("seed", range(5))
def test_a_path_computes_what_its_network_does(supernet: SuperkernelSupernet, seed: int) -> None:
    tokens_EA = tokens(seed)
    path, own = supernet.path(tokens_EA), plain(supernet, tokens_EA)
    assert not torch.allclose(path(images()), own(images()))
    own.load_state_dict(path.state_dict())
    torch.testing.assert_close(path(images()), own(images()), rtol=0, atol=1e-5)


def test_a_child_computes_what_its_network_does(supernet: SuperkernelSupernet) -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        genotype = base.sample(SPACE, rng)
        child = supernet.child(genotype)
        own = replace_all_batch_norm_modules_(SPACE.build(genotype, SHAPE))
        own.load_state_dict(child.state_dict())
        torch.testing.assert_close(child(images()), own(images()), rtol=0, atol=1e-5)


def test_gates_of_one_change_nothing_and_have_the_gradient_of_a_factor(
    supernet: SuperkernelSupernet,
) -> None:
    """Held against the difference quotient of outputs that are multiplied by hand."""
    supernet = make_superkernel_supernet(SPACE, SHAPE, seed=0).double()
    tokens_EA, x_BCHW = tokens(3), images().double()
    gates_E = torch.ones(len(tokens_EA), dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(
        supernet.path(tokens_EA, gates_E)(x_BCHW), supernet.path(tokens_EA)(x_BCHW)
    )
    loss = supernet.path(tokens_EA, gates_E)(x_BCHW).square().mean()
    (gradient_E,) = torch.autograd.grad(loss, [gates_E])
    branches = SPACE.config.operations
    for edge, row in enumerate(tokens_EA.tolist()):
        found = [_scaled(supernet, tokens_EA, edge, 1 + step, x_BCHW) for step in (-1e-5, 1e-5)]
        quotient = (found[1] - found[0]) / 2e-5
        assert float(gradient_E[edge]) == pytest.approx(quotient, rel=1e-4, abs=1e-7)
        assert (gradient_E[edge] == 0) == (branches[row[0]] == "none")


def _scaled(
    supernet: SuperkernelSupernet, tokens_EA: Tensor, edge: int, factor: float, x_BCHW: Tensor
) -> float:
    """The loss with the output of one edge's operation times a factor, in every cell."""
    place = SPACE.edges[edge]
    path = supernet.path(tokens_EA)
    hooks = []
    for number, cell in zip(path.places, path.cells, strict=True):  # type: ignore[arg-type]
        if supernet._plans[number].is_reduction != bool(place.cell):
            continue
        for source, position in cell.incoming[place.target - 2]:  # type: ignore[index, union-attr]
            if source == place.source:
                operation = cell.operations[position]  # type: ignore[index, union-attr]
                hooks.append(operation.register_forward_hook(lambda m, i, out: out * factor))
    loss = float(path(x_BCHW).square().mean().detach())
    for hook in hooks:
        hook.remove()
    return loss


def test_gradients_reach_the_path_alone(supernet: SuperkernelSupernet) -> None:
    supernet.zero_grad()
    path = supernet.path(tokens(0))
    path(images()).square().mean().backward()
    on_path = {id(parameter) for parameter in path.parameters()}
    for parameter in supernet.parameters():
        assert (parameter.grad is not None) == (id(parameter) in on_path)
    assert len(on_path) < len(list(supernet.parameters()))


def test_every_weight_is_made_once_and_depends_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    one, same, other = (make_superkernel_supernet(SPACE, SHAPE, seed=s) for s in (1, 1, 2))
    assert len(one.kernels) == (1 + 1 + 1) * 5, "two normal cells and one reduction of five edges"
    states = [network.state_dict() for network in (one, same, other)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])
    assert not list(one.buffers()), "no running averages over paths"


# --- what it costs ------------------------------------------------------------------------------


@pytest.mark.timing
def test_a_step_on_a_path_costs_what_plain_convolutions_cost(one_thread: None) -> None:
    """The whole space of 96 convolutions, forward, backward and the path's assembly; in pairs, in
    seconds of the processor, and tried again."""
    space, shape = SuperkernelSpace(SuperkernelSpaceConfig()), ImageShape(3, 16, 10)
    supernet = make_superkernel_supernet(space, shape, seed=0)
    x_BCHW, ratios = images(64, shape), list[float]()
    for attempt in range(4):
        for i in range(8):
            tokens_EA = tokens(8 * attempt + i, space, shape)
            own = plain(supernet, tokens_EA)
            own(x_BCHW).square().mean().backward()  # the first call chooses algorithms
            durations_s: dict[str, float] = {}
            for kind in ("path", "plain") if i % 2 else ("plain", "path"):
                supernet.zero_grad()
                own.zero_grad()
                start = time.process_time()
                network = supernet.path(tokens_EA) if kind == "path" else own
                network(x_BCHW).square().mean().backward()
                durations_s[kind] = time.process_time() - start
            ratios.append(durations_s["path"] / durations_s["plain"])
        if statistics.median(ratios) <= 1.1:
            break
    assert statistics.median(ratios) <= 1.15


@pytest.mark.parametrize("is_gated", [False, True], ids=["weights", "distribution"])
def test_a_path_keeps_in_memory_what_plain_convolutions_keep(is_gated: bool) -> None:
    """Above the weights, of which gradients are a part; a step of the distribution has none."""
    space, shape = SuperkernelSpace(SuperkernelSpaceConfig()), ImageShape(3, 16, 10)
    supernet = make_superkernel_supernet(space, shape, seed=0)
    for seed in range(3):
        tokens_EA = tokens(seed, space, shape)
        own = _bytes_saved(plain(supernet, tokens_EA), images(32, shape))
        gates_E = torch.ones(len(tokens_EA), requires_grad=True) if is_gated else None
        path = supernet.path(tokens_EA, gates_E)
        assert _bytes_saved(path, images(32, shape), supernet) <= 1.1 * own


def _bytes_saved(network: nn.Module, x_BCHW: Tensor, holder: nn.Module | None = None) -> int:
    """What the backward pass keeps that is no weight."""
    holder = network if holder is None else holder
    of_weights = {p.untyped_storage().data_ptr() for p in holder.parameters()}
    saved: dict[int, int] = {}
    alive = []  # so that no address is taken twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_weights:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x_BCHW).square().mean().backward()
    assert saved
    return sum(saved.values())
