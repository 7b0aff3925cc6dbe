"""The tree-structured Parzen estimator of Optuna, one categorical parameter a token.

Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, in Optuna's
multivariate form, which models the tokens together. An architecture may come again.
"""

import warnings

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import Trial, TrialState, create_trial

from nascore import spaces
from nascore.genotype import Genotype
from nascore.methods.options import TpeOptions
from nascore.results import Child
from nascore.seeding import Seeds
from nascore.spaces import SearchSpace


class Tpe:
    """Optuna's sampler on a study in memory that the history rebuilds.

    Every suggestion has a sampler of its own, seeded by its number: the sampler's hidden random
    state would otherwise be lost with the process. Children that are still being trained are known
    to the proposer that suggested them only, which is what Optuna calls a constant liar.
    """

    def __init__(self, options: TpeOptions, space: SearchSpace, seeds: Seeds, stream: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._options, self._space, self._seeds, self._stream = options, space, seeds, stream
        self._distributions: dict[str, BaseDistribution] = {
            f"token{i}": CategoricalDistribution(tuple(range(size)))
            for i, size in enumerate(space.cardinalities)
        }
        self._study = optuna.create_study(direction="maximize")
        self._open: dict[int, Trial] = {}

    def suggest(self, number: int) -> Genotype:
        self._study.sampler = self._sampler(number)
        trial = self._study.ask(self._distributions)
        self._open[number] = trial
        return spaces.make_genotype(self._space, [trial.params[n] for n in self._distributions])

    def update(self, child: Child) -> None:
        trial = self._open.pop(child.number, None)
        state = TrialState.FAIL if child.valid_accuracy is None else TrialState.COMPLETE
        if trial is not None:
            self._study.tell(trial, child.valid_accuracy, state)
            return
        params = dict(zip(self._distributions, child.genotype.tokens, strict=True))
        self._study.add_trial(
            create_trial(
                state=state,
                value=child.valid_accuracy,
                params=params,
                distributions=self._distributions,
            )
        )

    def _sampler(self, number: int) -> optuna.samplers.TPESampler:
        seed = self._seeds.integer(self._stream, "suggest", number) % 2**32
        with warnings.catch_warnings():  # `multivariate` is experimental in some versions
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                n_startup_trials=self._options.startup_trials, multivariate=True, seed=seed
            )
