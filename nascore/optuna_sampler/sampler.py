"""Samplers of Optuna that ask a proposing method."""

import logging
import secrets
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from nascore.config import Section
from nascore.errors import InputError, Problem
from nascore.methods.base import ProposingModule
from nascore.methods.registry import METHODS
from nascore.optuna_sampler.parameters import (
    MAX_VALUES,
    PROPOSED,
    Distributions,
    ParameterSpace,
    num_values,
)
from nascore.optuna_sampler.trial_feed import TrialFeed
from nascore.search import optuna_private
from nascore.search.proposer import Proposer
from nascore.seeding import Seeds

_STREAM = "sampler"

_log = logging.getLogger(__name__)


class ProposerSampler(BaseSampler):
    """A proposing method (`nascore.methods.registry.METHODS`) as a sampler of Optuna.

    The study is the only state: a new sampler with the same seed continues like the old one, and
    several processes may work on one study. The method receives trials in the order in which they
    ended; those that failed, were pruned or have an infinite value count as failed children. It
    also receives the running trials of other workers.

    Parameters that not all trials have, or not with one range, are sampled at random, unless
    `search_space` names them.

    `nases-paper` is for one worker, and for parameters that all have the same number of values.

    Args:
        method: name of a proposing method.
        seed: of all random numbers, 0 or more; None draws one. A suggestion depends on it, on the
            trial's number and on the study, so workers may share it.
        search_space: name to distribution; None: the parameters that all finished trials share,
            from the second trial on.
        options: settings of the method, as its section or as a dictionary.
        controller: folder for what the method learns before the first trial (NASES: its
            autoencoder, which takes seconds for each new search space); None: a temporary one.
        warn_independent_sampling: whether to warn once per parameter that is sampled at random.

    Raises:
        InputError: there is no such method, or a setting is wrong.
    """

    def __init__(
        self,
        method: str = "nases",
        *,
        seed: int | None = None,
        search_space: Distributions | None = None,
        options: Section | Mapping[str, Any] | None = None,
        controller: Path | str | None = None,
        warn_independent_sampling: bool = True,
    ) -> None:
        self._module = _module(method)
        self._method = method
        self._options = _options(method, options)
        if seed is not None and seed < 0:
            raise InputError.of("seed", seed, "must be 0 or more")
        self._seeds = Seeds(secrets.randbits(32) if seed is None else seed)
        self._search_space = None if search_space is None else dict(sorted(search_space.items()))
        self._controller = None if controller is None else Path(controller)
        self._warn_independent_sampling = warn_independent_sampling
        self._warned: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._intersection = IntersectionSearchSpace()
        self._feed: TrialFeed | None = None
        self._study: tuple[object, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings alone: all other state follows from the study."""
        left_out = ("_lock", "_temporary", "_intersection", "_feed", "_study", "_module")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._module = _module(self._method)
        self._forget()

    def reseed_rng(self) -> None:
        """Do nothing: the trials of a study draw different numbers in all workers.

        Optuna calls this before each trial when it has several threads. Another seed would discard
        what was learned, and a new sampler could not repeat the proposals of the old one.
        """

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        with self._lock:
            self._turn_to(study)
            space = self._search_space
            if space is None:
                space = self._intersection.calculate(study)
        return {name: one for name, one in space.items() if num_values(one) > 1}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        tokens = {name: one for name, one in search_space.items() if num_values(one) > 1}
        params = {
            name: self._draw(study, trial, name, one)
            for name, one in search_space.items()
            if name not in tokens
        }
        if tokens:
            with self._lock:
                params |= self._propose(study, trial, tokens)
        return params

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        self._raise_error_if_multi_objective(study)
        if self._warn_independent_sampling and param_name not in self._warned:
            self._warn(study, trial, param_name, param_distribution)
        return self._draw(study, trial, param_name, param_distribution)

    def _draw(self, study: Study, trial: FrozenTrial, name: str, one: BaseDistribution) -> Any:
        seed = self._seeds.integer(_STREAM, "independent", trial.number, name) % 2**32
        return RandomSampler(seed).sample_independent(study, trial, name, one)

    def _warn(self, study: Study, trial: FrozenTrial, name: str, one: BaseDistribution) -> None:
        reason = "not all trials have it, or not with the same range"
        if num_values(one) == 0:
            reason = f"it is continuous or has more than {MAX_VALUES} values"
        elif self._search_space is None and not study.get_trials(False, (TrialState.COMPLETE,)):
            return  # the search space is still unknown
        self._warned.add(name)
        _log.warning(
            "Parameter %r is drawn at random from trial %d on and not proposed by %s: %s. "
            "`warn_independent_sampling=False` turns this warning off.",
            *(name, trial.number, self._method, reason),
        )

    def _propose(
        self, study: Study, trial: FrozenTrial, tokens: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        storage = optuna_private.storage_of(study)
        self._turn_to(study)
        if self._feed is None or self._feed.space.distributions != tokens:
            self._feed = TrialFeed(ParameterSpace(tokens), self._make_proposer)
        # Not `study.trials`: pruners such as Hyperband's show a sampler only part of them.
        trials = storage.get_all_trials(optuna_private.id_of_study(study), deepcopy=False)
        genotype = self._feed.suggest(trial.number, trials, study.direction)
        # Optuna stores parameters one by one, when the objective requests them: other workers would
        # see this trial too late.
        trial_id = optuna_private.id_of_trial(trial)
        storage.set_trial_system_attr(trial_id, PROPOSED, genotype.to_dict())
        return self._feed.space.params(genotype)

    def _turn_to(self, study: Study) -> None:
        """Forget the study of the last call if this is another one."""
        place = (optuna_private.storage_of(study), optuna_private.id_of_study(study))
        if self._study is None or self._study[0] is not place[0] or self._study[1] != place[1]:
            self._study, self._feed = place, None
            self._intersection = IntersectionSearchSpace()

    def _make_proposer(self, space: ParameterSpace) -> Proposer:
        folder = self._root() / space.identifier
        if not (folder / "controller.json").exists():
            self._module.prepare_proposer(self._options, space, self._seeds, folder)
        return self._module.make_proposer(
            self._options, space, self._seeds, _STREAM, controller=folder
        )

    def _root(self) -> Path:
        if self._controller is not None:
            return self._controller
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="nas-sampler-")
        return Path(self._temporary.name)


class NasesSampler(ProposerSampler):
    """NASES, reinforcement learning in an architecture-embedding space, as a sampler of Optuna.

    See `ProposerSampler`, and `nascore.methods.nases.options.NasesOptions` for the settings.
    """


# --- user settings --------------------------------------------------------------------------


def _module(method: str) -> ProposingModule:
    module = METHODS[method].load_proposing() if method in METHODS else None
    if module is None:
        raise InputError.of("method", method, f"must be one of {', '.join(METHODS)}")
    return module


def _options(method: str, given: Section | Mapping[str, Any] | None) -> Section:
    """Return validated settings."""
    section = METHODS[method].options
    if isinstance(given, Section):
        if not isinstance(given, section):
            raise InputError.of(
                "options", type(given).__name__, f"{method} takes {section.__name__}"
            )
        given = {name: getattr(given, name) for name in given.model_fields_set}
    try:
        return section.model_validate(dict(given or {}))
    except ValidationError as error:
        raise InputError(
            [
                Problem(".".join(("options", *map(str, e["loc"]))), str(e["input"]), e["msg"])
                for e in error.errors()
            ]
        ) from error
