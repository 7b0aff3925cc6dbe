"""Settings of the residual space."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nascore.spaces.section import SpaceSection

WIDTHS = (0.5, 0.75, 1.0, 1.5)
"""Channels of a stage, relative to those of the other stages in the standard network."""
KERNELS = (3, 5, 7)
"""Kernel sizes of the spatial convolutions, in pixels."""
BLOCKS = ("plain", "basic", "bottleneck", "inverted3", "inverted6")
"""Kinds of blocks; see `nascore.spaces.residual.blocks`."""
STRIDES = (1, 2)
"""Strides of the first block of a stage."""
NORMS = ("batch", "group")
"""Normalisations behind the convolutions."""
ACTIVATIONS = ("relu", "silu", "hardswish")
"""Activation functions."""
MAX_COST = 1.5
"""Time of an update of a network that is trained, at most, relative to the standard network."""


class ResidualSpaceConfig(SpaceSection):
    """Residual networks: a stem, stages of equal blocks, global average pooling, a linear layer."""

    name: Literal["residual"] = "residual"
    implementation: ClassVar[str] = "nascore.spaces.residual.space.ResidualSpace"
    num_stages: Annotated[int, Field(ge=1, le=6)] = 3
    """Stages of a network; the standard width doubles from one to the next."""
    max_depth: Annotated[int, Field(ge=2, le=16)] = 3
    """Largest number of blocks of a stage; each stage has between one and this many."""
    channels: Annotated[int, Field(ge=8, le=1024)] = 16
    """Channels of the stem and standard width of the first stage; 64 in ResNet-18. All networks
    have about as many parameters as the standard network of this width."""
    equal_computation: bool = True
    """Steps and epochs of children and final training are those of the standard network: a network
    whose updates take half of the time makes twice as many."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Six tokens a stage, then normalisation and activation of the whole network."""
        stage = (self.max_depth, len(WIDTHS), len(KERNELS), len(BLOCKS), 2, len(STRIDES))
        return (*stage * self.num_stages, len(NORMS), len(ACTIVATIONS))


SECTION = ResidualSpaceConfig
