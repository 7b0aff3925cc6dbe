"""Settings of the baselines."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Positive
from nascore.methods.common.method_options import MethodOptions


class RandomOptions(MethodOptions):
    """Random search has no settings."""


class RegularizedEvolutionOptions(MethodOptions):
    """Settings of regularized evolution; the paper has 100 and 25, for 20,000 children."""

    population_size: Annotated[int, Field(ge=2)] = 10
    """Size of the population in children."""
    sample_size: Positive = 3
    """Members sampled for each child; the best of them is its parent."""

    @model_validator(mode="after")
    def _sample_in_population(self) -> Self:
        if self.sample_size > self.population_size:
            raise ValueError(
                f"sample_size must be <= population_size, got {self.sample_size} and "
                f"{self.population_size}; lower sample_size or raise population_size"
            )
        return self


class LocalSearchOptions(MethodOptions):
    """Settings of hill climbing with random restarts."""

    improvement: Literal["first", "best"] = "first"
    """Continue from the first better neighbour, or from the best of all neighbours."""
    isomorphism: bool = True
    """Count isomorphic architectures as one."""


class TpeOptions(MethodOptions):
    """Settings of Optuna's multivariate TPE."""

    startup_trials: Positive = 10
    """Random children before the first suggestion of the estimator."""
