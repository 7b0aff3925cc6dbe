"""Settings of the chain space."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nascore.section import Positive
from nascore.spaces.section import SpaceSection


class ChainSpaceConfig(SpaceSection):
    """Settings of the NASES chain: layers of four tokens (op, kernel, filters, skip)."""

    name: Literal["chain"] = "chain"
    implementation: ClassVar[str] = "nascore.spaces.chain.space.ChainSpace"
    num_layers: Annotated[int, Field(ge=1, le=64)] = 5
    """Number of layers."""
    vocabulary: Annotated[int, Field(ge=4, le=64)] = 8
    """Number of values of each token; 29 in the paper. Fewer values are spread evenly over the 29,
    so that operations, kernel sizes and shortcuts are about as frequent as in the paper."""
    channels_per_token: Positive = 2
    """Output channels of a layer for each unit of its filters token; 10 in the paper."""
    final_added_channels: Annotated[int, Field(ge=0)] = 8
    """Channels added to each layer in the final network; 150 in the paper."""
    min_map_size: Positive = 2
    """Height and width in pixels below which layers do not pool; 1 in the paper."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of the tokens: four per layer."""
        return (self.vocabulary,) * (4 * self.num_layers)


SECTION = ChainSpaceConfig
