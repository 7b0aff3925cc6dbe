"""Settings of the MobileNetV2 space of InstaNAS."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from nascore.section import Positive
from nascore.spaces.section import SpaceSection

MobileStage = tuple[Annotated[int, Field(ge=1, le=4096)], Positive, Literal[1, 2]]


class MobileSpaceConfig(SpaceSection):
    """The MobileNetV2 structure of InstaNAS: a block sums any of five operations.

    The published size for CIFAR is `stages` [[16, 1, 1], [24, 2, 1], [32, 3, 2], [64, 4, 2],
    [96, 3, 1], [160, 3, 2], [320, 1, 1]] with `stem_channels` 32 and `head_channels` 1280; larger
    images have `stem_stride` 2 and a stride of 2 in the second stage. The defaults are scaled down.
    """

    shares_weights: ClassVar[bool] = True
    network_kind: ClassVar[str] = "routed"
    name: Literal["mobile"] = "mobile"
    implementation: ClassVar[str] = "nascore.spaces.mobilenet.space.MobileSpace"
    stages: tuple[MobileStage, ...] = (
        (16, 1, 1),
        (24, 2, 2),
        (32, 2, 2),
        (64, 2, 2),
        (96, 1, 1),
    )
    """Stages as [channels, blocks, stride]; the stride is that of the first block."""
    stem_channels: Positive = 16
    """Channels of the stem."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the stem."""
    head_channels: Positive = 256
    """Channels of the head."""
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Factor of all channels, rounded to a multiple of four, in the final network and in the
    meta-graph of InstaNAS."""
    search_width: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Factor of all channels, rounded to a multiple of four, in networks that are trained only to
    evaluate an architecture; `width` is the factor of the final network."""
    combine: Literal["sum", "mean"] = "sum"
    """How a block combines its operations. The published sum, with its shortcuts, grows with their
    number. With the mean, all policies give maps of one scale, so that a short search can evaluate
    a policy with weights that other policies have trained."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Two values, absent and present, for each of the five operations of each block."""
        return (2,) * (5 * sum(repeats for _, repeats, _ in self.stages))

    @field_validator("stages")
    @classmethod
    def _some_blocks(cls, stages: tuple[MobileStage, ...]) -> tuple[MobileStage, ...]:
        blocks = sum(repeats for _, repeats, _ in stages)
        if not 1 <= blocks <= 64:
            raise ValueError(f"give stages of 1 to 64 blocks in all, got {blocks}")
        return stages


SECTION = MobileSpaceConfig
