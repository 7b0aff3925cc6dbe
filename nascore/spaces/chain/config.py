"""Settings of the chain space."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nascore.section import Positive
from nascore.spaces.section import SpaceSection


class ChainSpaceConfig(SpaceSection):
    """The NASES chain: layers of four tokens (op, kernel, filters, skip)."""

    name: Literal["chain"] = "chain"
    implementation: ClassVar[str] = "nascore.spaces.chain.space.ChainSpace"
    num_layers: Annotated[int, Field(ge=1, le=64)] = 5
    """Layers of a network."""
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


SECTION = ChainSpaceConfig
