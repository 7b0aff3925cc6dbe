"""Settings of the superkernel space of NASIB."""

import math
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from nascore.section import Positive
from nascore.spaces.section import SpaceSection, _without_repeats

KernelSize = Annotated[int, Field(ge=1, le=15)]


Dilation = Annotated[int, Field(ge=1, le=8)]


ConvolutionType = Literal["standard", "separable"]


SuperkernelBranch = Literal["conv", "max_pool_3x3", "avg_pool_3x3", "identity", "none"]


class SuperkernelSpaceConfig(SpaceSection):
    """The space of NASIB: cells of a few nodes, with many convolutions to choose from on an edge.

    The defaults are 4 x 4 kernel sizes, 3 dilations and 2 types: 96 convolutions and four other
    operations; DARTS has 8 operations.
    """

    shares_weights: ClassVar[bool] = True
    name: Literal["superkernel"] = "superkernel"
    implementation: ClassVar[str] = "nascore.spaces.superkernel.space.SuperkernelSpace"
    num_nodes: Annotated[int, Field(ge=1, le=6)] = 4
    """Nodes of a cell, without its two inputs; each node keeps two of its incoming edges."""
    kernel_sizes: Annotated[tuple[KernelSize, ...], Field(min_length=1)] = (1, 3, 5, 7)
    """Heights, and as many widths: odd, ascending, in pixels before dilation."""
    dilations: Annotated[tuple[Dilation, ...], Field(min_length=1)] = (1, 2, 3)
    """Dilations of the convolutions."""
    types: Annotated[tuple[ConvolutionType, ...], Field(min_length=1)] = get_args(ConvolutionType)
    """Types of convolutions."""
    operations: tuple[SuperkernelBranch, ...] = get_args(SuperkernelBranch)
    """Operations of an edge; `conv` stands for all convolutions."""
    num_stages: Annotated[int, Field(ge=1, le=4)] = 3
    """Stages, with a reduction cell that halves the map between two of them."""
    search_channels: Annotated[int, Field(ge=2)] = 8
    """Channels of the first stage in the search; 16 in DARTS."""
    search_cells_per_stage: Positive = 1
    """Normal cells per stage in the search; 2 give the 8 cells of DARTS."""
    final_channels: Annotated[int, Field(ge=2)] = 16
    """Channels of the first stage of the final network; 36 in DARTS."""
    final_cells_per_stage: Positive = 2
    """Normal cells per stage of the final network; 6 give the 20 cells of DARTS."""

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """Number of values of the five tokens of an edge."""
        sizes = len(self.kernel_sizes)
        return len(self.operations), len(self.types), sizes, sizes, len(self.dilations)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of the tokens: per node the kept edges, then all its edges."""
        tokens: list[int] = []
        for num_sources in range(2, 2 + self.num_nodes):
            tokens += [math.comb(num_sources, 2)] if num_sources > 2 else []
            tokens += self.axis_sizes * num_sources
        return tuple(tokens) * (2 if self.num_stages > 1 else 1)

    @property
    def num_convolutions(self) -> int:
        """Number of convolutions that an edge chooses from."""
        return len(self.types) * len(self.kernel_sizes) ** 2 * len(self.dilations)

    @field_validator("kernel_sizes")
    @classmethod
    def _odd_sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        even = [size for size in sizes if size % 2 == 0]
        if even:
            raise ValueError(
                f"kernel sizes must be odd, so that smaller ones share their centre; "
                f"got {', '.join(map(str, even))}"
            )
        return _growing(sizes)

    @field_validator("dilations")
    @classmethod
    def _growing_dilations(cls, dilations: tuple[int, ...]) -> tuple[int, ...]:
        return _growing(dilations)

    @field_validator("types")
    @classmethod
    def _different_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        return _without_repeats(types)

    @field_validator("operations")
    @classmethod
    def _has_convolutions(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if "conv" not in operations:
            raise ValueError("add conv to the operations: only it has a kernel to search for")
        return _without_repeats(operations)

    @model_validator(mode="after")
    def _something_to_choose(self) -> Self:
        if self.num_convolutions == 1 and len(self.operations) == 1:
            raise ValueError(
                "one operation is no choice; give several kernel_sizes, dilations, types or "
                "operations"
            )
        return self


def _growing(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"give each value once, in ascending order; got {values}")
    return values


SECTION = SuperkernelSpaceConfig
