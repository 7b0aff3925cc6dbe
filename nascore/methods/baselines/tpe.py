"""The tree-structured Parzen estimator of Optuna, one categorical parameter a token.

Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, in Optuna's
multivariate form, which models the tokens jointly. An architecture may be proposed repeatedly.

The time of a suggestion is proportional to the trials that the estimator reads. Above `_MAX_TRIALS`
it reads the best, from which it makes the density of good trials (at most 25 in Optuna), and the
latest: Optuna weighs the others by age, the oldest hardly at all.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nascore.genotype import Genotype
from nascore.methods.baselines.options import TpeOptions
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace

_MAX_TRIALS = 500  # that the estimator reads; then the history is cut
_BEST, _LATEST = 25, 275  # that are left


class _Sampler(optuna.samplers.TPESampler):
    """A sampler with a given search space, which Optuna would read from all trials each time."""

    def __init__(self, space: dict[str, BaseDistribution], **settings: Any) -> None:
        super().__init__(multivariate=True, **settings)
        names = sorted(name for name, one in space.items() if not one.single())
        self._known = {name: space[name] for name in names}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._known


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide Optuna's log line about the new study."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class Tpe:
    """Optuna's sampler on a study in memory that the history rebuilds.

    Every suggestion has a sampler of its own, seeded by its number: the sampler's hidden random
    state would otherwise be lost with the process. Children that other workers are training count
    as bad ones until they end, which is what Optuna calls a constant liar.
    """

    def __init__(self, options: TpeOptions, space: SearchSpace, seeds: Seeds, stream: str) -> None:
        self._options, self._space, self._seeds, self._stream = options, space, seeds, stream
        self._distributions: dict[str, BaseDistribution] = {
            f"token{i}": CategoricalDistribution(tuple(range(size)))
            for i, size in enumerate(space.cardinalities)
        }
        self._ended: list[FrozenTrial] = []  # with a score, in order
        self._new_study()

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """Return the architecture of child `number`.

        Pending children are in the study for this suggestion alone: its trials must be in the order
        in which the children ended.
        """
        passing = [self._add(pending[other], TrialState.RUNNING) for other in sorted(pending)]
        self._study.sampler = self._sampler(number, with_pending=bool(pending))
        trial = self._study.ask(self._distributions)
        for other in (*passing, trial.number):
            self._study.tell(other, state=TrialState.FAIL)
        return base.make_genotype(self._space, [trial.params[n] for n in self._distributions])

    def update(self, child: Child) -> None:
        """Add a finished child; failed ones are ignored."""
        if child.objective is None:
            return
        self._add(child.genotype, TrialState.COMPLETE, child.objective)
        self._ended.append(self._study.get_trials(deepcopy=False)[-1])
        if len(self._ended) > _MAX_TRIALS:
            self._cut()

    def _cut(self) -> None:
        """Keep only the best and the latest trials, in the order in which they ended."""
        earlier, latest = self._ended[:-_LATEST], self._ended[-_LATEST:]
        order = sorted(range(len(earlier)), key=lambda i: -float(earlier[i].value or 0.0))
        best = [earlier[i] for i in sorted(order[:_BEST])]
        self._ended = [*best, *latest]
        self._new_study()
        self._study.add_trials(self._ended)

    def _new_study(self) -> None:
        with _quiet():
            self._study = optuna.create_study(direction="maximize")

    def _add(self, genotype: Genotype, state: TrialState, value: float | None = None) -> int:
        params = dict(zip(self._distributions, genotype.tokens, strict=True))
        self._study.add_trial(
            create_trial(state=state, value=value, params=params, distributions=self._distributions)
        )
        return len(self._study.get_trials(deepcopy=False)) - 1

    def _sampler(self, number: int, *, with_pending: bool) -> optuna.samplers.TPESampler:
        seed = self._seeds.integer(self._stream, "suggest", number) % 2**32
        with warnings.catch_warnings():  # `multivariate` is experimental in some versions
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _Sampler(
                self._distributions,
                n_startup_trials=self._options.startup_trials,
                constant_liar=with_pending,
                seed=seed,
            )
