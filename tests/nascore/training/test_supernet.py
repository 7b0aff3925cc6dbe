"""A path through the supernet is the network of its genotype, on shared weights."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from timing import Pair, cost_ratio
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_
from torch.nn import functional as F

from nascore.config import SPACE_SECTIONS, SpaceSection
from nascore.genotype import Genotype
from nascore.spaces import base as spaces
from nascore.spaces.base import ImageShape, SearchSpace, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.training.child import build_network
from nascore.training.supernet import Supernet, make_supernet

SHAPE = ImageShape(1, 8, 10)
CONFIGS: dict[str, SpaceSection] = {
    "nasbench201": Cell201SpaceConfig(search_channels=4),
    "enas-micro": EnasMicroSpaceConfig(search_channels=4),
    "mobile": MobileSpaceConfig(search_width=0.25),
    "superkernel": SuperkernelSpaceConfig(
        num_nodes=2,
        kernel_sizes=(1, 3),
        dilations=(1, 2),
        operations=("conv", "none"),
        search_channels=4,
    ),
}
CELL_201 = make_space(CONFIGS["nasbench201"])
MICRO = make_space(CONFIGS["enas-micro"])


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return make_supernet(make_space(CONFIGS[request.param]), SHAPE, seed=0)


@pytest.fixture
def space(supernet: Supernet) -> SearchSpace:
    return supernet._space


@pytest.fixture
def images() -> Tensor:
    return torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


_NAMES = [section.model_fields["name"].default for section in SPACE_SECTIONS]


def genotypes(space: SearchSpace, number: int, *, seed: int = 0) -> Iterator[Genotype]:
    rng = np.random.default_rng(seed)
    for _ in range(number):
        yield spaces.sample(space, rng)


def weights(network: nn.Module) -> set[int]:
    return {id(parameter) for parameter in network.parameters()}


def named(network: Supernet, prefix: str) -> set[int]:
    """The weights of the parts whose names start so."""
    return {
        id(parameter)
        for name, part in network.parts.items()
        if name.startswith(prefix)
        for parameter in part.parameters()
    }


def alone(space: SearchSpace, genotype: Genotype) -> nn.Module:
    """The same network with weights of its own, which normalises by the batch as paths do."""
    return replace_all_batch_norm_modules_(build_network(space, genotype, SHAPE, seed=7))


# --- contract of every space with shared weights ----------------------------------------------


def test_every_space_that_says_so_shares_weights() -> None:
    sharing = {name for name in _NAMES if hasattr(make_space(_default(name)), "assemble")}
    assert sharing == set(CONFIGS)
    assert all(config.shares_weights for config in CONFIGS.values())


def _default(name: str) -> SpaceSection:
    sections = {section.model_fields["name"].default: section for section in SPACE_SECTIONS}
    return CONFIGS[name] if name in CONFIGS else sections[name]()


def test_a_path_computes_what_its_network_does(
    supernet: Supernet, space: SearchSpace, images: Tensor
) -> None:
    for genotype in genotypes(space, 6):
        path, network = supernet.path(genotype), alone(space, genotype)
        assert not torch.equal(path(images), network(images))
        network.load_state_dict(path.state_dict())
        assert torch.equal(path(images), network(images))


def test_gradients_reach_the_path_alone(
    supernet: Supernet, space: SearchSpace, images: Tensor
) -> None:
    supernet.zero_grad()
    genotype = next(genotypes(space, 1))
    if space.identifier == CELL_201.identifier:  # where not every node need be on a way to the end
        genotype = spaces.make_genotype(space, (3, 3, 0, 2, 1, 4))
    path = supernet.path(genotype)
    path(images).square().mean().backward()
    on_path = weights(path)
    for parameter in supernet.parameters():
        assert (parameter.grad is not None) == (id(parameter) in on_path)
    assert on_path < weights(supernet), "and there is more than the path"


def test_two_paths_share_exactly_the_parts_that_both_have(
    supernet: Supernet, space: SearchSpace
) -> None:
    for one, other in zip(genotypes(space, 5), genotypes(space, 5, seed=1), strict=True):
        networks, asked = [supernet.path(one), supernet.path(other)], []
        for genotype in (one, other):
            names: list[str] = []
            space.assemble(genotype, SHAPE, _noting(supernet, names))  # type: ignore[attr-defined]
            assert len(set(names)) == len(names), "no part is there twice"
            asked.append(set(names))
        common = set().union(*(weights(supernet.parts[name]) for name in asked[0] & asked[1]))
        assert weights(networks[0]) & weights(networks[1]) == common
        assert common < weights(networks[0])


def _noting(supernet: Supernet, names: list[str]) -> Callable[..., nn.Module]:
    def parts(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        names.append(name)
        return supernet.parts[name]

    return parts


def test_every_value_of_every_token_is_covered(supernet: Supernet, space: SearchSpace) -> None:
    """A part depends on at most two tokens next to each other, an input and its operation, and on
    what is loose; all neighbours of a few architectures are more than that."""
    everything = weights(supernet)
    for genotype in genotypes(space, 3):
        for neighbour in spaces.neighbours(space, genotype):
            assert weights(supernet.path(neighbour)) < everything


def test_nothing_is_there_that_no_path_has(supernet: Supernet, space: SearchSpace) -> None:
    seen: set[int] = set()
    for genotype in genotypes(space, 300):
        seen |= weights(supernet.path(genotype))
    assert len(seen) >= 0.99 * len(weights(supernet))


def test_a_path_is_judged_by_the_batch_it_sees(
    supernet: Supernet, space: SearchSpace, images: Tensor
) -> None:
    path = supernet.path(next(genotypes(space, 1)))
    before = path.eval()(images)
    path.train()(10 * images)  # running averages would remember this
    assert torch.equal(path.eval()(images), before)
    assert not list(supernet.buffers())


def test_weights_depend_on_the_seed_alone(space: SearchSpace) -> None:
    torch.manual_seed(1)
    one = make_supernet(space, SHAPE, seed=5)
    state = torch.get_rng_state()
    other = make_supernet(space, SHAPE, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_space_without_shared_weights_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot share weights"):
        make_supernet(make_space(ChainSpaceConfig()), SHAPE, seed=0)


# --- what each space shares -------------------------------------------------------------------


def test_cell_edges_are_shared_by_place_and_operation() -> None:
    supernet = make_supernet(CELL_201, SHAPE, seed=0)

    def path(*tokens: int) -> set[int]:
        return weights(supernet.path(spaces.make_genotype(CELL_201, tokens)))

    common = path(3, 3, 3, 3, 3, 3) & path(3, 2, 2, 2, 2, 2)
    assert common == path(3, 0, 0, 0, 0, 0)
    assert path(0, 0, 0, 0, 0, 0) < common


def test_micro_operations_have_weights_for_each_cell_block_half_and_input() -> None:
    supernet = make_supernet(MICRO, SHAPE, seed=0)
    base = next(genotypes(MICRO, 1)).tokens
    last_block = 16  # of the normal cell: tokens input, operation, input, operation

    def path(*block: int) -> set[int]:
        tokens = (*base[:last_block], *block, *base[last_block + 4 :])
        return weights(supernet.path(spaces.make_genotype(MICRO, tokens)))

    left = {name: named(supernet, f"cell0/block4/left/{name}/") for name in ("input0", "input5")}
    assert left["input0"] <= weights(supernet) - path(5, 0, 0, 0)
    sep3 = named(supernet, "cell0/block4/left/input5/sep_conv_3x3")
    assert sep3 < left["input5"]
    assert sep3 < path(5, 0, 0, 0)
    assert not sep3 & path(5, 1, 5, 0), "another operation; and the other half is not this one"
    assert not sep3 & path(0, 0, 5, 0), "another input"
    assert path(5, 2, 0, 4) & sep3 == set(), "pooling has no weights"


# --- batch statistics -------------------------------------------------------------------------


@pytest.mark.slow
def test_running_averages_over_many_paths_would_judge_by_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same training on random paths of the cell, with and without them."""
    by_batch = _median_accuracy(make_supernet(CELL_201, SHAPE, seed=0))
    monkeypatch.setattr(
        "nascore.training.supernet.replace_all_batch_norm_modules_", lambda network: network
    )
    averaging = make_supernet(CELL_201, SHAPE, seed=0)
    assert list(averaging.buffers())
    by_averages = _median_accuracy(averaging)
    assert by_batch > 0.4
    assert by_averages < by_batch - 0.15


def _median_accuracy(supernet: Supernet, *, num_steps: int = 200) -> float:
    """Of 20 random paths on real digits, after training on random paths; a tenth is chance."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x_BCHW = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)[:, None]
    y_B = torch.tensor(digits.target)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(num_steps):
        batch = rng.integers(1500, size=32)
        path = supernet.path(spaces.sample(CELL_201, rng)).train()
        optimizer.zero_grad()
        F.cross_entropy(path(x_BCHW[batch]), y_B[batch]).backward()
        nn.utils.clip_grad_norm_(path.parameters(), 5.0)
        optimizer.step()
    accuracies = []
    for _ in range(20):
        path = supernet.path(spaces.sample(CELL_201, rng)).eval()
        with torch.no_grad():
            hits_B = path(x_BCHW[1500:]).argmax(1) == y_B[1500:]
        accuracies.append(float(hits_B.float().mean()))
    return statistics.median(accuracies)


# --- what a path costs ------------------------------------------------------------------------


def _step(network: nn.Module, images: Tensor) -> None:
    network(images).square().mean().backward()


@pytest.mark.timing
def test_a_step_costs_what_it_costs_the_network_alone(
    supernet: Supernet, space: SearchSpace, one_thread: None
) -> None:
    """Forward and backward, the path's assembly included, at the size of the quick preset: small,
    so that the assembly weighs most."""
    images = torch.randn(64, 1, 8, 8)

    def pairs(attempt: int) -> Iterator[Pair]:
        for genotype in genotypes(space, 15, seed=attempt):
            supernet.zero_grad()
            yield (
                lambda genotype=genotype: _step(supernet.path(genotype), images),
                partial(_step, alone(space, genotype), images),
            )

    assert cost_ratio(pairs, enough=1.1) <= 1.15


def test_a_path_keeps_in_memory_what_its_network_does(
    supernet: Supernet, space: SearchSpace, images: Tensor
) -> None:
    """Above the weights: what is saved for the backward pass, and the gradients."""
    for genotype in genotypes(space, 5):
        supernet.zero_grad()
        own = _bytes_above_weights(alone(space, genotype), images)
        assert _bytes_above_weights(supernet.path(genotype), images, supernet) <= 1.1 * own


def _bytes_above_weights(
    network: nn.Module, images: Tensor, holder: nn.Module | None = None
) -> int:
    holder = network if holder is None else holder
    of_weights = {p.untyped_storage().data_ptr() for p in holder.parameters()}
    saved: dict[int, int] = {}
    kept = []  # alive, so that no address is taken twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_weights:
            saved[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _step(network, images)
    gradients = sum(p.grad.nbytes for p in holder.parameters() if p.grad is not None)
    assert saved
    assert gradients > 0
    return sum(saved.values()) + gradients
