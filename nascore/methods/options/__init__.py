"""What a person may set about each method (`search.options` in a configuration). No torch here."""

from nascore.methods.options.few_shot import (
    AutoMetaOptions,
    EpisodeOptions,
    FewShotOptions,
    Learner,
    MetaOptions,
    ProgressiveOptions,
)
from nascore.methods.options.instanas import (
    AccuracyOptions,
    InstanasOptions,
    PolicyOptions,
    RewardOptions,
)
from nascore.methods.options.method_options import MethodOptions
from nascore.methods.options.nasib import LogitsOptions, NasibOptions, ScheduleOptions
from nascore.methods.options.proposing import (
    CoderOptions,
    LocalSearchOptions,
    NasesOptions,
    NasesPaperOptions,
    PaperCoderOptions,
    RandomOptions,
    RegularizedEvolutionOptions,
    TpeOptions,
)
from nascore.methods.options.shared_weights import (
    ControllerOptions,
    EnasOptions,
    MemoryEnasOptions,
    MemoryOptions,
    RandomWsOptions,
    SharedWeightsOptions,
)

__all__ = [
    "AccuracyOptions",
    "AutoMetaOptions",
    "CoderOptions",
    "ControllerOptions",
    "EnasOptions",
    "EpisodeOptions",
    "FewShotOptions",
    "InstanasOptions",
    "Learner",
    "LocalSearchOptions",
    "LogitsOptions",
    "MemoryEnasOptions",
    "MemoryOptions",
    "MetaOptions",
    "MethodOptions",
    "NasesOptions",
    "NasesPaperOptions",
    "NasibOptions",
    "PaperCoderOptions",
    "PolicyOptions",
    "ProgressiveOptions",
    "RandomOptions",
    "RandomWsOptions",
    "RegularizedEvolutionOptions",
    "RewardOptions",
    "ScheduleOptions",
    "SharedWeightsOptions",
    "TpeOptions",
]
