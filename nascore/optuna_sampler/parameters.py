"""The parameters of an Optuna study as a search space: one token per parameter.

The tokens of a categorical parameter are its choices. Those of an integer, or of a float with a
step, are its values in order, if they are few. Other floats have no tokens.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, cast

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial
from torch import nn

from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.spaces.base import ArchitectureGraph, ImageShape, Phase, check

MAX_VALUES = 64  # of a numerical parameter with tokens; parameters with more are sampled at random
PROPOSED = "nascore:proposed"  # system attribute of a trial with its proposed genotype
_ENQUEUED = "fixed_params"  # Optuna's attribute for the parameters of `Study.enqueue_trial`

_TOLERANCE = 1e-8  # of a value, in steps, as in Optuna

Distributions = Mapping[str, BaseDistribution]


class ParameterSpace:
    """`nascore.spaces.base.SearchSpace` of an Optuna study: one token per parameter, by name."""

    def __init__(self, distributions: Distributions) -> None:
        self.distributions = dict(sorted(distributions.items()))
        self.cardinalities = tuple(map(num_values, self.distributions.values()))
        digest = hashlib.sha256(repr(self.distributions).encode()).hexdigest()
        self.identifier = f"parameters-{len(self.distributions)}-{digest[:16]}"

    def genotype_of(self, trial: FrozenTrial) -> Genotype | None:
        """Return the genotype of a trial; None if a parameter is missing or has no token.

        Parameters that the objective has not requested yet have their proposed values.
        """
        proposed = trial.system_attrs.get(PROPOSED, {})
        tokens: list[int | None] = [None] * len(self.distributions)
        if proposed.get("space") == self.identifier:
            tokens = list(proposed["tokens"])
        params = {**trial.system_attrs.get(_ENQUEUED, {}), **trial.params}
        for position, (name, distribution) in enumerate(self.distributions.items()):
            if name in params:
                tokens[position] = _token(distribution, params[name])
        found = tuple(token for token in tokens if token is not None)
        return Genotype(self.identifier, found) if len(found) == len(tokens) else None

    def params(self, genotype: Genotype) -> dict[str, Any]:
        """Return the parameters of a genotype in Optuna's representation."""
        check(self, genotype)
        pairs = zip(self.distributions.items(), genotype.tokens, strict=True)
        return {name: _value(distribution, token) for (name, distribution), token in pairs}

    def canonical(self, genotype: Genotype) -> str:
        return genotype.to_json()  # the meaning of the parameters is unknown

    def describe(self, genotype: Genotype) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.params(genotype).items())

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        """Raise GenotypeNotInSpace: only the objective knows the meaning of its parameters."""
        raise GenotypeNotInSpace(f"{self.identifier} has parameters of a script, none can be built")

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Raise GenotypeNotInSpace, as `build` does."""
        raise GenotypeNotInSpace(f"{self.identifier} has parameters of a script, none can be drawn")


def num_values(distribution: BaseDistribution) -> int:
    """Return the number of tokens of a parameter; 0 if it has none."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if not isinstance(distribution, IntDistribution | FloatDistribution) or not distribution.step:
        return 0
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    return count if count <= MAX_VALUES else 0


def _token(distribution: BaseDistribution, value: Any) -> int | None:
    try:
        internal = distribution.to_internal_repr(value)
    except ValueError:  # of another type, or none of the choices
        return None
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        return int(internal)
    position = (internal - distribution.low) / cast(float, distribution.step)
    token = round(position) if math.isfinite(position) else -1
    is_value = 0 <= token < num_values(distribution) and abs(position - token) < _TOLERANCE
    return token if is_value else None


def _value(distribution: BaseDistribution, token: int) -> Any:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        value = distribution.low + token * cast(float, distribution.step)
        return distribution.to_external_repr(min(value, distribution.high))
    return distribution.to_external_repr(token)
