"""Settings of NASIB, which searches within any budget. No torch here."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.common.shared_weights_options import SharedWeightsOptions
from nascore.methods.nasib.schedule import Schedule

ExploreFraction = Annotated[float, Field(gt=0, le=1)]
Temperature = Annotated[float, Field(gt=0)]


class ScheduleOptions(Section):
    """Schedules over the spent fraction of the budget (`nascore.methods.nasib.schedule`)."""

    min_steps: Positive = 50
    """Weight updates of a budget that explores for `min_explore_fraction`; so do smaller ones."""
    max_steps: Positive = 50_000
    """Weight updates of a budget that explores for `max_explore_fraction`; so do larger ones."""
    min_explore_fraction: ExploreFraction = 0.1
    """Fraction of the smallest budget in which choices are explored."""
    max_explore_fraction: ExploreFraction = 0.6
    """Fraction of the largest budget in which choices are explored."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the budget in which paths are uniform and the distribution is not trained."""
    temperature_start: Temperature = 5.0
    """Temperature of the Gumbel softmax at the start."""
    temperature_end: Temperature = 0.1
    """Temperature of the Gumbel softmax at the end, at most that at the start."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the distribution's entropy in the objective at the start; it falls as the budget is
    spent and is a penalty in the last fifth."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        wrong = []
        if self.min_steps >= self.max_steps:
            wrong.append(f"min_steps={self.min_steps} must be below max_steps={self.max_steps}")
        for low, high in (
            ("min_explore_fraction", "max_explore_fraction"),
            ("temperature_end", "temperature_start"),
        ):
            lower, upper = getattr(self, low), getattr(self, high)
            if lower > upper:
                wrong.append(f"{low}={lower:g} must be at most {high}={upper:g}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def over(self, steps: int) -> Schedule:
        """Return the schedule of a search of this many weight updates."""
        return Schedule(steps, **self.model_dump())


class NasibOptions(MethodOptions):
    """NASIB (arXiv 1910.08665): many operations, searched within any budget."""

    weights: SharedWeightsOptions = SharedWeightsOptions(lr=0.025, weight_decay=3e-4)
    schedule: ScheduleOptions = ScheduleOptions()
    max_logit_change: Annotated[float, Field(gt=0)] = 6.0
    """Largest change of a logit in a search: the learning rate of Adam is this divided by the
    number of updates. With 6 and the 20,000 updates of DARTS it is the 3e-4 of DARTS."""
    max_parameterless_edges: Annotated[int, Field(ge=0)] | None = 2
    """Edges of a cell that may end as identity or pooling. Shared weights prefer them, since they
    need no training: without a limit (null) few convolutions are left after a short search."""
    eval_batch_size: Annotated[int, Field(ge=2)] = 128
    """Images in a batch on which an architecture is evaluated with shared weights; the statistics
    of the batch normalise it."""
    num_candidates: Positive = 50
    """Random architectures of the control, of which it takes the best by shared weights."""
    num_trainings: Annotated[int, Field(ge=5)] = 5
    """Trainings from scratch of the architecture of each arm, which the verdict compares. They
    run after the budget is spent, and only if there is a control."""
