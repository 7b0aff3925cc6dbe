"""The parameters of an Optuna study as a search space: one token a parameter.

A categorical parameter has a token for every choice. An integer, or a float with a step, has one
for every value, in their order, as long as these are few. Other floats have no tokens.
"""

import hashlib
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

MOST_VALUES = 64  # of a numerical parameter; more are better drawn than told apart one by one
PROPOSED = "nascore:proposed"  # the trial's system attribute with the genotype proposed for it
_ENQUEUED = "fixed_params"  # Optuna's, of the parameters that `Study.enqueue_trial` was given

Distributions = Mapping[str, BaseDistribution]


class ParameterSpace:
    """`nascore.spaces.base.SearchSpace` of an Optuna study: one token a parameter, sorted by
    name."""

    def __init__(self, distributions: Distributions) -> None:
        self.distributions = dict(sorted(distributions.items()))
        self.cardinalities = tuple(map(num_values, self.distributions.values()))
        digest = hashlib.sha256(repr(self.distributions).encode()).hexdigest()
        self.identifier = f"parameters-{len(self.distributions)}-{digest[:16]}"

    def genotype_of(self, trial: FrozenTrial) -> Genotype | None:
        """What a trial tries; None when it lacks a parameter or has a value without a token.

        A parameter that its objective has not asked for has the value that was proposed.
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
        """The parameters of an architecture, as Optuna has them."""
        check(self, genotype)
        pairs = zip(self.distributions.items(), genotype.tokens, strict=True)
        return {name: _value(distribution, token) for (name, distribution), token in pairs}

    def canonical(self, genotype: Genotype) -> str:
        return genotype.to_json()  # nothing is known of what the parameters do

    def describe(self, genotype: Genotype) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.params(genotype).items())

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        """Raises GenotypeNotInSpace: only the objective knows what its parameters stand for."""
        raise GenotypeNotInSpace(f"{self.identifier} has parameters of a script, none can be built")

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Raises GenotypeNotInSpace, as `build` does."""
        raise GenotypeNotInSpace(f"{self.identifier} has parameters of a script, none can be drawn")


def num_values(distribution: BaseDistribution) -> int:
    """How many tokens a parameter has; 0 when it has none."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if not isinstance(distribution, IntDistribution | FloatDistribution) or not distribution.step:
        return 0
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    return count if count <= MOST_VALUES else 0


def _token(distribution: BaseDistribution, value: Any) -> int | None:
    try:
        internal = distribution.to_internal_repr(value)
    except ValueError:  # of another type, or none of the choices
        return None
    if not distribution._contains(internal):
        return None
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return round((internal - distribution.low) / cast(float, distribution.step))
    return int(internal)


def _value(distribution: BaseDistribution, token: int) -> Any:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        value = distribution.low + token * cast(float, distribution.step)
        return distribution.to_external_repr(min(value, distribution.high))
    return distribution.to_external_repr(token)
