"""All measures on one fixed set of architectures.

The set is sampled uniformly, without repeats, and the controller reads it token by token. Samples
of the controllers themselves would be copies where a policy has collapsed, and would differ between
two controllers. A controller with random weights retains information too; compare with it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.methods.enas.controller import Controller
from nascore.methods.enas.diagnosis import distances, states
from nascore.methods.enas.diagnosis.conditioning import Conditioning, conditioning, mean
from nascore.methods.enas.diagnosis.correlation import Correlation, correlate, spearman
from nascore.methods.enas.diagnosis.probes import TokenProbe, noisy, property_probes, token_probes
from nascore.methods.enas.diagnosis.states import StateTest
from nascore.seeding import Seeds
from nascore.spaces.base import SharedSpace, make_genotype
from nascore.spaces.dag import LabelledDag

Floats = NDArray[np.float64]

SEEDS = Seeds(0)
"""Default seed of the fixed set: one set for all runs of a space."""
_NUM_STATES = 50
_NUM_SHOWN = 1500  # pairs in the figure
_QUICK = 200, 100  # architectures that are read and compared during a search


@dataclass(frozen=True)
class FixedSet:
    """Distinct, uniformly sampled architectures, and the distances between some of them.

    Attributes:
        tokens_NT: all architectures; the controller reads them for the probes.
        num_compared: number of them, from the first on, that are compared pair by pair.
    """

    space: SharedSpace
    seeds: Seeds
    tokens_NT: Tensor
    num_compared: int

    @cached_property
    def dags(self) -> list[LabelledDag]:
        return _dags(self.space, self.tokens_NT)

    @cached_property
    def distances(self) -> dict[str, Floats]:
        compared_NT = self.tokens_NT[: self.num_compared].numpy()
        return distances.architecture_distances(compared_NT, self.dags[: self.num_compared])


def fixed_set(
    space: SharedSpace, seeds: Seeds = SEEDS, *, num_compared: int = 200, num_read: int = 1000
) -> FixedSet:
    """Return the set of a seed; all architectures of a space that has no more."""
    rng = seeds.numpy("diagnosis", "architectures")
    num = min(num_read, math.prod(space.cardinalities))
    found: dict[tuple[int, ...], None] = {}
    while len(found) < num:
        drawn = rng.integers(space.cardinalities, size=(num, len(space.cardinalities)))
        found |= dict.fromkeys(map(tuple, drawn.tolist()))
    tokens_NT = torch.tensor(list(found)[:num])
    return FixedSet(space, seeds, tokens_NT, min(num, num_compared))


def quick_set(space: SharedSpace, seeds: Seeds = SEEDS) -> FixedSet:
    """Return the first architectures of the set, for `quick_metrics`."""
    whole = fixed_set(space, seeds)
    num_read, num_compared = _QUICK
    return FixedSet(space, seeds, whole.tokens_NT[:num_read], min(num_compared, whole.num_compared))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All measures of one controller.

    Attributes:
        correlations: of distances between hidden states (`euclidean`, `cosine`) with distances
            between architectures, by both names; None where one is constant.
        same_start: identical-state test from carried-over states, by graph distance.
        same_prefix: the same from states after the first half.
        token_probes: from the last hidden state to each token.
        noisy_token_probes: from that state with noise added.
        property_probes: from it to properties of the graph, R^2; None where one is constant.
        pairs: (edit distance, Euclidean distance of states) of some pairs, for a figure.
    """

    space: str
    num_compared: int
    num_read: int
    correlations: Mapping[str, Mapping[str, Correlation | None]]
    same_start: Mapping[str, StateTest]
    same_prefix: Mapping[str, StateTest]
    token_probes: tuple[TokenProbe, ...]
    noisy_token_probes: tuple[TokenProbe, ...]
    property_probes: Mapping[str, float | None]
    conditioning: Conditioning
    pairs: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the measures as JSON."""
        return asdict(self)


def diagnose(controller: Controller, fixed: FixedSet) -> Diagnosis:
    """Measure a controller, in a few seconds on one core; equal inputs give equal figures."""
    seeds = fixed.seeds
    hidden_NH = _hidden(controller, fixed.tokens_NT)
    apart = distances.state_distances(hidden_NH[: fixed.num_compared])
    properties = {
        name: np.array([of(dag) for dag in fixed.dags], dtype=np.float64)
        for name, of in distances.PROPERTIES.items()
    }
    folds, tokens = _fold_seed(seeds), fixed.tokens_NT.numpy()

    def between(tokens_NT: Tensor) -> dict[str, Floats]:
        dags = _dags(fixed.space, tokens_NT)
        found = distances.architecture_distances(tokens_NT.numpy(), dags)
        return {name: found[name] for name in distances.GRAPH_DISTANCES}

    return Diagnosis(
        space=fixed.space.identifier,
        num_compared=fixed.num_compared,
        num_read=len(fixed.tokens_NT),
        correlations=correlate(apart, fixed.distances, seeds.numpy("diagnosis", "correlation")),
        same_start=states.same_start(
            controller,
            fixed.tokens_NT[:_NUM_STATES],
            between,
            generator=seeds.torch("diagnosis", "same start"),
            rng=seeds.numpy("diagnosis", "same start"),
        ),
        same_prefix=states.same_prefix(
            controller,
            fixed.tokens_NT[: fixed.num_compared],
            between,
            generator=seeds.torch("diagnosis", "same prefix"),
            rng=seeds.numpy("diagnosis", "same prefix"),
        ),
        token_probes=token_probes(hidden_NH, tokens, seed=folds),
        noisy_token_probes=token_probes(_noisy(hidden_NH, seeds), tokens, seed=folds),
        property_probes=property_probes(hidden_NH, properties, seed=folds),
        conditioning=conditioning(controller, fixed.tokens_NT),
        pairs=_some_pairs(fixed.distances["edit"], apart["euclidean"], seeds),
    )


def quick_metrics(controller: Controller, fixed: FixedSet) -> dict[str, float]:
    """Return some measures, without intervals, in a fraction of a second, for use in a search.

    An undefined measure (a constant distance, a single position) is omitted.
    """
    hidden_NH = _hidden(controller, fixed.tokens_NT)
    apart = distances.state_distances(hidden_NH[: fixed.num_compared])["euclidean"]
    first_N1, folds = fixed.tokens_NT[:, :1].numpy(), _fold_seed(fixed.seeds)
    (first,) = token_probes(hidden_NH, first_N1, seed=folds)
    (noisy_first,) = token_probes(_noisy(hidden_NH, fixed.seeds), first_N1, seed=folds)
    policy = conditioning(controller, fixed.tokens_NT)
    found = {
        **{f"spearman_{n}": spearman(apart, fixed.distances[n]) for n in ("hamming", "edit")},
        "probe_first_token": first.accuracy,
        "probe_first_token_gain": first.gain,
        "probe_first_token_noisy": noisy_first.accuracy,
        "mean_kl": mean(policy.mean_kl),
        "mean_kl_beyond_last": mean(policy.mean_kl_beyond_last),
    }
    return {f"diagnosis/{name}": value for name, value in found.items() if value is not None}


def _fold_seed(seeds: Seeds) -> int:
    return seeds.integer("diagnosis", "folds") % 2**32


def _noisy(hidden_NH: Floats, seeds: Seeds) -> Floats:
    return noisy(hidden_NH, seeds.numpy("diagnosis", "noise"))


def _dags(space: SharedSpace, tokens_NT: Tensor) -> list[LabelledDag]:
    return [space.dag(make_genotype(space, tokens)) for tokens in tokens_NT.tolist()]


@torch.no_grad()
def _hidden(controller: Controller, tokens_NT: Tensor) -> Floats:
    """Return the states that represent whole architectures, (N, H)."""
    hidden_NH: Floats = controller.read_prefix(tokens_NT)[0].double().numpy()
    return hidden_NH


def _some_pairs(x_P: Floats, y_P: Floats, seeds: Seeds) -> tuple[tuple[float, float], ...]:
    chosen = seeds.numpy("diagnosis", "shown").permutation(len(x_P))[:_NUM_SHOWN]
    return tuple(zip(x_P[chosen].tolist(), y_P[chosen].tolist(), strict=True))
