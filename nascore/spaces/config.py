"""Settings of the search spaces."""

from typing import Annotated

from pydantic import Field

from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.section import SpaceSection
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig

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
