"""The children of a search, stored in an Optuna study: the only state of a search.

Any number of workers share a study. One worker at a time tries a child; an attempt is a trial:

- A worker announces an attempt before it proposes or trains anything, and names itself in the same
  transaction. The database numbers trials, so no two attempts are one, and the first attempt at a
  child gives the child its number.
- Genotype and outcome follow, the outcome before the trial is closed. A process may die anywhere: a
  child whose outcome is stored has ended and is never trained again; one without, whose worker is
  dead or silent, is tried again by the next free worker, under the same number.
- Two workers that come at once both announce their attempt; the one with the higher trial number
  sees the other and withdraws. Limits of the budget hold in the same way.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import TrialState, create_trial

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search import optuna_private
from nascore.search.attempts import (
    ANNOUNCED,
    CHILD,
    GENOTYPE,
    KEYS,
    RETRY,
    WITHDRAWN,
    WORKER,
    Attempt,
    AttemptHistory,
    OpenChild,
)
from nascore.search.study_identity import bind_study
from nascore.search.study_storage import Storage
from nascore.search.trial_reader import Trial, read
from nascore.search.worker_identity import WorkerIdentity

Fits = Callable[[Sequence[Child], Sequence[OpenChild]], bool]
"""`fits(ended, ahead)`: whether one more child fits the budget, given these."""


class Study:
    """One arm of a search.

    Args:
        storage: the database.
        name: of the study; arms of one search differ in it.
        identity: what the children depend on, `nascore.search.study_identity.identity`.
        pruner: of Optuna; none prunes nothing.

    Raises:
        InputError: the study belongs to another search, or to another version of this one.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        identity: Mapping[str, object],
        *,
        pruner: BasePruner | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._shared = storage
        self._study = storage.call_with_retries(
            optuna.create_study,
            storage=storage.optuna,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner or NopPruner(),
        )
        self.name = name
        self.method = str(identity["method"])
        self._storage = storage.optuna
        self._id = optuna_private.id_of_study(self._study)
        bind_study(storage, self._id, name, identity)
        self._history = AttemptHistory()

    # --- reading.

    def children(self) -> list[Child]:
        """Return all ended children, in the order in which they ended."""
        self._read()
        return list(self._history.children)

    def known_children(self) -> Sequence[Child]:
        """Return the ended children as of the last reading, as a view."""
        return self._history.children

    def new_children(self) -> list[Child]:
        """Return the children that ended since the last call, in that order; at first, all."""
        self._read()
        return self._history.take_new_children()

    def open_children(self) -> list[OpenChild]:
        """Return the children in training, by number, as of the last reading."""
        return self._history.open_children()

    def _read(self) -> None:
        """Read what has changed, and close the trials of dead workers."""
        self._shared.call_with_retries(self._read_changes)
        self._close_dead()

    def _read_changes(self) -> None:
        """Read new trials and those that may have changed; resumes where it was interrupted."""
        history = self._history
        among = list(history.unsettled)
        for trial in read(self._storage, self._id, after=history.last_id, among=among, keys=KEYS):
            if WORKER not in trial.attributes:  # written together with the trial
                message = f"another program has added trial {trial.number}; name another study"
                raise InputError.of("search.study", self.name, message)
            history.record(trial)

    def _close_dead(self) -> None:
        history = self._history
        others = [one for one in history.unsettled.values() if one.id not in history.own]
        silent = self._shared.silent_trials(self._id) if others else set()
        dead = [
            one
            for one in others
            if one.child is not None or is_dead(one.trial, self._shared, silent)
        ]
        if dead:
            # A worker may have stored its outcome after the last reading, and died only then.
            self._shared.call_with_retries(self._read_changes)
        for one in dead:
            one.is_dead = True
            self._close(one.id, one.child)

    # --- working.

    def start(self, fits: Fits) -> Attempt | None:
        """Return an attempt at an abandoned child or at a new one; None when none fits.

        Call `propose` next, then `finish` or `withdraw`.
        """
        self._read()
        while fits(self._history.children, self.open_children()):
            attempt = self._announce(self._history.first_abandoned(), fits)
            if attempt is not None:
                return attempt
        return None

    def _announce(self, child: int | None, fits: Fits) -> Attempt | None:
        """Announce an attempt at a child, or at a new one where it is None.

        Returns:
            None when another worker was first or the budget has no place for it.
        """
        attributes: dict[str, Any] = {
            WORKER: self._shared.worker.to_dict(),
            ANNOUNCED: time.time(),
        }
        if child is not None:
            attributes[RETRY] = child
        template = create_trial(state=TrialState.RUNNING, user_attrs=attributes)
        trial_id = self._shared.call_with_retries(
            self._storage.create_new_trial, self._id, template
        )
        history = self._history
        history.own.add(trial_id)
        self._read()
        attempt = history.own_attempt(trial_id)
        if history.is_taken(attempt) or not fits(
            history.children, history.ahead_of(attempt.number)
        ):
            self.withdraw(attempt)
            return None
        self._shared.keep_alive(trial_id)
        return attempt

    def propose(self, attempt: Attempt, genotype: Genotype) -> bool:
        """Store the genotype of a child before its training.

        Returns:
            False when another worker took this one for dead and tries the child; then `withdraw`.
        """
        try:
            self._set(attempt.trial_id, GENOTYPE, genotype.to_dict())
        except UpdateFinishedTrialError:
            return False
        return True

    def finish(self, attempt: Attempt, child: Child) -> None:
        """Store the end of a child; doing it twice changes nothing."""
        try:
            self._set(attempt.trial_id, CHILD, child.to_dict())
        except UpdateFinishedTrialError:
            self._finish_late(child)
        else:
            self._close(attempt.trial_id, child.to_dict())
        self._leave(attempt)

    def _finish_late(self, child: Child) -> None:
        """Store the outcome of a worker taken for dead, unless the child is tried again."""
        attempt = self._announce(child.number, lambda ended, ahead: True)
        if attempt is not None:
            self.propose(attempt, child.genotype)
            self.finish(attempt, child)

    def should_prune(self, attempt: Attempt, epoch: int, score: float) -> bool:
        """Return whether the pruner ends the training after `epoch`, counted from 1."""
        if isinstance(self._study.pruner, NopPruner):
            return False
        trial_id = attempt.trial_id
        with contextlib.suppress(UpdateFinishedTrialError):
            self._shared.call_with_retries(
                self._storage.set_trial_intermediate_value, trial_id, epoch, score
            )
            trial = self._shared.call_with_retries(self._storage.get_trial, trial_id)
            return self._shared.call_with_retries(self._study.pruner.prune, self._study, trial)
        return False  # another worker took this one for dead; `finish` handles that

    def withdraw(self, attempt: Attempt) -> None:
        """Give an attempt up without an outcome; it does not count as one."""
        # Another worker that took this one for dead may have closed it.
        with contextlib.suppress(UpdateFinishedTrialError):
            self._set(attempt.trial_id, WITHDRAWN, True)
            self._close(attempt.trial_id, None)
        self._history.unsettled[attempt.trial_id].is_dead = True
        self._leave(attempt)

    def _leave(self, attempt: Attempt) -> None:
        self._shared.rest(attempt.trial_id)
        self._history.own.discard(attempt.trial_id)

    def _set(self, trial_id: int, key: str, value: Any) -> None:
        self._shared.call_with_retries(self._storage.set_trial_user_attr, trial_id, key, value)

    def _close(self, trial_id: int, child: dict[str, Any] | None) -> None:
        close(self._shared, trial_id, child)


def is_dead(trial: Trial, storage: Storage, silent: Collection[int]) -> bool:
    """Return whether no worker works on a trial, as far as can be known.

    Args:
        trial: with the attributes `KEYS`.
        silent: ids of the trials whose workers send no heartbeat.
    """
    worker = WorkerIdentity(**trial.attributes[WORKER])
    if worker.id == storage.worker.id or worker.is_gone() or trial.id in silent:
        return True
    # Without a genotype there may be no heartbeat yet, so no silence either.
    never_began = GENOTYPE not in trial.attributes and storage.is_settled()
    age_s = time.time() - float(trial.attributes[ANNOUNCED])
    return never_began and age_s > 2 * storage.worker_timeout_s


def close(storage: Storage, trial_id: int, child: dict[str, Any] | None) -> None:
    """End a trial by the outcome of its child; a trial that has ended stays as it is.

    Args:
        child: as it is stored in the trial; None where the worker left without an outcome.
    """
    state, values = TrialState.FAIL, None
    if child is not None and child["status"] == "finished":
        state, values = TrialState.COMPLETE, [child["objective"]]
    elif child is not None and child["status"] == "pruned":
        state = TrialState.PRUNED
    with contextlib.suppress(UpdateFinishedTrialError):
        storage.call_with_retries(storage.optuna.set_trial_state_values, trial_id, state, values)
