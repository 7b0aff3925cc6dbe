"""Processor time of a suggestion of each proposer after a long history.

The history is random architectures with synthetic scores, the same for all methods. Processor time
on one thread, unlike wall time, does not depend on other load of the machine.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from nascore.config import Section
from nascore.genotype import Genotype
from nascore.methods.registry import METHODS as ALL_METHODS
from nascore.results import Child
from nascore.search.proposer import Proposer
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.threads import thread_limit

OPTUNA = "optuna-tpe"
"""Optuna's sampler with its defaults, as a script without this project calls it."""
_OURS = ("random", "regularized-evolution", "local-search", "tpe", "nases", "nases-paper")
METHODS = (*_OURS, OPTUNA)
SPACES: Mapping[str, Section] = {
    "nasbench201": Cell201SpaceConfig(),
    "chain": ChainSpaceConfig(),
}
_STREAM = "suggesting"
# A suggestion takes the same time whatever the autoencoder has learned.
_BRIEFLY = {"autoencoder": {"steps": 20, "num_strings": 1000}}
Suggest = Callable[[int], Genotype]
Update = Callable[[Child], None]


def measure(method: str, space: str, trials: int, *, repeats: int = 20) -> dict[str, Any]:
    """Return `method`, `space`, `trials` and `p50_ms`, the median of one suggestion.

    Args:
        method: name of a proposing method, or `OPTUNA`.
        space: name in `SPACES`.
        trials: ended children before the first measured suggestion.
        repeats: measured suggestions; each gets a score before the next one.
    """
    made = make_space(SPACES[space])
    rng = Seeds(0).numpy(_STREAM, "history")
    target = rng.integers(made.cardinalities)
    with thread_limit(1), tempfile.TemporaryDirectory() as folder:
        suggest, update = _optuna(made) if method == OPTUNA else _ours(method, made, Path(folder))
        for number in range(trials):
            update(_child(number, base.sample(made, rng), target, rng))
        seconds = []
        for number in range(trials, trials + repeats):
            start = time.process_time()
            genotype = suggest(number)
            seconds.append(time.process_time() - start)
            update(_child(number, genotype, target, rng))
    p50_ms = round(1000 * statistics.median(seconds), 3)
    return {"method": method, "space": space, "trials": trials, "p50_ms": p50_ms}


def _child(number: int, genotype: Genotype, target: Any, rng: np.random.Generator) -> Child:
    """Return a child with a synthetic score: tokens equal to a target, plus noise."""
    score = float(np.mean(np.array(genotype.tokens) == target)) * 0.9 + 0.05 * rng.random()
    return Child(number=number, genotype=genotype, objective=score, train_objective=score)


def _ours(method: str, space: SearchSpace, folder: Path) -> tuple[Suggest, Update]:
    module = ALL_METHODS[method].load_proposing()
    assert module is not None, f"{method} proposes no architectures"
    section = ALL_METHODS[method].options
    options = section.model_validate(_BRIEFLY if "autoencoder" in section.model_fields else {})
    module.prepare_proposer(options, space, Seeds(0), folder)
    proposer: Proposer = module.make_proposer(options, space, Seeds(0), _STREAM, controller=folder)
    return proposer.suggest, proposer.update


def _optuna(space: SearchSpace) -> tuple[Suggest, Update]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, BaseDistribution] = {
        f"token{i}": CategoricalDistribution(tuple(range(size)))
        for i, size in enumerate(space.cardinalities)
    }
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(multivariate=True, seed=0)
    )

    def suggest(number: int) -> Genotype:
        trial = study.ask(distributions)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return base.make_genotype(space, [trial.params[name] for name in distributions])

    def update(child: Child) -> None:
        params = dict(zip(distributions, child.genotype.tokens, strict=True))
        study.add_trial(
            create_trial(value=child.objective, params=params, distributions=distributions)
        )

    return suggest, update
