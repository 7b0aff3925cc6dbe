"""The distribution of NASIB: for every edge a categorical one on each axis of its operations.

    P(operation) = P(branch) P(type) P(height) P(width) P(dilation | height, width)

with the last four for convolutions alone. The condition is that the convolution fits the image:
dilations that do not fit with a height and width have probability 0, and the others share it in
proportion to the exponentials of their logits. Where all fit it is the product of the axes.

A sample is straight-through Gumbel-softmax: one noise g per sample determines both the choice, the
arg-max of `logits + g`, and its relaxation, `softmax((logits + g) / temperature)`. On an edge that
explores, the choice is the arg-max of the noise alone: uniform.

Source: our choice after SNAS (arXiv 1812.09926), since the paper's distribution is not published.
E edges, A axes (`nascore.spaces.superkernel.space.AXES`), S logits of an edge, D dilations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.spaces.base import ImageShape
from nascore.spaces.superkernel.space import AXES, KEPT, SuperkernelSpace

_BRANCH, _TYPE, _HEIGHT, _WIDTH, _DILATION = range(len(AXES))
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Sample:
    """One operation for every edge.

    Attributes:
        tokens_EA: int64; only convolutions use the axes other than the branch.
        branch_gates_E, kernel_gates_E: exactly 1, with the gradient of the choice of the branch and
            of the other axes of a convolution: the output of an operation is multiplied by both.
    """

    tokens_EA: Tensor
    branch_gates_E: Tensor
    kernel_gates_E: Tensor

    @property
    def gates_E(self) -> Tensor:
        return self.branch_gates_E * self.kernel_gates_E


class Distribution(nn.Module):
    """Logits and remaining values of all edges of a space.

    Args:
        max_parameterless_edges: edges of a cell that may end without a convolution; None is no
            limit.

    Attributes:
        logits_ES: zero at the start: uniform.
        alive_ES: bool; false for an eliminated value, whose probability is 0.

    Raises:
        InputError: no convolution of the space fits the image.
    """

    alive_ES: Tensor
    _fits_HWD: Tensor
    _cell_E: Tensor

    def __init__(
        self,
        space: SuperkernelSpace,
        shape: ImageShape,
        *,
        max_parameterless_edges: int | None = None,
    ) -> None:
        super().__init__()
        self.space = space
        ends = torch.tensor(space.axis_sizes).cumsum(0).tolist()
        self._slices = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self._conv = space.config.operations.index("conv")
        sizes = torch.tensor(space.config.kernel_sizes)
        extents_KD = torch.tensor(space.config.dilations) * (sizes[:, None] - 1) + 1
        fits_KD = extents_KD <= shape.size
        if not fits_KD.any():
            raise InputError.of(
                "search.space.kernel_sizes",
                list(space.config.kernel_sizes),
                f"none fits images of {shape.size} pixels with dilations "
                f"{list(space.config.dilations)}; give a smaller kernel or larger images",
            )
        alive_ES = torch.ones(len(space.edges), int(ends[-1]), dtype=torch.bool)
        for axis in (_HEIGHT, _WIDTH):
            alive_ES[:, self._slices[axis]] = fits_KD.any(1)
        alive_ES[:, self._slices[_DILATION]] = fits_KD.any(0)
        cell_E = torch.tensor([edge.cell for edge in space.edges])
        self.register_buffer("_cell_E", cell_E, persistent=False)
        self._max_parameterless_edges = max_parameterless_edges
        self.logits_ES = nn.Parameter(torch.zeros(alive_ES.shape))
        self.register_buffer("alive_ES", alive_ES)
        self.register_buffer("_fits_HWD", fits_KD[:, None] & fits_KD[None], persistent=False)

    # Probabilities.

    def log_probs(self) -> dict[str, Tensor]:
        """Return the log-probabilities of each axis (E, values), `-inf` for eliminated values."""
        masked_ES = self.logits_ES.masked_fill(~self.alive_ES, _NEVER)
        return {name: masked_ES[:, s].log_softmax(1) for name, s in self._named_slices()}

    def entropies(self) -> dict[str, Tensor]:
        """Return the entropies of each axis (E,), in nats."""
        # Zero times minus infinity is zero here, and so is its gradient.
        return {
            name: -(log_p.exp() * log_p.masked_fill(log_p == _NEVER, 0.0)).sum(1)
            for name, log_p in self.log_probs().items()
        }

    def log_prob(self, tokens_EA: Tensor) -> Tensor:
        """Return the log-probability of an operation on each edge (E,); `-inf` if eliminated."""
        edges_E = torch.arange(len(tokens_EA), device=tokens_EA.device)
        by_axis = self.log_probs().values()
        chosen = [log_p[edges_E, t] for log_p, t in zip(by_axis, tokens_EA.T, strict=True)]
        dilations_ED = self._masked(_DILATION, self.logits_ES, self._fitting(tokens_EA))
        chosen[_DILATION] = dilations_ED.log_softmax(1)[edges_E, tokens_EA[:, _DILATION]]
        of_kernel_E = torch.stack(chosen[_TYPE:]).sum(0)
        is_conv_E = tokens_EA[:, _BRANCH] == self._conv
        return chosen[_BRANCH] + of_kernel_E.where(is_conv_E, torch.zeros_like(of_kernel_E))

    # Samples.

    def noise(self, generator: torch.Generator) -> Tensor:
        """Return standard Gumbel noise (E, S) for one sample."""
        shape, device = self.logits_ES.shape, generator.device
        u_ES = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        smallest = torch.finfo(torch.float64).tiny
        return (-(-u_ES.clamp_min(smallest).log()).log()).float().to(self.logits_ES.device)

    def sample(self, noise_ES: Tensor, explores_E: Tensor, *, temperature: float) -> Sample:
        """Sample an operation for each edge.

        Eliminated values and convolutions that do not fit are never sampled.

        Args:
            explores_E: bool; on these edges the choice is uniform.
            temperature: of the softmax.
        """
        noisy_ES = self.logits_ES + noise_ES
        deciding_ES = noise_ES.where(explores_E[:, None], noisy_ES.detach())
        tokens_EA = self._arg_max(deciding_ES)
        edges_E = torch.arange(len(tokens_EA), device=tokens_EA.device)
        gates = []
        for axis in range(len(AXES)):
            allowed = self._fitting(tokens_EA) if axis == _DILATION else None
            soft = (self._masked(axis, noisy_ES, allowed) / temperature).softmax(1)
            chosen_E = soft[edges_E, tokens_EA[:, axis]]
            gates.append(chosen_E - chosen_E.detach() + 1)  # in this order it is 1 to the bit
        of_kernel_E = torch.stack(gates[_TYPE:]).prod(0)
        is_conv_E = tokens_EA[:, _BRANCH] == self._conv
        return Sample(
            tokens_EA, gates[_BRANCH], of_kernel_E.where(is_conv_E, torch.ones_like(of_kernel_E))
        )

    @torch.no_grad()
    def best(self) -> Tensor:
        """Return the most probable value of each axis, tokens (E, A); the first of equal ones."""
        return self._arg_max(self.logits_ES)

    @torch.no_grad()
    def genotype(self) -> Genotype:
        """Return the arg-max architecture, which is valid at any time.

        Each node keeps the two incoming edges whose most probable branch other than `none` is most
        probable, and that branch. Probabilities are those among all branches, eliminated ones
        included: with one branch left, all edges would have probability 1. An edge that has only
        `none` left is the last to be kept.
        """
        tokens_EA, branches = self.best(), self.space.config.operations
        of_branch = self._slices[_BRANCH]
        alive_EB = self.alive_ES[:, of_branch]
        probs_EB = self.logits_ES[:, of_branch].softmax(1).masked_fill(~alive_EB, 0.0)
        if "none" in branches and len(branches) > 1:
            probs_EB[:, branches.index("none")] = -1.0
            others_E = probs_EB.argmax(1)
            has_other_E = probs_EB.amax(1) > 0
            tokens_EA[:, _BRANCH] = others_E.where(has_other_E, tokens_EA[:, _BRANCH])
        if self._max_parameterless_edges is not None:
            tokens_EA[:, _BRANCH] = self._with_convolutions(tokens_EA[:, _BRANCH], probs_EB)
        strengths, kept = probs_EB.amax(1).tolist(), []
        first = 0
        while first < len(strengths):
            num_sources = self.space.edges[first].target
            order = sorted(range(num_sources), key=lambda i: -strengths[first + i])
            kept.append(tuple(sorted(order[:KEPT])))
            first += num_sources
        return self.space.genotype([tuple(row) for row in tokens_EA.tolist()], kept)

    def _with_convolutions(self, branch_E: Tensor, probs_EB: Tensor) -> Tensor:
        """Return branches with convolutions where a cell would have too few of them.

        They replace other branches on the edges where their probability is nearest.
        """
        chosen_E = branch_E.clone()
        gain_E = probs_EB.amax(1) - probs_EB[:, self._conv]
        for cell in self._cell_E.unique():
            without = ((self._cell_E == cell) & (branch_E != self._conv)).nonzero().flatten()
            order = without[gain_E[without].argsort(descending=True, stable=True)]
            chosen_E[order[self._max_parameterless_edges :]] = self._conv
        return chosen_E

    # Elimination.

    @torch.no_grad()
    def num_candidates(self) -> float:
        """Return the number of operations that an edge has left, the mean over the edges."""
        branches_E, types_E, heights_EK, widths_EK, dilations_ED = (
            self.alive_ES[:, s] for s in self._slices
        )
        fits_EHWD = self._fits_HWD & heights_EK[:, :, None, None] & widths_EK[:, None, :, None]
        kernels_E = (fits_EHWD & dilations_ED[:, None, None]).sum((1, 2, 3))
        convolutions_E = kernels_E * types_E.sum(1) * branches_E[:, self._conv]
        others_E = branches_E.sum(1) - branches_E[:, self._conv].long()
        return float((convolutions_E + others_E).double().mean())

    @torch.no_grad()
    def eliminate(self, axis: str, num_left: int) -> int:
        """Eliminate the least probable values of an axis on every edge until `num_left` are left.

        The last value stays, and the last branch other than `none`, and a dilation without which a
        remaining size would not fit the image.

        Returns:
            The number of eliminated values, over all edges.
        """
        place = AXES.index(axis)
        log_p, dropped = self.log_probs()[axis].tolist(), 0
        edges = list(range(len(log_p)))
        if place == _BRANCH:
            # Edges on which convolutions are least probable lose them first.
            edges = sorted(edges, key=lambda edge: log_p[edge][self._conv])
        for edge in edges:
            of_edge = log_p[edge]
            alive_V = self.alive_ES[edge, self._slices[place]]  # a view: what is set stays set
            order = sorted(range(len(of_edge)), key=lambda value: (of_edge[value], -value))
            while int(alive_V.sum()) > max(1, num_left):
                value = next(v for v in order if alive_V[v] and self._can_go(edge, place, v))
                alive_V[value] = False
                dropped += 1
        return dropped

    def _can_go(self, edge: int, axis: int, value: int) -> bool:
        """Return whether a value may be eliminated.

        The edge must keep a branch other than `none` and a fitting dilation for every remaining
        size, and the cell enough edges with convolutions. Some value can always be eliminated: any
        branch but a convolution that must stay, or the largest dilation, since a size that fits
        with it fits with a smaller one.
        """
        if axis == _BRANCH:
            return self._branch_can_go(edge, value)
        if axis != _DILATION:
            return True
        heights, widths, dilations = (
            self.alive_ES[edge, self._slices[a]] for a in (_HEIGHT, _WIDTH, _DILATION)
        )
        left = dilations.clone()
        left[value] = False
        return bool((self._fits_HWD[heights][:, widths] & left).any(-1).all())

    def _branch_can_go(self, edge: int, value: int) -> bool:
        names = self.space.config.operations
        alive_EB = self.alive_ES[:, self._slices[_BRANCH]]
        others = [n for n, alive in zip(names, alive_EB[edge], strict=True) if alive]
        if value == self._conv and self._max_parameterless_edges is not None:
            has_none_E = ~alive_EB[:, self._conv] & (self._cell_E == self._cell_E[edge])
            if int(has_none_E.sum()) >= self._max_parameterless_edges:
                return False
        return bool(set(others) - {"none", names[value]})

    # Helpers.

    def _named_slices(self) -> list[tuple[str, slice]]:
        return list(zip(AXES, self._slices, strict=True))

    def _fitting(self, tokens_EA: Tensor) -> Tensor:
        """Return which dilations fit the image with each edge's height and width, (E, D)."""
        return self._fits_HWD[tokens_EA[:, _HEIGHT], tokens_EA[:, _WIDTH]]

    def _masked(self, axis: int, values_ES: Tensor, allowed_EV: Tensor | None = None) -> Tensor:
        """Return the values of an axis, `-inf` for those that cannot be sampled."""
        alive_EV = self.alive_ES[:, self._slices[axis]]
        possible_EV = alive_EV if allowed_EV is None else alive_EV & allowed_EV
        return values_ES[:, self._slices[axis]].masked_fill(~possible_EV, _NEVER)

    def _arg_max(self, values_ES: Tensor) -> Tensor:
        """Return the best tokens (E, A); the dilation among those that fit with the best sizes."""
        tokens = [self._masked(axis, values_ES).argmax(1) for axis in range(_DILATION)]
        sizes_EA = torch.stack(tokens, 1)
        dilation_E = self._masked(_DILATION, values_ES, self._fitting(sizes_EA)).argmax(1)
        return torch.cat([sizes_EA, dilation_E[:, None]], 1)
