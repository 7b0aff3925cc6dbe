"""Cells of blocks that add two operations, as in ENAS and PNAS; see `nascore.spaces.cells`."""

from collections.abc import Iterator, Sequence

from nascore.spaces.cells import NUM_INPUTS, Drawn

SIDES = ("left", "right")

Half = tuple[int, int]
"""Input node, and operation as an index into those of the space."""
Block = tuple[Half, Half]
Cell = tuple[Block, ...]


def loose_ends(cell: Cell) -> tuple[int, ...]:
    """Return the nodes that no block reads, inputs of the cell included."""
    read = {node for block in cell for node, _ in block}
    return tuple(node for node in range(NUM_INPUTS + len(cell)) if node not in read)


def least_order(cell: Cell) -> list[Block]:
    """Return the blocks in the topological order that gives the smallest list.

    Inputs are numbered by that order. Blocks are placed one by one, always the smallest of those
    whose inputs are placed; of equal ones all are tried, since later blocks may read either.
    """

    def place(placed: dict[int, int], left: frozenset[int]) -> Iterator[list[Block]]:
        if not left:
            yield []
            return
        ready = {}
        for b in left:
            if all(node in placed for node, _ in cell[b]):
                first, second = sorted((placed[node], operation) for node, operation in cell[b])
                ready[b] = first, second
        least = min(ready.values())
        for b, halves in ready.items():
            if halves == least:
                after = {**placed, NUM_INPUTS + b: len(placed)}
                for rest in place(after, left - {b}):
                    yield [least, *rest]

    return min(place({i: i for i in range(NUM_INPUTS)}, frozenset(range(len(cell)))))


def draw_blocks(cell: Cell, looks: Sequence[tuple[str, str]]) -> list[list[Drawn]]:
    """Return the nodes for `draw_cell`.

    Args:
        cell: its blocks.
        looks: label and kind of each operation.
    """
    return [
        [
            Drawn(node, side, *looks[operation])
            for side, (node, operation) in zip(SIDES, block, strict=True)
        ]
        for block in cell
    ]
