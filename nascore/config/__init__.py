"""Settings of data, search, training and latency. No torch here.

Each class is one section of a configuration. Values are validated when the section is made:
unknown keys, wrong types and contradicting values are refused
(`components.config.schema.parse` reports all of them in one message). Accuracies are fractions.
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
from nascore.config.training import (
    BalanceConfig,
    CommonTrainingConfig,
    OwnTrainingConfig,
    TrainingConfig,
)
from nascore.section import Fraction, Positive, Section
from nascore.spaces.config import SPACE_SECTIONS, SpaceConfig
from nascore.spaces.section import SpaceSection

__all__ = [
    "FOLDERS",
    "OBJECTIVES",
    "SPACE_SECTIONS",
    "BalanceConfig",
    "BudgetConfig",
    "CommonTrainingConfig",
    "CostConfig",
    "DataConfig",
    "Fraction",
    "LatencyConfig",
    "Objective",
    "OwnTrainingConfig",
    "Positive",
    "PrunerName",
    "SearchConfig",
    "Section",
    "SpaceConfig",
    "SpaceSection",
    "TrainingConfig",
]
