"""Everything a person may set about the science, in one place, without importing torch.

Each class is one section of a configuration file. Values are checked when the section is made:
unknown keys, wrong types and contradictory values are refused together (see
`components.config.parse`, which turns them into one message). Accuracies are fractions.
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
from nascore.config.section import Fraction, Positive, Section
from nascore.config.spaces import (
    SPACE_SECTIONS,
    Cell201Operation,
    Cell201SpaceConfig,
    ChainSpaceConfig,
    ConvolutionType,
    EnasMicroSpaceConfig,
    FewShotCellSpaceConfig,
    FewShotOperation,
    MicroOperation,
    MobileSpaceConfig,
    SpaceConfig,
    SpaceSection,
    SuperkernelBranch,
    SuperkernelSpaceConfig,
)
from nascore.config.training import BalanceConfig, TrainingConfig

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
