"""Settings of the baselines."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Positive
from nascore.methods.common.method_options import MethodOptions


class RandomOptions(MethodOptions):
    """Random search has nothing to set."""


class RegularizedEvolutionOptions(MethodOptions):
    """Regularized evolution: sizes in children; 100 and 25 in the paper, for 20,000 children."""

    population_size: Annotated[int, Field(ge=2)] = 10
    """Children that are alive."""
    sample_size: Positive = 3
    """Members that compete to be the parent of the next child."""

    @model_validator(mode="after")
    def _sample_in_population(self) -> Self:
        if self.sample_size > self.population_size:
            raise ValueError(
                f"sample_size must be <= population_size, got {self.sample_size} and "
                f"{self.population_size}; lower sample_size or raise population_size"
            )
        return self


class LocalSearchOptions(MethodOptions):
    """Hill climbing with random restarts."""

    improvement: Literal["first", "best"] = "first"
    """Go on from the first neighbour that is better, or from the best of all neighbours."""
    isomorphism: bool = True
    """Count architectures whose networks are the same as one."""


class TpeOptions(MethodOptions):
    """Optuna's multivariate TPE."""

    startup_trials: Positive = 10
    """Random children before the estimator is asked; Optuna's default."""
