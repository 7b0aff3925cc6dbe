"""Settings of a search: budget, cost of networks, workers."""

import re
from typing import Annotated, Generic, Literal, Self

from pydantic import AfterValidator, Field, SerializeAsAny, model_validator
from typing_extensions import TypeVar  # typing.TypeVar has no default before Python 3.13

from nascore.config.addresses import database_url
from nascore.config.training import OwnTrainingConfig
from nascore.section import Positive, Section
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.config import SpaceConfig

OptionsT = TypeVar("OptionsT", bound=Section, default=Section, covariant=True)


_EXAMPLES = "30m, 2h, 90s, 64 children, 5000 steps or 2 gpu-hours"
_UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("s", "sec", "second"), ("seconds", 1.0)),
    **dict.fromkeys(("m", "min", "minute"), ("seconds", 60.0)),
    **dict.fromkeys(("h", "hour"), ("seconds", 3600.0)),
    **dict.fromkeys(("child", "children"), ("children", 1.0)),
    "step": ("steps", 1.0),
    "gpu-hour": ("gpu_hours", 1.0),
}
"""Words of a budget, without the s of a plural: the setting, and its number for one of them."""


class BudgetConfig(Section):
    """Budget of a search: exactly one of the four, or a text such as `30m`."""

    children: Positive | None = None
    """Architectures that are trained."""
    steps: Positive | None = None
    """Weight updates, over all children or of one supernet."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Wall-clock seconds."""
    gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Hours of training, summed over the devices."""

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, data: object) -> object:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            return data
        match = re.fullmatch(r"\s*([+-]?[\d._]*(?:[eE]\+?\d+)?)\s*(.*?)\s*", str(data))
        number, word = match.groups() if match else ("", "")
        name = re.sub(r"[ _]", "-", word.lower())
        setting, factor = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"), ("", 0.0))
        try:
            amount = float(number) * factor
        except ValueError:
            setting, amount = "", 0.0
        if not setting:
            raise ValueError(f"is no budget; write {_EXAMPLES}")
        if amount <= 0:
            raise ValueError(f"must be above 0; write {_EXAMPLES}")
        return {setting: amount}

    @property
    def unit(self) -> str:
        return next(name for name, value in self if value is not None)

    @property
    def amount(self) -> float:
        return float(getattr(self, self.unit))

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of children, steps, seconds, gpu_hours; "
                f"got {' and '.join(given) if given else 'none'}"
            )
        return self


class CostConfig(Section):
    """Cost of a network in addition to its accuracy, counted or measured on the final network."""

    metric: Literal["num_params", "macs", "latency_ms"] = "num_params"
    """Cost that is compared; `latency_ms` is the median of a short measurement with batch size 1 on
    the device of the search."""
    limit: Annotated[float, Field(gt=0)] | None = None
    """Constraint: architectures above it are not trained, and use nothing of the budget. In the
    unit of `search.cost.metric`: parameters, multiply-adds, or milliseconds."""
    target: Annotated[float, Field(gt=0)] | None = None
    """Second objective: the search maximises score * (cost / target)^-weight. In the unit of
    `search.cost.metric`: parameters, multiply-adds, or milliseconds."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.07
    """Exponent of the second objective; at 0.07, twice the cost is worth 5 % more accuracy,
    relatively."""

    @model_validator(mode="after")
    def _limit_or_target(self) -> Self:
        if self.limit is None and self.target is None:
            raise ValueError(
                f"give limit, target or both in the unit of {self.metric}; got neither"
            )
        return self


Objective = Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc"]
OBJECTIVES: dict[Objective, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "macro AUROC",
}
"""Names in texts."""
PrunerName = Literal["none", "median", "successive-halving", "hyperband"]


class SearchConfig(Section, Generic[OptionsT]):
    """Search for an architecture."""

    space: SpaceConfig = ChainSpaceConfig()
    budget: BudgetConfig = BudgetConfig(children=16)
    objective: Objective = "accuracy"
    """Metric that is maximised on the validation split, and that verdict and promotion compare. The
    last three give each class the same weight (docs/metrics.md)."""
    control: bool = True
    """Run random search at equal cost in addition to the method, and compare the two."""
    cost: CostConfig | None = None
    """Constraint or second objective in addition to the accuracy."""
    pruner: PrunerName = "none"
    """Optuna's pruner, which ends trainings with low validation scores early. Off by default: NASES
    learns from each completed child."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that search together; on a cluster, tasks with one GPU each."""
    storage: Annotated[str, AfterValidator(database_url)] | None = None
    """URL of the database of the study, or `env:NAME` of a variable with the URL; by default a
    SQLite file in the folder of the run."""
    study: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Name of the study in `storage`; by default a new one for each run. Runs with the same name
    work on one study."""
    worker_timeout_s: Annotated[int, Field(ge=6)] = 60
    """Time without a heartbeat after which a worker counts as dead and its child is tried again."""
    child: OwnTrainingConfig = OwnTrainingConfig(epochs=4)
    """Training of a child before it is evaluated."""
    options: SerializeAsAny[OptionsT] = Field(default_factory=lambda: {})  # type: ignore[assignment]
    """Settings of the method, in its own class."""
