"""The superkernel space: tokens, keys, texts and graphs."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from nascore.genotype import Genotype
from nascore.spaces import base as spaces
from nascore.spaces.base import ImageShape
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.network import (
    Cell,
    Convolution,
    EdgePart,
)
from nascore.spaces.superkernel.space import SuperkernelSpace

GREY = ImageShape(1, 8, 10)
SPACE = SuperkernelSpace(SuperkernelSpaceConfig())
SMALL = SuperkernelSpace(SuperkernelSpaceConfig(num_nodes=2, num_stages=1, search_channels=4))
CONV, MAX, AVG, IDENTITY, NONE = ((branch, 0, 0, 0, 0) for branch in range(5))
SEP_3X5_D2 = (0, 1, 1, 2, 1)
STD_7X1_D1 = (0, 0, 3, 0, 0)


def small(
    edges: tuple[tuple[int, ...], ...], kept: tuple[int, int] = (0, 1), space: Any = SMALL
) -> Genotype:
    """A cell of two nodes: the edges into the first, then the three into the second."""
    return space.genotype(edges, [(0, 1), kept] * len(space.cell_names))


def images(shape: ImageShape, number: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, shape.channels, shape.size, shape.size, generator=generator)


# --- tokens ---------------------------------------------------------------------------------


def test_defaults_are_fourteen_edges_of_a_hundred_operations() -> None:
    assert len(SPACE.edges) == 2 * 14
    assert SPACE.axis_sizes == (5, 2, 4, 4, 3)
    assert len(SPACE.cardinalities) == 2 * (3 + 14 * 5), "three nodes choose what they keep"
    assert SPACE.config.num_convolutions == len(SPACE.convolutions()) == 96
    strings = math.prod(SPACE.cardinalities)
    assert strings == (480**14 * 3 * 6 * 10) ** 2
    assert f"{strings:.1e}" == "3.8e+79"


def test_a_genotype_says_which_edges_a_node_keeps() -> None:
    edges = (SEP_3X5_D2, IDENTITY, STD_7X1_D1, MAX, AVG)
    assert SMALL.cells(small(edges, kept=(1, 2))) == (
        (
            ((0, Convolution("separable", 3, 5, 2)), (1, "identity")),
            ((1, "max_pool_3x3"), (2, "avg_pool_3x3")),
        ),
    )
    assert SMALL.cells(small(edges, kept=(0, 2)))[0][1][0] == (0, Convolution("standard", 7, 1, 1))


def test_genotypes_are_made_of_edges_and_back() -> None:
    rng = np.random.default_rng(0)
    for space in (SPACE, SMALL):
        edges = [tuple(rng.integers(space.axis_sizes).tolist()) for _ in space.edges]
        kept = [
            tuple(sorted(rng.choice(target, 2, replace=False).tolist()))
            for _ in space.cell_names
            for target in range(2, 2 + space.config.num_nodes)
        ]
        genotype = space.genotype(edges, kept)
        assert space.edge_tokens(genotype) == edges
        by_place = dict(zip(space.edges, edges, strict=True))
        for c, cell in enumerate(space.cells(genotype)):
            for target, node in enumerate(cell, start=2):
                sources = kept[c * space.config.num_nodes + target - 2]
                wanted = {
                    place.source: space.operation(tokens)
                    for place, tokens in by_place.items()
                    if (place.cell, place.target) == (c, target) and place.source in sources
                }
                assert dict(node) == {s: o for s, o in wanted.items() if o != "none"}


def test_names_of_parts_are_read_back() -> None:
    for one in SPACE.convolutions():
        assert Convolution.from_name(one.name) == one
    assert Convolution.from_name("identity") is None
    part = EdgePart(12, 3, 0, "separable_3x5_d2")
    assert part.name == "cell12/edge3_0/separable_3x5_d2"
    assert EdgePart.from_name(part.name) == part
    assert EdgePart.from_name("cell12/input0") is None


def test_identifier_names_what_the_tokens_mean() -> None:
    changes: list[dict[str, Any]] = [
        {"num_nodes": 3},
        {"kernel_sizes": (1, 3, 5)},
        {"kernel_sizes": (1, 3, 5, 9)},
        {"dilations": (1, 2)},
        {"dilations": (2,)},
        {"types": ("separable",)},
        {"types": ("standard",)},
        {"types": ("separable", "standard")},
        {"operations": ("conv", "none")},
        {"operations": ("none", "conv")},
        {"num_stages": 1},
    ]
    names = {SuperkernelSpace(SuperkernelSpaceConfig(**change)).identifier for change in changes}
    assert len(names | {SPACE.identifier}) == len(changes) + 1
    assert SPACE.identifier == "superkernel-4-k1_3_5_7-d1_2_3"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_sizes": (1, 4)}, "must be odd.*got 4"),
        ({"kernel_sizes": (3, 1)}, "ascending order"),
        ({"dilations": (1, 1)}, "ascending order"),
        ({"types": ("standard", "standard")}, "give each operation once"),
        ({"operations": ("identity", "none")}, "add conv"),
        ({"kernel_sizes": ()}, "kernel_sizes"),
        ({"search_channels": 1}, "search_channels"),
        (
            {
                "kernel_sizes": (3,),
                "dilations": (1,),
                "types": ("standard",),
                "operations": ("conv",),
            },
            "no choice",
        ),
    ],
)
def test_settings_that_make_no_space_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SuperkernelSpaceConfig(**settings)


# --- what an image has no room for ------------------------------------------------------------


def test_convolutions_larger_than_the_image_are_named() -> None:
    """7 with dilation 3 reaches over 3 * 6 + 1 = 19 pixels."""
    dropped = SPACE.dropped(ImageShape(3, 18, 10))
    sizes = [(7, other) for other in (1, 3, 5, 7)] + [(other, 7) for other in (1, 3, 5)]
    expected = {f"{t}_{h}x{w}_d3" for t in ("standard", "separable") for h, w in sizes}
    assert set(dropped) == expected
    assert SPACE.dropped(ImageShape(3, 19, 10)) == []
    on_digits = SPACE.dropped(GREY)
    assert "standard_5x1_d2" in on_digits
    assert {"standard_7x7_d1", "standard_3x3_d3", "standard_1x1_d1"}.isdisjoint(on_digits)


def test_convolutions_larger_than_the_image_can_be_built() -> None:
    genotype = SPACE.genotype([(0, 0, 3, 3, 2)] * 28, [(0, 1)] * 8)
    network = SPACE.build(genotype, ImageShape(2, 4, 3)).eval()
    assert network(images(ImageShape(2, 4, 3))).shape == (3, 3)


# --- equal networks ---------------------------------------------------------------------------


def test_what_has_no_effect_is_not_in_the_key() -> None:
    base = small((CONV, IDENTITY, SEP_3X5_D2, MAX, AVG), kept=(0, 1))

    def key(*edges: tuple[int, ...], kept: tuple[int, int] = (0, 1)) -> str:
        return SMALL.canonical(small(edges, kept))

    expected = SMALL.canonical(base)
    assert key((0, 0, 0, 0, 2), IDENTITY, SEP_3X5_D2, MAX, AVG) == expected, "a dilated pixel"
    assert key(CONV, (3, 1, 2, 3, 1), SEP_3X5_D2, MAX, AVG) == expected, "a size of an identity"
    assert key(CONV, IDENTITY, SEP_3X5_D2, MAX, CONV) == expected, "an edge that is not kept"
    others = [
        key((0, 0, 0, 1, 0), IDENTITY, SEP_3X5_D2, MAX, AVG),
        key((0, 1, 0, 0, 0), IDENTITY, SEP_3X5_D2, MAX, AVG),
        key((0, 0, 0, 1, 1), IDENTITY, SEP_3X5_D2, MAX, AVG),
        key((0, 0, 1, 0, 0), IDENTITY, SEP_3X5_D2, MAX, AVG),
        key(CONV, IDENTITY, SEP_3X5_D2, MAX, AVG, kept=(0, 2)),
        key(CONV, IDENTITY, SEP_3X5_D2, NONE, AVG),
    ]
    assert len({expected, *others}) == len(others) + 1


def test_the_order_of_nodes_is_not_in_the_key() -> None:
    """Two nodes that both read the cell's inputs, in either order."""
    one = small((CONV, IDENTITY, SEP_3X5_D2, MAX, AVG))
    other = small((SEP_3X5_D2, MAX, CONV, IDENTITY, AVG))
    assert SMALL.canonical(one) == SMALL.canonical(other)
    fixed = small((CONV, IDENTITY, SEP_3X5_D2, MAX, AVG), kept=(0, 2))
    assert SMALL.canonical(fixed) != SMALL.canonical(
        small((SEP_3X5_D2, MAX, CONV, IDENTITY, AVG), kept=(0, 2))
    )


def test_every_order_of_the_nodes_has_one_key() -> None:
    rng, config = np.random.default_rng(3), SuperkernelSpaceConfig(num_nodes=3, num_stages=1)
    space = SuperkernelSpace(config)
    seen = 0
    for genotype in (spaces.sample(space, rng) for _ in range(60)):
        (cell,) = space.cells(genotype)
        for order in itertools.permutations(range(3)):
            moved = _reordered(cell, order)
            if moved is not None:
                seen += order != (0, 1, 2)
                assert _key(space, moved) == space.canonical(genotype)
    assert seen > 20


def _reordered(cell: Cell, order: tuple[int, ...]) -> Cell | None:
    """The nodes in another order; None when one would come before what it reads."""
    to = {0: 0, 1: 1} | {2 + node: 2 + at for at, node in enumerate(order)}
    moved = tuple(tuple((to[s], o) for s, o in cell[node]) for node in order)
    fits = all(s < 2 + at for at, node in enumerate(moved) for s, _ in node)
    return moved if fits else None


def _key(space: SuperkernelSpace, cell: Cell) -> str:
    """Of a cell, by way of its genotype."""
    edges: list[tuple[int, ...]] = []
    kept = []
    for target, node in enumerate(cell, start=2):
        operations = dict(node)
        free = [s for s in range(target) if s not in operations]
        kept.append(tuple(sorted([*operations, *free][:2])))
        edges += [_tokens(space, operations.get(s, "none")) for s in range(target)]
    return space.canonical(space.genotype(edges, kept))


def _tokens(space: SuperkernelSpace, operation: Any) -> tuple[int, ...]:
    options = itertools.product(*map(range, space.axis_sizes))
    return next(tokens for tokens in options if space.operation(tokens) == operation)


# --- text, drawing and graph ------------------------------------------------------------------


def test_a_line_says_what_each_node_reads() -> None:
    genotype = small((SEP_3X5_D2, IDENTITY, STD_7X1_D1, NONE, AVG), kept=(1, 2))
    assert SMALL.describe(genotype) == "normal 2=sep3x5d2(0)+id(1) 3=avg(2)"
    empty = small((NONE, NONE, STD_7X1_D1, NONE, AVG), kept=(0, 1))
    assert SMALL.describe(empty) == "normal 2=0 3=conv7x1(0)"


def test_graph_shows_what_is_computed() -> None:
    genotype = small((SEP_3X5_D2, IDENTITY, STD_7X1_D1, NONE, AVG), kept=(0, 2))
    labels = [node.label for node in SMALL.graph(genotype, GREY).nodes]
    assert labels == [
        *("image", "normal: older input", "normal: newer input"),
        *("separable 3×5, dilation 2", "identity", "node 2"),
        *("conv 7×1", "avg pool 3×3", "node 3", "normal output", "classes"),
    ]


def test_dag_has_a_place_for_every_edge() -> None:
    dag = SMALL.dag(small((SEP_3X5_D2, IDENTITY, STD_7X1_D1, MAX, AVG), kept=(1, 2)))
    assert dag.labels == (
        *("older input", "newer input", "separable_3x5_d2", "identity", "sum"),
        *("none", "max_pool_3x3", "avg_pool_3x3", "sum", "output"),
    )
    assert dag.edges == {(0, 2), (1, 3), (2, 4), (3, 4)} | {
        *((1, 6), (4, 7), (6, 8), (7, 8), (4, 9), (8, 9))
    }
