"""The contract of every search space, then what is particular to each."""

import collections
import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nascore.config import SPACE_SECTIONS, SpaceSection
from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.spaces.base import (
    ImageShape,
    SearchSpace,
    check,
    make_genotype,
    make_space,
    mutate,
    neighbours,
    sample,
)
from nascore.spaces.blocks import Block, loose_ends
from nascore.spaces.blocks import Cell as CellOfBlocks
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.chain.space import ChainNetwork, ChainSpace
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.spaces.enas_micro.space import EnasMicroSpace, MicroCell, MicroNetwork, Output
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.spaces.flops import count
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.nasbench201.space import OPS, Cell201Space
from nascore.spaces.residual.config import WIDTHS, ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig

CONFIGS: dict[str, SpaceSection] = {
    "chain": ChainSpaceConfig(),
    "nasbench201": Cell201SpaceConfig(search_channels=4),
    "enas-micro": EnasMicroSpaceConfig(search_channels=4, final_channels=8),
    "mobile": MobileSpaceConfig(width=0.5, search_width=0.25),
    "superkernel": SuperkernelSpaceConfig(num_nodes=2, search_channels=4, final_channels=8),
    "fewshot-cell": FewShotCellSpaceConfig(max_blocks=2, search_channels=4, final_channels=8),
    "residual": ResidualSpaceConfig(channels=8),
}
GREY, COLOUR = ImageShape(1, 8, 10), ImageShape(3, 32, 5)
PAPER = ChainSpaceConfig(
    num_layers=15,
    vocabulary=29,
    channels_per_token=10,
    final_added_channels=150,
    min_map_size=1,
)


NAMES = [section.model_fields["name"].default for section in SPACE_SECTIONS]


@pytest.fixture(params=sorted(NAMES))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return make_space(CONFIGS[request.param])


def genotypes(space: SearchSpace, number: int, *, seed: int = 0) -> Iterator[Genotype]:
    rng = np.random.default_rng(seed)
    for _ in range(number):
        yield sample(space, rng)


def build(space: SearchSpace, genotype: Genotype, shape: ImageShape, *, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(genotype, shape)


def images(shape: ImageShape, number: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, shape.channels, shape.size, shape.size, generator=generator)


# --- contract of every space ----------------------------------------------------------------


def test_every_space_of_the_registry_is_tested() -> None:
    assert CONFIGS.keys() == set(NAMES)


def test_samples_are_members_and_survive_json(space: SearchSpace) -> None:
    for genotype in genotypes(space, 100):
        check(space, genotype)
        assert Genotype.from_json(genotype.to_json()) == genotype


def test_samples_reach_every_value_of_every_token(space: SearchSpace) -> None:
    seen = [set(column) for column in zip(*(g.tokens for g in genotypes(space, 300)), strict=True)]
    assert [len(values) for values in seen] == list(space.cardinalities)


def test_strangers_are_refused(space: SearchSpace) -> None:
    genotype = next(genotypes(space, 1))
    tokens = genotype.tokens
    strangers = [
        Genotype("another-space", tokens),
        Genotype(space.identifier, tokens[:-1]),
        Genotype(space.identifier, (*tokens[:-1], space.cardinalities[-1])),
        Genotype(space.identifier, (-1, *tokens[1:])),
    ]
    for stranger in strangers:
        for use in (space.canonical, space.describe):
            with pytest.raises(GenotypeNotInSpace):
                use(stranger)
        with pytest.raises(GenotypeNotInSpace):
            space.build(stranger, GREY)
        with pytest.raises(GenotypeNotInSpace):
            space.graph(stranger, GREY)


def test_mutation_changes_one_token_and_stays_inside(space: SearchSpace) -> None:
    rng = np.random.default_rng(1)
    positions = set()
    for genotype in genotypes(space, 400):
        mutant = mutate(space, genotype, rng)
        check(space, mutant)
        changed = [
            i
            for i, pair in enumerate(zip(genotype.tokens, mutant.tokens, strict=True))
            if len({*pair}) > 1
        ]
        assert len(changed) == 1
        positions.update(changed)
    assert positions == set(range(len(space.cardinalities)))


def test_neighbours_are_all_that_differ_in_one_token(space: SearchSpace) -> None:
    genotype = next(genotypes(space, 1))
    found = list(neighbours(space, genotype))
    assert len(set(found)) == len(found) == sum(size - 1 for size in space.cardinalities)
    for other in found:
        check(space, other)
        assert sum(a != b for a, b in zip(genotype.tokens, other.tokens, strict=True)) == 1


@pytest.mark.parametrize("shape", [GREY, COLOUR], ids=["8x8x1", "32x32x3"])
def test_networks_answer_and_learn(space: SearchSpace, shape: ImageShape) -> None:
    for genotype in genotypes(space, 8):
        network = build(space, genotype, shape)
        logits = network(images(shape, 4))
        assert logits.shape == (4, shape.num_classes)
        nn.functional.cross_entropy(logits, torch.arange(4)).backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_final_network_is_larger_and_runs(space: SearchSpace) -> None:
    """Only residual networks are searched at their full size."""
    for genotype in genotypes(space, 3):
        search, final = (space.build(genotype, GREY, phase) for phase in ("search", "final"))
        assert final.eval()(images(GREY, 2)).shape == (2, 10)
        larger = count(final, GREY).num_params - count(search, GREY).num_params
        assert larger == 0 if isinstance(space, ResidualSpace) else larger > 0


def test_initial_weights_follow_the_seed(space: SearchSpace) -> None:
    genotype = next(genotypes(space, 1))
    first, again, other = (
        build(space, genotype, GREY, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_equal_keys_mean_equal_functions(space: SearchSpace) -> None:
    """Weights that depend on the layer's shape alone: then the same network has the same logits."""
    num_pairs = 0
    for genotype in genotypes(space, 4, seed=5):
        if isinstance(space, MobileSpace):
            genotype = with_empty_stages(space, genotype)
        if isinstance(space, ResidualSpace):
            genotype = with_equal_widths(genotype)[0]
        key = space.canonical(genotype)
        expected = _logits_of_standard_weights(space, genotype)
        others = itertools.islice(neighbours(space, genotype), 40)
        if isinstance(space, EnasMicroSpace):  # where one token alone never makes a copy
            others = with_swapped_halves(genotype)
        if isinstance(space, ResidualSpace):  # where one token alone rarely makes a copy
            others = iter(with_equal_widths(genotype)[1:])
        for other in others:
            if space.canonical(other) == key:
                num_pairs += 1
                torch.testing.assert_close(_logits_of_standard_weights(space, other), expected)
    assert num_pairs >= 5


def with_empty_stages(space: MobileSpace, genotype: Genotype) -> Genotype:
    """No operation in the first block of a stage: what the default is a copy of."""
    bits = np.array(genotype.tokens).reshape(space.num_blocks, -1)
    bits[[plan.is_first for plan in space.plans(GREY)]] = 0
    return make_genotype(space, bits.flatten())


def with_equal_widths(genotype: Genotype) -> list[Genotype]:
    """All stages have one token of width, which is relative to the other stages."""
    found = []
    for width in range(len(WIDTHS)):
        tokens = list(genotype.tokens)
        tokens[1:-2:6] = [width] * len(tokens[1:-2:6])
        found.append(Genotype(genotype.space, tuple(tokens)))
    return found


def with_swapped_halves(genotype: Genotype) -> Iterator[Genotype]:
    """The two halves of one block in the other order."""
    for i in range(0, len(genotype.tokens), 4):
        tokens = list(genotype.tokens)
        tokens[i : i + 4] = tokens[i + 2 : i + 4] + tokens[i : i + 2]
        yield Genotype(genotype.space, tuple(tokens))


def _logits_of_standard_weights(space: SearchSpace, genotype: Genotype) -> torch.Tensor:
    network = build(space, genotype, GREY).double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 1:  # no offsets: for the benchmark zeros stay zeros
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            seed = zlib.crc32(repr(tuple(parameter.shape)).encode())
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
            )
        return network(images(GREY, 3).double())


def test_different_keys_are_described_differently(space: SearchSpace) -> None:
    lines = {}
    for genotype in genotypes(space, 300):
        lines.setdefault(space.canonical(genotype), set()).add(space.describe(genotype))
    for one, other in itertools.combinations(lines.values(), 2):
        assert not one & other
    assert all("\n" not in line for group in lines.values() for line in group)


def test_keys_of_chains_tell_what_descriptions_tell() -> None:
    space = ChainSpace(ChainSpaceConfig())
    num_same = 0
    for genotype in genotypes(space, 5):
        key, line = space.canonical(genotype), space.describe(genotype)
        for other in neighbours(space, genotype):
            is_same = space.describe(other) == line
            num_same += is_same
            assert (space.canonical(other) == key) == is_same
    assert num_same >= 20


def test_graph_is_acyclic_and_names_its_nodes(space: SearchSpace) -> None:
    for genotype in genotypes(space, 30):
        graph = space.graph(genotype, COLOUR)
        names = [node.id for node in graph.nodes]
        assert len(set(names)) == len(names)
        assert [node.kind for node in graph.nodes].count("input") == 1
        assert [node.kind for node in graph.nodes].count("output") == 1
        left = set(names)
        while left:  # peel off the nodes that nothing left points to
            targets = {target for source, target, _ in graph.edges if source in left}
            assert left - targets, f"cycle among {left}"
            left &= targets
        assert {end for edge in graph.edges for end in edge[:2]} <= set(names)


def test_networks_can_be_exported_with_any_batch(space: SearchSpace) -> None:
    network = build(space, next(genotypes(space, 1, seed=3)), GREY).eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(
        network, (images(GREY, 2),), dynamic_shapes=({0: batch},)
    ).module()
    for number in (1, 7):
        x_BCHW = images(GREY, number, seed=number)
        torch.testing.assert_close(exported(x_BCHW), network(x_BCHW))


# --- the chain ------------------------------------------------------------------------------


def chain(tokens_by_layer: list[tuple[int, int, int, int]], config: ChainSpaceConfig) -> Genotype:
    return make_genotype(
        ChainSpace(config), [token for layer in tokens_by_layer for token in layer]
    )


def paper_layers(*paper_tokens: tuple[int, int, int, int]) -> tuple:
    """Layers of a chain given in the paper's tokens 1..29."""
    config = PAPER.model_copy(update={"num_layers": len(paper_tokens)})
    genotype = chain([tuple(token - 1 for token in layer) for layer in paper_tokens], config)
    return ChainSpace(config).layers(genotype)


def test_chain_thresholds_are_those_of_the_paper() -> None:
    first = (1, 1, 1, 1)
    ops = [paper_layers(first, (token, 1, 1, 29))[1].op for token in range(1, 30)]
    assert ops == ["separable"] * 4 + ["conv_block"] * 15 + ["max_pool"] * 5 + ["avg_pool"] * 5
    kernels = [paper_layers((1, token, 1, 1))[0].kernel for token in range(1, 30)]
    assert kernels == [3] * 14 + [5] * 15
    assert all(paper_layers((token, 1, 1, 1))[0].op == "conv" for token in range(1, 30))


def test_chain_shortcuts_join_layers_with_near_tokens() -> None:
    layers = paper_layers((1, 1, 1, 10), (5, 1, 1, 14), (5, 1, 1, 15), (5, 1, 1, 10), (5, 1, 1, 5))
    assert [layer.sources for layer in layers] == [(), (0,), (1,), (0, 1), ()]


def test_chain_with_eight_values_keeps_the_shares_of_the_paper() -> None:
    space = ChainSpace(ChainSpaceConfig(num_layers=2))
    layers = [
        space.layers(make_genotype(space, (0, token, 0, 0, token, 0, token, 7)))
        for token in range(8)
    ]
    # ceil(t * 29 / 8) = 4, 8, 11, 15, 19, 22, 26, 29
    assert [pair[1].op for pair in layers] == (
        ["separable"] + ["conv_block"] * 4 + ["max_pool"] + ["avg_pool"] * 2
    )
    assert [pair[0].kernel for pair in layers] == [3, 3, 3, 5, 5, 5, 5, 5]
    assert [pair[1].filters for pair in layers] == [1, 2, 3, 4, 5, 0, 0, 0]


@pytest.mark.parametrize(("phase", "own", "shortcut"), [("search", 70, 7), ("final", 220, 37)])
def test_chain_widths_are_those_of_the_paper(phase: str, own: int, shortcut: int) -> None:
    config = PAPER.model_copy(update={"num_layers": 2})
    genotype = chain([(0, 0, 6, 9), (9, 20, 6, 9)], config)
    network = ChainSpace(config).build(genotype, ImageShape(3, 32, 10), phase)
    assert isinstance(network, ChainNetwork)
    assert network.layers[0].body[0].weight.shape == (own, 3, 3, 3)
    assert network.layers[1].shortcuts[0][0].weight.shape == (shortcut, own, 1, 1)
    # ReLU, 1x1, BN, ReLU, 5x5, BN; the first layer's shortcut-free output comes in
    kinds = [type(module).__name__ for module in network.layers[1].body]
    assert kinds == ["ReLU", "Conv2d", "BatchNorm2d"] * 2
    assert network.layers[1].body[4].weight.shape == (own, own, 5, 5)
    assert network.head.in_features == own + shortcut


def test_chain_shortcut_reads_the_output_before_concatenation() -> None:
    config = ChainSpaceConfig(num_layers=3)
    genotype = chain([(0, 0, 3, 0), (1, 0, 5, 0), (1, 0, 1, 0)], config)
    network = ChainSpace(config).build(genotype, GREY)
    inputs = [shortcut[0].in_channels for shortcut in network.layers[2].shortcuts]
    assert inputs == [2 * 4, 2 * 6]  # not 12 + the four channels that layer 1 received


@pytest.mark.parametrize("size", [4, 5, 7, 8, 9, 13, 28, 32, 33])
@pytest.mark.parametrize("min_map_size", [1, 2, 4])
def test_chain_pooling_stops_and_shortcuts_fit(size: int, min_map_size: int) -> None:
    """Every other layer pools, every layer is joined to every other one."""
    config = ChainSpaceConfig(num_layers=10, min_map_size=min_map_size)
    genotype = chain([(5 if k % 2 else 7, 0, 0, 0) for k in range(10)], config)
    network = ChainSpace(config).build(genotype, ImageShape(1, size, 3)).eval()
    sizes = []
    for layer in network.layers:
        layer.register_forward_hook(lambda _m, _i, out: sizes.append(out[0].shape[-1]))
    assert network(images(ImageShape(1, size, 3), 2)).shape == (2, 3)
    assert sizes == sorted(sizes, reverse=True)
    assert min_map_size <= sizes[-1] <= max(2 * (min_map_size - 1), 1)


def test_chain_ignores_tokens_without_an_effect() -> None:
    space = ChainSpace(ChainSpaceConfig(num_layers=2))

    def key(*tokens: int) -> str:
        return space.canonical(make_genotype(space, tokens))

    assert key(0, 0, 1, 0, 5, 0, 0, 7) == key(7, 2, 1, 0, 5, 7, 6, 6)  # first op; pool of one size
    assert key(0, 0, 1, 0, 1, 0, 0, 7) == key(0, 0, 1, 0, 4, 2, 0, 7)  # same side of a threshold
    assert key(0, 0, 1, 0, 5, 0, 0, 7) != key(0, 0, 1, 0, 6, 0, 0, 7)  # max and average
    assert key(0, 0, 1, 0, 1, 0, 0, 7) != key(0, 0, 1, 0, 1, 0, 1, 7)  # channels
    assert key(0, 0, 1, 0, 1, 0, 0, 7) != key(0, 0, 1, 0, 1, 3, 0, 7)  # kernel
    assert key(0, 0, 1, 0, 1, 0, 0, 7) != key(0, 0, 1, 0, 1, 0, 0, 1)  # shortcut


def test_chain_networks_with_one_key_have_the_same_tensors() -> None:
    space = ChainSpace(ChainSpaceConfig())
    groups = collections.defaultdict(list)
    for genotype in genotypes(space, 5, seed=9):
        for other in (genotype, *neighbours(space, genotype)):
            groups[space.canonical(other)].append(other)
    pairs = [group[:2] for group in groups.values() if len(group) > 1]
    assert len(pairs) >= 5
    for pair in pairs:
        one, other = (space.build(genotype, GREY).state_dict() for genotype in pair)
        assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}


def test_chain_identifier_names_what_the_tokens_mean() -> None:
    base = ChainSpaceConfig()
    changes = {"num_layers": 6, "vocabulary": 9, "channels_per_token": 3, "min_map_size": 1}
    names = {
        ChainSpace(base.model_copy(update={key: value})).identifier
        for key, value in changes.items()
    }
    assert len({*names, ChainSpace(base).identifier}) == len(changes) + 1
    assert ChainSpace(base).identifier.startswith("chain-5x4-v8")


def test_chain_convolutions_start_he_normal() -> None:
    config = PAPER.model_copy(update={"num_layers": 2})
    genotype = chain([(0, 0, 28, 0), (9, 20, 28, 28)], config)
    network = build(ChainSpace(config), genotype, ImageShape(3, 8, 10))
    weight = network.layers[1].body[4].weight  # (290, 290, 5, 5)
    assert weight.std().item() == pytest.approx((2 / (290 * 25)) ** 0.5, rel=0.01)


# --- the cell of NAS-Bench-201 --------------------------------------------------------------


@pytest.fixture(scope="module")
def table(offline_data: Path) -> list[dict[str, str]]:
    with gzip.open(offline_data / "nasbench201_cifar10.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_cell_keys_are_the_classes_of_the_benchmark(table: list[dict[str, str]]) -> None:
    space = Cell201Space(Cell201SpaceConfig())
    pairs = {
        (space.canonical(space.from_arch_str(row["arch_str"])), row["iso_id"]) for row in table
    }
    assert len(table) == 5**6
    assert len(pairs) == len({key for key, _ in pairs}) == len({iso for _, iso in pairs}) == 6466


def test_cell_text_is_that_of_the_benchmark(table: list[dict[str, str]]) -> None:
    space = Cell201Space(Cell201SpaceConfig())
    genotypes_ = [space.from_arch_str(row["arch_str"]) for row in table]
    assert len(set(genotypes_)) == len(table)
    assert [space.to_arch_str(genotype) for genotype in genotypes_] == [
        r["arch_str"] for r in table
    ]


def test_cell_size_is_that_of_the_benchmark(table: list[dict[str, str]]) -> None:
    space, shape = Cell201Space(Cell201SpaceConfig()), ImageShape(3, 32, 10)
    for index in (0, 1, *np.random.default_rng(0).choice(len(table), 8, replace=False)):
        row = table[index]
        with torch.device("meta"):  # shapes only: no weights are drawn, nothing is computed
            cost = count(space.build(space.from_arch_str(row["arch_str"]), shape, "final"), shape)
        assert cost.num_params / 1e6 == pytest.approx(float(row["params_m_formula"]), abs=1e-9)
        assert cost.macs / 1e6 == pytest.approx(float(row["flops_m_formula"]), abs=1e-9)


def test_cell_token_order_is_the_text_order() -> None:
    space = Cell201Space(Cell201SpaceConfig())
    text = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    assert OPS == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert space.from_arch_str(text).tokens == (0, 1, 2, 3, 4, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~1|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|",
        "|none~0||none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_cell_refuses_other_text(text: str) -> None:
    with pytest.raises(GenotypeNotInSpace, match=r"NAS-Bench-201|tokens"):
        Cell201Space(Cell201SpaceConfig()).from_arch_str(text)


def test_cell_without_a_path_still_answers() -> None:
    space = Cell201Space(Cell201SpaceConfig(search_channels=4))
    network = build(space, make_genotype(space, (3, 0, 0, 0, 0, 0)), GREY)
    logits = network(images(GREY, 3))
    assert torch.equal(logits[0], logits[1])
    nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert network[-1][-1].bias.grad.abs().sum() > 0


def test_cell_computes_the_sum_of_its_edges() -> None:
    """Node 3 = x + node 1 + node 2, node 1 = x, node 2 = 2 x: four times the input."""
    space = Cell201Space(Cell201SpaceConfig(search_channels=4))
    network = space.build(make_genotype(space, (1, 1, 1, 1, 1, 1)), GREY)
    x_BCHW = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(network[1](x_BCHW), 4 * x_BCHW)


# --- the micro space of ENAS ----------------------------------------------------------------

MICRO = EnasMicroSpace(EnasMicroSpaceConfig(search_channels=4))
SEP3, SEP5, AVERAGE, MAXIMUM, IDENTITY = range(5)


def micro(normal: CellOfBlocks, reduction: CellOfBlocks) -> Genotype:
    halves = [half for block in (*normal, *reduction) for half in block]
    space = EnasMicroSpace(EnasMicroSpaceConfig(num_blocks=len(normal)))
    return make_genotype(space, itertools.chain.from_iterable(halves))


def key_of(cell: CellOfBlocks) -> str:
    space = EnasMicroSpace(EnasMicroSpaceConfig(num_blocks=len(cell)))
    return space.canonical(micro(cell, cell))


def test_micro_tokens_are_those_of_the_release() -> None:
    """Two cells of five blocks (input, operation, input, operation): 40 tokens."""
    block_sizes = [(2 + b, 5, 2 + b, 5) for b in range(5)]
    assert MICRO.cardinalities == tuple(itertools.chain(*block_sizes, *block_sizes))
    normal: CellOfBlocks = tuple(((b, SEP3), (b + 1, MAXIMUM)) for b in range(5))
    reduction: CellOfBlocks = (((0, IDENTITY), (1, AVERAGE)),) * 5
    assert MICRO.cells(micro(normal, reduction)) == (normal, reduction)
    assert MICRO.describe(micro(normal, reduction)) == (
        "normal 2=sep3(0)+max(1) 3=sep3(1)+max(2) 4=sep3(2)+max(3) 5=sep3(3)+max(4) "
        "6=sep3(4)+max(5) | reduction 2=id(0)+avg(1) 3=id(0)+avg(1) 4=id(0)+avg(1) "
        "5=id(0)+avg(1) 6=id(0)+avg(1)"
    )


def test_micro_blocks_read_earlier_nodes_and_something_is_left_loose() -> None:
    for genotype in genotypes(MICRO, 200):
        for cell in MICRO.cells(genotype):
            for number, block in enumerate(cell, start=2):
                assert all(node < number for node, _ in block)
            read = {node for block in cell for node, _ in block}
            assert set(loose_ends(cell)) == set(range(7)) - read
            assert 6 in loose_ends(cell), "nothing can read the last block"


def test_micro_stack_is_that_of_the_release() -> None:
    """With two normal cells a stage the release's six: N N R N N R N N."""
    space = EnasMicroSpace(EnasMicroSpaceConfig(search_channels=4, search_cells_per_stage=2))
    all_left: CellOfBlocks = (((0, IDENTITY), (0, IDENTITY)),) * 5
    all_right: CellOfBlocks = (((1, IDENTITY), (1, IDENTITY)),) * 5
    network = space.build(micro(all_left, all_right), ImageShape(3, 32, 10))
    assert isinstance(network, MicroNetwork)
    shapes: list[tuple[int, ...]] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    network(images(ImageShape(3, 32, 10), 2))
    assert [cell.read[0] for cell in network.cells] == [0, 0, 1, 0, 0, 1, 0, 0]
    assert shapes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 3 + [(16, 8, 8)] * 3
    assert network.stem[0].weight.shape == (12, 3, 3, 3)


@pytest.mark.parametrize("size", [4, 5, 7, 9, 33])
def test_micro_maps_of_any_size_are_halved_twice(size: int) -> None:
    shape = ImageShape(1, size, 3)
    for genotype in genotypes(MICRO, 3):
        assert build(MICRO, genotype, shape)(images(shape, 2)).shape == (2, 3)


def test_micro_cell_sums_its_blocks_and_joins_its_loose_ends() -> None:
    """Identities only: node 2 = x + y, node 3 = 2 y, node 4 = node 2 + x; 3 and 4 are loose."""
    cell: CellOfBlocks = (
        ((0, IDENTITY), (1, IDENTITY)),
        ((1, IDENTITY), (1, IDENTITY)),
        ((2, IDENTITY), (0, IDENTITY)),
    )
    same = Output(4, 0)
    module = MicroCell(cell, (same, same), same).double().eval()
    x_BCHW, y_BCHW = torch.randn(2, 2, 4, 5, 5, dtype=torch.float64)
    concatenated = torch.cat([2 * y_BCHW, 2 * x_BCHW + y_BCHW], dim=1).relu()
    weight = torch.cat([joint.weight for joint in module.joints], dim=1)
    expected = nn.functional.conv2d(concatenated, weight) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(module(x_BCHW, y_BCHW), expected)


def test_micro_inputs_that_nothing_reads_are_loose_ends() -> None:
    cell: CellOfBlocks = (((1, SEP3), (1, SEP3)), ((2, SEP3), (1, AVERAGE)))
    assert loose_ends(cell) == (0, 3)


def test_micro_copies_share_a_key() -> None:
    base: CellOfBlocks = (((0, SEP3), (1, AVERAGE)), ((0, SEP5), (1, SEP5)), ((2, SEP3), (3, SEP3)))
    halves: CellOfBlocks = (base[0][::-1], base[1], base[2][::-1])
    order: CellOfBlocks = (base[1], base[0], ((3, SEP3), (2, SEP3)))
    other: CellOfBlocks = (base[0], base[1], ((2, SEP3), (2, SEP3)))
    assert key_of(base) == key_of(halves) == key_of(order) != key_of(other)


def test_micro_blocks_that_are_alike_are_still_two() -> None:
    """Nodes 2 and 3 have weights of their own: read by one block or by two is not the same."""
    alike: Block = ((0, SEP3), (1, SEP3))
    first: CellOfBlocks = (alike, alike, ((2, SEP3), (2, AVERAGE)), ((3, SEP5), (3, SEP5)))
    second: CellOfBlocks = (alike, alike, ((2, SEP3), (3, AVERAGE)), ((3, SEP5), (3, SEP5)))
    twin: CellOfBlocks = (alike, alike, ((3, SEP3), (3, AVERAGE)), ((2, SEP5), (2, SEP5)))
    assert key_of(first) == key_of(twin) != key_of(second)


def test_micro_keys_tell_apart_what_trying_all_orders_does() -> None:
    rng = np.random.default_rng(0)
    cells = [
        tuple(
            tuple((int(rng.integers(2 + b)), int(rng.integers(2))) for _ in range(2))
            for b in range(3)
        )
        for _ in range(500)
    ]
    pairs = {(key_of(cell), least_of_all_orders(cell)) for cell in cells}
    assert len(pairs) < 450, "copies are among them"
    assert len({key for key, _ in pairs}) == len({least for _, least in pairs}) == len(pairs)


def least_of_all_orders(cell: CellOfBlocks) -> str:
    """Renames the blocks in every way that there is, the meaningless ones included."""
    texts = []
    for order in itertools.permutations(range(len(cell))):
        names = {0: 0, 1: 1} | {2 + b: 2 + place for place, b in enumerate(order)}
        blocks = {names[2 + b]: sorted((names[n], op) for n, op in cell[b]) for b in order}
        texts.append(str(sorted(blocks.items())))
    return min(texts)


# --- some operations only ---------------------------------------------------------------------

RESTRICTED: dict[str, SpaceSection] = {
    "nasbench201": Cell201SpaceConfig(operations=("nor_conv_3x3", "none"), search_channels=4),
    "enas-micro": EnasMicroSpaceConfig(operations=("identity", "sep_conv_3x3"), search_channels=4),
}


@pytest.mark.parametrize("name", sorted(RESTRICTED))
def test_allowed_operations_are_the_only_ones(name: str) -> None:
    config = RESTRICTED[name]
    space, whole = make_space(config), make_space(CONFIGS[name])
    assert space.identifier != whole.identifier
    assert set(space.cardinalities[1::2]) == {2}
    for genotype in genotypes(space, 20):
        network = build(space, genotype, GREY)
        assert network(images(GREY, 2)).shape == (2, 10)
        drawn = " ".join(node.label for node in space.graph(genotype, GREY).nodes)
        assert not any(name in drawn for name in ("pool", "5×5", "1×1 "))
        assert "pool" not in space.describe(genotype)
        with pytest.raises(GenotypeNotInSpace, match="of space"):
            whole.canonical(genotype)


def test_the_order_of_operations_is_their_tokens() -> None:
    config = RESTRICTED["nasbench201"]
    space = make_space(config)
    assert isinstance(space, Cell201Space)
    text = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    assert space.from_arch_str(text).tokens == (0, 1, 1, 0, 1, 1)
    assert space.to_arch_str(make_genotype(space, (0, 1, 1, 0, 1, 1))) == text
    with pytest.raises(GenotypeNotInSpace, match="NAS-Bench-201"):
        space.from_arch_str(text.replace("none~2", "avg_pool_3x3~2"))
    reverse = make_space(Cell201SpaceConfig(operations=("none", "nor_conv_3x3")))
    assert reverse.identifier != space.identifier
    assert make_space(Cell201SpaceConfig()).identifier == "nasbench201"


@pytest.mark.parametrize(
    ("section", "operations", "told"),
    [
        (Cell201SpaceConfig, (), "no architecture has a path from the image"),
        (Cell201SpaceConfig, ("none",), "give operations other than none: skip_connect"),
        (Cell201SpaceConfig, ("nor_conv_3x3",), "give at least two"),
        (Cell201SpaceConfig, ("none", "none", "skip_connect"), "none is there several times"),
        (EnasMicroSpaceConfig, (), "no architecture has a path from the image"),
        (EnasMicroSpaceConfig, ("identity",) * 2, "identity is there several times"),
    ],
)
def test_a_space_without_a_valid_path_is_refused_with_one_message(
    section: type[SpaceSection], operations: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        section.model_validate({"operations": operations})
    assert caught.value.error_count() == 1


# --- the space of InstaNAS --------------------------------------------------------------------

PUBLISHED = MobileSpaceConfig(
    stages=(
        (16, 1, 1),
        (24, 2, 1),
        (32, 3, 2),
        (64, 4, 2),
        (96, 3, 1),
        (160, 3, 2),
        (320, 1, 1),
    ),
    stem_channels=32,
    head_channels=1280,
)
SMALL = MobileSpace(MobileSpaceConfig(stages=((4, 2, 1), (8, 2, 2)), width=1, search_width=0.5))
K3E6, K3E3, K5E6, K5E3, BASIC = range(5)


def mobile(*blocks: tuple[int, ...], space: MobileSpace = SMALL) -> Genotype:
    """A genotype by the operations of its blocks."""
    return make_genotype(space, [op in block for block in blocks for op in range(5)])


def test_mobile_published_size_is_that_of_the_release() -> None:
    space = MobileSpace(PUBLISHED)
    plans = space.plans(ImageShape(3, 32, 10))
    assert len(space.cardinalities) == 85
    assert [p.out_channels for p in plans] == (
        [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]
    )
    assert [p.in_channels for p in plans] == [32, *(p.out_channels for p in plans[:-1])]
    assert [p.out_size for p in plans] == [32] * 3 + [16] * 3 + [8] * 7 + [4] * 4
    assert [p.in_size for p in plans] == [32, *(p.out_size for p in plans[:-1])]
    assert [p.index for p in plans if p.is_first] == [0, 1, 3, 6, 10, 13, 16]
    assert [p.index for p in plans if p.stride == 2] == [3, 6, 13]


def test_mobile_of_k3e6_alone_is_mobilenet_v2() -> None:
    """Counted by hand from its table; its first block alone expands by one, and ours by six."""
    space, shape = MobileSpace(PUBLISHED), ImageShape(3, 32, 10)
    expected = (3 * 9 * 32 + 2 * 32) + (320 * 1280 + 2 * 1280) + (1280 * 10 + 10)
    for plan in space.plans(shape):
        inner = 6 * plan.in_channels
        expected += inner * (plan.in_channels + 9 + plan.out_channels)
        expected += 2 * (2 * inner + plan.out_channels)
    with torch.device("meta"):
        network = space.build(mobile(*[(K3E6,)] * 17, space=space), shape, "final")
    assert count(network, shape).num_params == expected
    torchvision_expands = 32 * 6 * (32 + 9 + 16) + 4 * 32 * 6 - (32 * (9 + 16) + 2 * 32)
    known = 3_504_872 - 1281 * 990  # the ImageNet network, with ten classes
    assert expected == known + torchvision_expands


def test_mobile_block_sums_what_is_active() -> None:
    network = SMALL.build(mobile((K3E6, K5E3), (), (BASIC,), (K3E3,)), GREY, "final").eval()
    block = network.blocks[0]
    x_BCHW = images(ImageShape(16, 8, 10), 2)
    first, second = block.operations
    torch.testing.assert_close(block(x_BCHW), first(x_BCHW) + second(x_BCHW))
    assert first.body[0].out_channels == 6 * 16
    assert first.body[3].kernel_size == (3, 3)
    assert second.body[0].out_channels == 3 * 16
    assert second.body[3].kernel_size == (5, 5)
    assert network.blocks[1](x_BCHW) is x_BCHW


def test_mobile_shortcuts_are_where_the_shape_is_kept() -> None:
    network = SMALL.build(mobile(*[(K3E6,)] * 4), GREY, "final")
    assert [block.operations[0].has_shortcut for block in network.blocks] == [
        False,
        True,
        False,
        True,
    ]
    residual = network.blocks[1].operations[0].eval()
    x_BCHW = images(ImageShape(4, 8, 10), 2)
    torch.testing.assert_close(residual(x_BCHW) - residual.body(x_BCHW), x_BCHW)


def test_mobile_empty_blocks_are_identities_and_at_the_start_of_a_stage_basic() -> None:
    empty = mobile((), (), (), ())
    assert SMALL.describe(empty) == "0=basic 1=identity 2=basic 3=identity"
    assert SMALL.canonical(empty) == SMALL.canonical(mobile((BASIC,), (), (BASIC,), ()))
    assert SMALL.canonical(empty) != SMALL.canonical(mobile((BASIC,), (BASIC,), (BASIC,), ()))
    assert torch.isfinite(build(SMALL, empty, GREY)(images(GREY, 2))).all()


@pytest.mark.parametrize("size", [4, 5, 7, 9, 33])
def test_mobile_plans_are_the_sizes_of_the_maps(size: int) -> None:
    space, shape = MobileSpace(MobileSpaceConfig(stem_stride=2)), ImageShape(3, size, 4)
    network = space.build(next(iter(space.covering())), shape, "final").eval()
    seen: list[tuple[int, ...]] = []
    for block in network.blocks:
        block.register_forward_hook(
            lambda _m, given, out: seen.append((*given[0].shape[1:3], *out.shape[1:3]))
        )
    assert network(images(shape, 2)).shape == (2, 4)
    plans = space.plans(shape)
    assert seen == [(p.in_channels, p.in_size, p.out_channels, p.out_size) for p in plans]


def test_mobile_widths_scale_and_are_never_nothing() -> None:
    space = MobileSpace(MobileSpaceConfig(width=0.5, search_width=0.01))
    assert [p.out_channels for p in space.plans(GREY)] == [8, 12, 12, 16, 16, 32, 32, 48]
    assert {p.out_channels for p in space.plans(GREY, "search")} == {4}


@pytest.mark.parametrize("stages", [(), ((8, 65, 1),), ((8, 1, 3),), ((0, 1, 1),)])
def test_mobile_stages_out_of_range_are_refused(stages: tuple) -> None:
    with pytest.raises(ValidationError, match=r"stages"):
        MobileSpaceConfig(stages=stages)


def test_mobile_graph_shows_what_is_computed() -> None:
    graph = SMALL.graph(mobile((K3E6, BASIC), (), (), (K5E3,)), GREY)
    labels = [node.label for node in graph.nodes]
    assert labels == [
        "image",
        "inverted 3×3, ×6",
        "two conv 3×3",
        "block 0",
        "identity",
        "two conv 3×3",
        "inverted 5×5, ×3",
        "classes",
    ]
    assert [(a, b) for a, b, _ in graph.edges][:5] == [
        ("image", "b0-k3e6"),
        ("image", "b0-basic"),
        ("b0-k3e6", "b0"),
        ("b0-basic", "b0"),
        ("b0", "b1"),
    ]


def test_mobile_dag_leaves_out_what_is_not_computed() -> None:
    space = MobileSpace(MobileSpaceConfig(stages=((4, 2, 1),)))
    dag = space.dag(mobile((K3E6, K3E3), (), space=space))
    assert dag.labels == (
        *("input", "k3e6", "k3e3", "none", "none", "none", "sum"),
        *("none",) * 5,
        *("sum", "output"),
    )
    assert dag.edges == {(0, 1), (0, 2), (1, 6), (2, 6), (6, 12), (12, 13)}
