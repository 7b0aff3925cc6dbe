"""Everything a person may set about the science, in one place, without importing torch.

Each class is one section of a configuration file. Values are checked when the section is made:
unknown keys, wrong types and contradictory values are refused together (see
`components.config.schema.parse`, which turns them into one message). Accuracies are fractions.
"""

from nascore.config.data import FOLDERS, DataConfig
from nascore.config.latency import LatencyConfig
from nascore.config.search import (
    OBJECTIVES,
    BudgetConfig,
    CostConfig,
    Objective,
    PrunerName,
    SearchConfig,
)
from nascore.config.training import BalanceConfig, TrainingConfig
from nascore.section import Fraction, Positive, Section
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.config import SPACE_SECTIONS, SpaceConfig
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig, MicroOperation
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig, FewShotOperation
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.nasbench201.config import Cell201Operation, Cell201SpaceConfig
from nascore.spaces.section import SpaceSection
from nascore.spaces.superkernel.config import (
    ConvolutionType,
    SuperkernelBranch,
    SuperkernelSpaceConfig,
)

__all__ = [
    "FOLDERS",
    "OBJECTIVES",
    "SPACE_SECTIONS",
    "BalanceConfig",
    "BudgetConfig",
    "Cell201Operation",
    "Cell201SpaceConfig",
    "ChainSpaceConfig",
    "ConvolutionType",
    "CostConfig",
    "DataConfig",
    "EnasMicroSpaceConfig",
    "FewShotCellSpaceConfig",
    "FewShotOperation",
    "Fraction",
    "LatencyConfig",
    "MicroOperation",
    "MobileSpaceConfig",
    "Objective",
    "Positive",
    "PrunerName",
    "SearchConfig",
    "Section",
    "SpaceConfig",
    "SpaceSection",
    "SuperkernelBranch",
    "SuperkernelSpaceConfig",
    "TrainingConfig",
]
