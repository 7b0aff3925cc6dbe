"""Keys, texts and labels of the cells of the superkernel space."""

from itertools import permutations

from nascore.spaces.cells import NUM_INPUTS, Labelled
from nascore.spaces.superkernel.network import Cell, Operation, name_of

_SHORT = {"max_pool_3x3": "max", "avg_pool_3x3": "avg", "identity": "id"}
_DRAWN = {
    "max_pool_3x3": ("max pool 3×3", "pool"),
    "avg_pool_3x3": ("avg pool 3×3", "pool"),
    "identity": ("identity", "skip"),
}


def least_order(cell: Cell) -> str:
    """Return the smallest text of the cell over all topological orders of its nodes."""
    texts = []
    for order in permutations(range(len(cell))):
        place = {i: i for i in range(NUM_INPUTS)}
        place |= {NUM_INPUTS + node: NUM_INPUTS + at for at, node in enumerate(order)}
        nodes = [sorted((place[source], name_of(o)) for source, o in cell[node]) for node in order]
        if all(s < NUM_INPUTS + at for at, node in enumerate(nodes) for s, _ in node):
            texts.append(str(nodes))
    return min(texts)


def labelled(node: tuple[tuple[int, Operation], ...], target: int) -> list[Labelled]:
    """Return an operation for each node before `target`, `none` for edges that are not kept."""
    kept = dict(node)
    return [
        Labelled(source if source in kept else None, name_of(kept.get(source, "none")))
        for source in range(target)
    ]


def short_name(operation: Operation) -> str:
    """Return the name of an operation in texts about cells, such as `sep3x5d2`."""
    if isinstance(operation, str):
        return _SHORT[operation]
    dilated = f"d{operation.dilation}" if operation.dilation > 1 else ""
    kind = "sep" if operation.kind == "separable" else "conv"
    return f"{kind}{operation.height}x{operation.width}{dilated}"


def box(operation: Operation) -> tuple[str, str]:
    """Return label and kind of a drawn node."""
    if isinstance(operation, str):
        return _DRAWN[operation]
    is_separable = operation.kind == "separable"
    size = f"{'separable' if is_separable else 'conv'} {operation.height}×{operation.width}"
    dilated = f", dilation {operation.dilation}" if operation.dilation > 1 else ""
    return size + dilated, "separable" if is_separable else "conv"
