"""Cells of blocks that add two operations, as in ENAS and in PNAS; see `nascore.spaces.cells`."""

from collections.abc import Iterator, Sequence

from nascore.spaces.cells import NUM_INPUTS, Drawn

SIDES = ("left", "right")

Half = tuple[int, int]
"""The node that is read, and the operation on it as a place among those of the space."""
Block = tuple[Half, Half]
Cell = tuple[Block, ...]


def loose_ends(cell: Cell) -> tuple[int, ...]:
    """The nodes that no block reads, the cell's inputs among them."""
    read = {node for block in cell for node, _ in block}
    return tuple(node for node in range(NUM_INPUTS + len(cell)) if node not in read)


def least_order(cell: Cell) -> list[Block]:
    """The cell's blocks in the order that gives the least list, inputs numbered by that order.

    Blocks are placed one by one, always the least of those whose inputs are placed. Where several
    are equally small, all of them are tried: they may be read differently.
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
    """What `draw_cell` takes; `looks` are label and kind of each operation."""
    return [
        [
            Drawn(node, side, *looks[operation])
            for side, (node, operation) in zip(SIDES, block, strict=True)
        ]
        for block in cell
    ]
