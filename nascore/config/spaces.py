"""Settings of the search spaces."""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from nascore.config.section import Positive, Section


class SpaceSection(Section):
    """The settings of a search space, which its `name` tells from others."""

    shares_weights: ClassVar[bool] = False
    """Whether all its networks can be paths of one supernet."""

    @property
    @abstractmethod
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of each token of a genotype."""


class ChainSpaceConfig(SpaceSection):
    """The NASES chain: layers of four tokens (op, kernel, filters, skip)."""

    name: Literal["chain"] = "chain"
    num_layers: Annotated[int, Field(ge=1, le=64)] = 5
    vocabulary: Annotated[int, Field(ge=4, le=64)] = 8
    """Values a token can take; 29 in the paper. Thresholds keep the paper's proportions."""
    channels_per_token: Positive = 2
    """Output channels of a layer = this times its filters token (1-based); 10 in the paper."""
    final_added_channels: Annotated[int, Field(ge=0)] = 8
    """Added to every layer's channels in the final network; 150 in the paper."""
    min_map_size: Positive = 2
    """Pooling stops at this height and width: a 15-fold pooling of 32 pixels is a 1x1 map."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Four tokens a layer."""
        return (self.vocabulary,) * (4 * self.num_layers)


Cell201Operation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
MicroOperation = Literal["sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity"]


def _without_repeats(operations: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({name for name in operations if operations.count(name) > 1})
    if repeated:
        raise ValueError(f"give each operation once; {', '.join(repeated)} is there several times")
    return operations


class Cell201SpaceConfig(SpaceSection):
    """The NAS-Bench-201 cell: six edges, five operations, stacked in three stages."""

    shares_weights: ClassVar[bool] = True
    name: Literal["nasbench201"] = "nasbench201"
    operations: tuple[Cell201Operation, ...] = get_args(Cell201Operation)
    """What an edge may be; all of the benchmark's when not given."""
    search_channels: Positive = 8
    search_cells_per_stage: Positive = 1
    final_channels: Positive = 16
    final_cells_per_stage: Positive = 5

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """A token an edge."""
        return (len(self.operations),) * 6

    @field_validator("operations")
    @classmethod
    def _image_reaches_output(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if not set(operations) - {"none"}:
            raise ValueError(
                "no architecture has a path from the image to the output; give operations other "
                f"than none: {', '.join(get_args(Cell201Operation)[1:])}"
            )
        if len(operations) == 1:
            raise ValueError("one operation is one architecture; give at least two to search among")
        return _without_repeats(operations)


def _of_blocks(num_blocks: int, num_operations: int) -> tuple[int, ...]:
    """A block reads two earlier nodes, the cell's two inputs among them, by an operation each."""
    halves = [(2 + block, num_operations) * 2 for block in range(num_blocks)]
    return tuple(size for half in halves for size in half)


class EnasMicroSpaceConfig(SpaceSection):
    """The micro space of ENAS: a normal and a reduction cell, stacked in three stages."""

    shares_weights: ClassVar[bool] = True
    name: Literal["enas-micro"] = "enas-micro"
    operations: tuple[MicroOperation, ...] = get_args(MicroOperation)
    """What a block may apply to its inputs; all of ENAS' when not given."""
    num_blocks: Annotated[int, Field(ge=1, le=12)] = 5
    """Of each cell; a block adds two operations, and is four tokens."""
    search_channels: Positive = 8
    """Of the first stage; 20 in the release."""
    search_cells_per_stage: Positive = 1
    """Normal cells, beside the reduction cells between the stages; 2 in the release."""
    final_channels: Positive = 16
    """36 in the release."""
    final_cells_per_stage: Positive = 2
    """5 in the release."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Of the normal cell, then of the reduction cell, four tokens a block."""
        return _of_blocks(self.num_blocks, len(self.operations)) * 2

    @field_validator("operations")
    @classmethod
    def _image_reaches_output(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if not operations:
            raise ValueError(
                "no architecture has a path from the image to the output; give at least one of "
                f"{', '.join(get_args(MicroOperation))}"
            )
        return _without_repeats(operations)


MobileStage = tuple[Annotated[int, Field(ge=1, le=4096)], Positive, Literal[1, 2]]


class MobileSpaceConfig(SpaceSection):
    """The MobileNetV2 skeleton of InstaNAS: a block sums any of five operations.

    The published size for CIFAR is `stages` [[16, 1, 1], [24, 2, 1], [32, 3, 2], [64, 4, 2],
    [96, 3, 1], [160, 3, 2], [320, 1, 1]] with `stem_channels` 32 and `head_channels` 1280; larger
    images have `stem_stride` 2 and a stride of 2 in the second stage. The defaults are scaled down.
    """

    shares_weights: ClassVar[bool] = True
    name: Literal["mobile"] = "mobile"
    stages: tuple[MobileStage, ...] = (
        (16, 1, 1),
        (24, 2, 2),
        (32, 2, 2),
        (64, 2, 2),
        (96, 1, 1),
    )
    """Rows of channels, blocks and stride; the stride is that of a stage's first block."""
    stem_channels: Positive = 16
    stem_stride: Literal[1, 2] = 1
    head_channels: Positive = 256
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """All channels times this, rounded to a multiple of four; of the final network, and of the
    meta-graph of InstaNAS."""
    search_width: Annotated[float, Field(gt=0, le=4)] = 0.5
    """The same for networks that are trained to judge an architecture only."""
    combine: Literal["sum", "mean"] = "sum"
    """What a block makes of the outputs of its operations. The published sum grows with their
    number, and so do the shortcuts in it. With the mean, few operations and many give maps of one
    scale, so that a short search can judge a policy by weights that others have trained."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Whether a block has an operation, for each of five in each block."""
        return (2,) * (5 * sum(repeats for _, repeats, _ in self.stages))

    @field_validator("stages")
    @classmethod
    def _some_blocks(cls, stages: tuple[MobileStage, ...]) -> tuple[MobileStage, ...]:
        blocks = sum(repeats for _, repeats, _ in stages)
        if not 1 <= blocks <= 64:
            raise ValueError(f"give stages of 1 to 64 blocks in all, got {blocks}")
        return stages


KernelSize = Annotated[int, Field(ge=1, le=15)]
Dilation = Annotated[int, Field(ge=1, le=8)]
ConvolutionType = Literal["standard", "separable"]
SuperkernelBranch = Literal["conv", "max_pool_3x3", "avg_pool_3x3", "identity", "none"]


class SuperkernelSpaceConfig(SpaceSection):
    """The space of NASIB: cells of a few nodes, with every convolution of some sizes on an edge.

    The defaults are 4 x 4 kernel sizes, 3 dilations and 2 types: 96 convolutions beside four other
    operations, twelve times as many as the 8 operations of DARTS.
    """

    shares_weights: ClassVar[bool] = True
    name: Literal["superkernel"] = "superkernel"
    num_nodes: Annotated[int, Field(ge=1, le=6)] = 4
    """Of each cell, beside its two inputs; each node keeps two of its incoming edges."""
    kernel_sizes: Annotated[tuple[KernelSize, ...], Field(min_length=1)] = (1, 3, 5, 7)
    """Heights, and as many widths: odd and growing, in pixels before dilation."""
    dilations: Annotated[tuple[Dilation, ...], Field(min_length=1)] = (1, 2, 3)
    types: Annotated[tuple[ConvolutionType, ...], Field(min_length=1)] = get_args(ConvolutionType)
    branches: tuple[SuperkernelBranch, ...] = get_args(SuperkernelBranch)
    """What an edge may be; all when not given."""
    num_stages: Annotated[int, Field(ge=1, le=4)] = 3
    """Between them a reduction cell halves the map; with one there is no reduction cell."""
    search_channels: Annotated[int, Field(ge=2)] = 8
    """Of the first stage; 16 in DARTS."""
    search_cells_per_stage: Positive = 1
    """Normal cells; 2 are the 8 cells of DARTS."""
    final_channels: Annotated[int, Field(ge=2)] = 16
    """36 in DARTS."""
    final_cells_per_stage: Positive = 2
    """6 are the 20 cells of DARTS."""

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """Number of values of the five tokens of an edge."""
        sizes = len(self.kernel_sizes)
        return len(self.branches), len(self.types), sizes, sizes, len(self.dilations)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Of each cell and each of its nodes: which two edges are kept, then all its edges."""
        tokens: list[int] = []
        for num_sources in range(2, 2 + self.num_nodes):
            tokens += [math.comb(num_sources, 2)] if num_sources > 2 else []
            tokens += self.axis_sizes * num_sources
        return tuple(tokens) * (2 if self.num_stages > 1 else 1)

    @property
    def num_convolutions(self) -> int:
        """Convolutions that an edge chooses from."""
        return len(self.types) * len(self.kernel_sizes) ** 2 * len(self.dilations)

    @field_validator("kernel_sizes")
    @classmethod
    def _odd_sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        even = [size for size in sizes if size % 2 == 0]
        if even:
            raise ValueError(
                f"kernel sizes must be odd, to have a centre that smaller ones share; "
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

    @field_validator("branches")
    @classmethod
    def _has_convolutions(cls, branches: tuple[str, ...]) -> tuple[str, ...]:
        if "conv" not in branches:
            raise ValueError("give conv among the branches: all else has no kernel to search for")
        return _without_repeats(branches)

    @model_validator(mode="after")
    def _something_to_choose(self) -> Self:
        if self.num_convolutions == 1 and len(self.branches) == 1:
            raise ValueError(
                "one operation is no choice; give several kernel_sizes, dilations, types or "
                "branches"
            )
        return self


def _growing(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"give each value once, in growing order; got {values}")
    return values


FewShotOperation = Literal[
    "conv_3x3",
    "conv_1x5_5x1",
    "dil_sep_conv_3x3",
    "max_pool_3x3",
    "avg_pool_3x3",
    "identity",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "conv_1x7_7x1",
    "dil_conv_3x3",
]
FEW_SHOT_OPERATIONS: tuple[FewShotOperation, ...] = get_args(FewShotOperation)[:6]


class FewShotCellSpaceConfig(SpaceSection):
    """The cells of Auto-Meta: one cell of one or more blocks, as in PNAS, for few-shot tasks.

    The eight operations of PNAS are `operations` sep_conv_3x3, sep_conv_5x5, sep_conv_7x7,
    conv_1x7_7x1, identity, avg_pool_3x3, max_pool_3x3 and dil_conv_3x3.
    """

    name: Literal["fewshot-cell"] = "fewshot-cell"
    operations: tuple[FewShotOperation, ...] = FEW_SHOT_OPERATIONS
    """What a block may apply to its inputs."""
    max_blocks: Annotated[int, Field(ge=1, le=8)] = 5
    """The most blocks of a cell; a cell may have fewer."""
    num_cells: Annotated[int, Field(ge=1, le=16)] = 4
    """Cells one after the other."""
    reduction: Literal["strided", "max_pool"] = "strided"
    """How maps are halved: by strides where a cell reads its inputs, or by a 2x2 max pool behind
    it, as in the network of MAML."""
    halve_every: Annotated[int, Field(ge=1, le=16)] = 2
    """The last of so many cells halves the map; 1, every cell, needs max pools."""
    cell_output: Literal["all", "loose_ends"] = "all"
    """What a cell gives on, side by side: all its nodes with its two inputs, or only the blocks
    that no other block reads; then inputs with the channels of the cell are read without a 1x1."""
    head: Literal["average", "flatten"] = "average"
    """What the last layer reads of a channel: its mean, or its value in every place, as in the
    network of MAML; its weights grow with the pixels of the last map."""
    stem_stride: Literal[1, 2] = 1
    """2 halves the map before the first cell, in the same way: a quarter of the work, for images
    such as 28x28."""
    search_channels: Positive = 9
    """Of every block while searching; with 9 the published cell has 28.7 thousand weights."""
    final_channels: Positive = 17
    """Of every block of the final network; with 17 the published cell has 100 thousand weights."""
    final_params: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Weights of the final network, instead of `final_channels`: it has the channels that come
    closest. What a channel costs differs tenfold between cells."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of blocks, then four tokens for each that there may be."""
        return (self.max_blocks, *_of_blocks(self.max_blocks, len(self.operations)))

    @model_validator(mode="after")
    def _older_input_is_one_halving_away(self) -> Self:
        if self.halve_every == 1 and self.reduction == "strided":
            raise ValueError(
                "halve_every: 1 with strides would put two halvings between a cell and its older "
                "input; set reduction: max_pool, or halve_every: 2"
            )
        return self

    @field_validator("operations")
    @classmethod
    def _something_to_apply(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if not operations:
            raise ValueError(
                "no block can be made; give at least one of "
                f"{', '.join(get_args(FewShotOperation))}"
            )
        return _without_repeats(operations)


SpaceConfig = Annotated[
    ChainSpaceConfig
    | Cell201SpaceConfig
    | EnasMicroSpaceConfig
    | MobileSpaceConfig
    | SuperkernelSpaceConfig
    | FewShotCellSpaceConfig,
    Field(discriminator="name"),
]
SPACE_SECTIONS: tuple[type[SpaceSection], ...] = (
    ChainSpaceConfig,
    Cell201SpaceConfig,
    EnasMicroSpaceConfig,
    MobileSpaceConfig,
    SuperkernelSpaceConfig,
    FewShotCellSpaceConfig,
)
