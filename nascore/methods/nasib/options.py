"""Settings of NASIB, which searches within any budget. No torch here."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.errors import InputError
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.common.shared_weights_options import SharedWeightsOptions
from nascore.methods.nasib.schedule import Schedule


class ScheduleOptions(Section):
    """What a budget does to a search, over its spent share (`nascore.methods.nasib.schedule`)."""

    shortest: Positive = 50
    """Weight updates; a budget of fewer explores as this one does, ..."""
    longest: Positive = 50_000
    """... and one of more as this one."""
    least: float = 0.1
    """Share of the shortest budget in which there is exploration, ..."""
    most: float = 0.6
    """... and of the longest."""
    warmup: float = 0.1
    """Share in which paths are uniform and the distribution does not learn; part of the budget."""
    hot: float = 5.0
    """Temperature of the Gumbel softmax at the start, ..."""
    cold: float = 0.1
    """... and at the end."""
    entropy_weight: float = 0.01
    """Of the distribution's entropy in the objective at the start; a penalty in the last fifth."""
    eliminate_at: tuple[float, ...] | None = None
    """Growing shares of the budget at which values are dropped; from the end of the exploration on,
    equally spaced on each axis, when not given."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        try:
            self.over(1)
        except InputError as error:
            told = [str(problem).rpartition("schedule.")[2] for problem in error.problems]
            raise ValueError("; ".join(told)) from None
        return self

    def over(self, steps: int) -> Schedule:
        """The schedule of a search of so many weight updates."""
        return Schedule(steps, **self.model_dump())


class LogitsOptions(Section):
    """How the distribution of NASIB learns: Adam, on images that train no weights."""

    reach: Annotated[float, Field(gt=0)] = 6.0
    """How far a logit can move in a search: the rate is this over the number of updates. With 6 and
    the 20,000 updates of DARTS it is the 3e-4 of DARTS."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """A rate that is the same for all budgets, instead."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.5,
        0.999,
    )
    """Decay rates of Adam's moments."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    """Weight decay of the logits."""


class NasibOptions(MethodOptions):
    """NASIB (arXiv 1910.08665): many operations, searched within any budget."""

    weights: SharedWeightsOptions = SharedWeightsOptions(lr=0.025, weight_decay=3e-4)
    logits: LogitsOptions = LogitsOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    max_weightless: Annotated[int, Field(ge=0)] | None = 2
    """Edges of a cell that may end as identity or pooling. Shared weights prefer them, since they
    need no training: without a limit (null) a short search leaves little else."""
    judge_batch: Annotated[int, Field(ge=2)] = 128
    """Images whose statistics normalise a network that is judged with shared weights."""
    num_candidates: Positive = 50
    """Of the control: random architectures, the best of which by shared weights is its choice."""
    num_trainings: Annotated[int, Field(ge=5)] = 5
    """From scratch, of what each arm has chosen: the verdict compares them. They come after the
    budget, and only beside a control."""
    checkpoint_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints."""
