"""The shared weights of a search: a superkernel for every edge, and paths through them.

A path has an operation on every edge, not only on the two that a node keeps in the end, so each
step trains all edges. It is assembled by the code that builds a stand-alone network
(`nascore.spaces.superkernel.network`) from modules that are made once: it has the cost of that
network. Batch normalisation has no running averages, as in `nascore.training.supernet`.

In a step of the distribution every operation is multiplied by its gate. All of them but the
identity end in a batch norm without weights, whose scale is the gate: the product and the gradient
of the gate need no further time and memory.

E edges, A axes; feature maps are (B, C, H, W).
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_
from torch.nn import functional as F

from nascore.genotype import Genotype
from nascore.methods.nasib.superkernel import Superkernel
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape
from nascore.spaces.cells import NUM_INPUTS
from nascore.spaces.superkernel.network import Cell, Convolution, EdgePart, make_operation
from nascore.spaces.superkernel.space import EdgePlace, SuperkernelSpace


class SuperkernelSupernet(nn.Module):
    """All networks of the space in the size of the search phase.

    Attributes:
        kernels: a `Superkernel` for each edge of each cell of the stack, such as `cell1/edge3_0`.
        others: stem, calibrations of the cells' inputs and head, by the names of the space.
    """

    def __init__(self, space: SuperkernelSpace, shape: ImageShape) -> None:
        super().__init__()
        self._space, self._shape = space, shape
        self._plans = space.plans()
        self._edge = {place: number for number, place in enumerate(space.edges)}
        self.kernels = nn.ModuleDict()
        self.others = nn.ModuleDict()
        self._operations: dict[str, nn.Module] = {}
        self._gate_of: dict[str, int] = {}
        self._make_all()
        replace_all_batch_norm_modules_(self)

    def path(self, tokens_EA: Tensor, gates_E: Tensor | None = None) -> nn.Module:
        """Return the network with these operations on all edges, (B, C, H, W) -> (B, num_classes).

        Args:
            gates_E: factor of each edge; None for a step of the weights alone.
        """
        return self.network(self.cells(tokens_EA), gates_E)

    def cells(self, tokens_EA: Tensor) -> tuple[Cell, ...]:
        """Return cells that keep all edges but those that are `none`."""
        rows = iter(tokens_EA.tolist())
        targets = range(NUM_INPUTS, NUM_INPUTS + self._space.config.num_nodes)
        cells = []
        for _ in self._space.cell_names:
            cell = []
            for target in targets:
                edges = [
                    (source, self._space.operation(tuple(next(rows)))) for source in range(target)
                ]
                cell.append(tuple(edge for edge in edges if edge[1] != "none"))
            cells.append(tuple(cell))
        return tuple(cells)

    def child(self, genotype: Genotype) -> nn.Module:
        """Return the network of a genotype, in which nodes keep two edges, on the shared weights.

        Raises:
            GenotypeNotInSpace: the genotype is not one of the space.
        """
        return self.network(self._space.cells(genotype))

    def network(self, cells: tuple[Cell, ...], gates_E: Tensor | None = None) -> nn.Module:
        """Return the network of any cells on the shared weights; see `path`."""

        def parts(name: str, make: Callable[[], nn.Module]) -> nn.Module:
            if name in self.others:
                return self.others[name]
            operation = self._operation(name)
            return operation if gates_E is None else Gated(operation, gates_E[self._gate_of[name]])

        return self._space.network(cells, self._shape, parts)

    # Modules.

    def _make_all(self) -> None:
        """Make every part once: all edges, and the calibrations of the inputs of each cell."""

        def parts(name: str, make: Callable[[], nn.Module]) -> nn.Module:
            part = EdgePart.from_name(name)
            if part is None:
                self.others[name] = make()
                return self.others[name]
            place = f"cell{part.cell}/edge{part.target}_{part.source}"
            channels = self._plans[part.cell].nodes.channels
            self.kernels[place] = Superkernel(self._space.config, channels)
            return nn.Identity()

        everything = tuple(
            tuple((source, "identity") for source in range(NUM_INPUTS + node))
            for node in range(self._space.config.num_nodes)
        )
        self._space.network((everything,) * len(self._space.cell_names), self._shape, parts)

    def _operation(self, name: str) -> nn.Module:
        """Return the module of an edge's operation, the same every time."""
        if name not in self._operations:
            part = EdgePart.from_name(name)
            assert part is not None
            plan = self._plans[part.cell]
            one = Convolution.from_name(part.operation)
            place = f"cell{part.cell}/edge{part.target}_{part.source}"
            kernel = self.kernels[place]
            assert isinstance(kernel, Superkernel)
            self._operations[name] = (
                replace_all_batch_norm_modules_(
                    make_operation(part.operation, plan.nodes.channels, affine=False)
                )
                if one is None
                else kernel.convolution(one)
            )
            self._gate_of[name] = self._edge[
                EdgePlace(int(plan.is_reduction), part.target, part.source)
            ]
        return self._operations[name]


class Gated(nn.Module):
    """An operation times its gate: (B, C, H, W) -> (B, C, H, W).

    Args:
        operation: ends in a batch norm without weights that normalises by the batch, unless it is
            an identity.
        gate: 0-dimensional.
    """

    def __init__(self, operation: nn.Module, gate: Tensor) -> None:
        super().__init__()
        self.operation, self.gate = operation, gate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not isinstance(self.operation, nn.Sequential):
            return x_BCHW * self.gate
        *layers, norm = self.operation
        assert isinstance(norm, nn.BatchNorm2d)
        for layer in layers:
            x_BCHW = layer(x_BCHW)
        scale_C = self.gate.expand(norm.num_features)
        return F.batch_norm(x_BCHW, None, None, scale_C, training=True, eps=norm.eps)


def make_superkernel_supernet(
    space: SuperkernelSpace, shape: ImageShape, *, seed: int
) -> SuperkernelSupernet:
    """Return a supernet whose initial weights depend on `seed` alone."""
    with seeded_weights(seed):
        return SuperkernelSupernet(space, shape)
