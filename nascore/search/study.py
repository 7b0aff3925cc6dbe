"""The children of a search, kept in an Optuna study: the only state a search has.

Any number of workers share a study. A child is tried by one worker at a time; a try is a trial:

- A worker announces a try before it proposes or trains anything, and names itself in the same
  transaction. The database numbers trials, so no two tries are one, and the first try of a child
  gives the child its number.
- Genotype and outcome follow, the outcome before the trial is closed. A process may die anywhere: a
  child whose outcome is there has ended and is never trained again; one without, whose worker is
  gone or silent, is tried again by whoever comes first, under the same number.
- Two workers that come at once both announce their try; the one with the higher trial number sees
  the other and withdraws. Limits of the budget are kept in the same way.
"""

import bisect
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import TrialState, create_trial

from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search.study_identity import bind_study
from nascore.search.study_storage import Storage, WorkerIdentity
from nascore.search.trial_reader import Trial, read

# User attributes of a trial.
_WORKER = "worker"
_ANNOUNCED = "announced_s"  # seconds since the epoch: Optuna's own times know no time zone
_RETRY = "retry of child"  # not on a first try
_GENOTYPE = "genotype"
CHILD = "child"
_WITHDRAWN = "withdrawn"
KEYS = (_WORKER, _ANNOUNCED, _RETRY, _GENOTYPE, CHILD, _WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a child, to be made by this process.

    Attributes:
        number: of the child.
        tries: of this child so far, this one included; withdrawn ones do not count.
        genotype: what an earlier try has proposed.
    """

    trial_id: int
    number: int
    tries: int = 1
    genotype: Genotype | None = None


@dataclass(frozen=True, slots=True)
class OpenChild:
    """A child that some worker is training."""

    number: int
    genotype: Genotype | None
    started_s: float


Fits = Callable[[Sequence[Child], Sequence[OpenChild]], bool]
"""`fits(ended, ahead)`: whether one more child fits beside those ended and those under way."""


@dataclass(slots=True)
class _Attempt:
    """What is known of a trial; `number` is the child's."""

    number: int
    trial: Trial
    is_dead: bool = False

    @property
    def id(self) -> int:
        return self.trial.id

    @property
    def announced_s(self) -> float:
        return float(self.trial.attributes[_ANNOUNCED])

    @property
    def child(self) -> dict[str, Any] | None:
        return self.trial.attributes.get(CHILD)

    @property
    def genotype(self) -> Genotype | None:
        found = self.trial.attributes.get(_GENOTYPE)
        return None if found is None else Genotype.from_dict(found)

    @property
    def is_withdrawn(self) -> bool:
        return _WITHDRAWN in self.trial.attributes

    @property
    def is_open(self) -> bool:
        return not (self.trial.state.is_finished() or self.is_dead or self.child)


class Study:
    """One arm of a search.

    Args:
        storage: where it is kept.
        name: of the study; arms of one search differ in it.
        identity: what the children depend on, `nascore.search.study_identity.identity`; a study
            that was made with another one is refused.
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
        self._id = self._study._study_id
        bind_study(storage, self._id, name, identity)
        self._mine: set[int] = set()  # ids of trials that this process is working on
        self._last_id, self._num_retries = -1, 0  # of the trials read so far
        self._unsettled: dict[int, _Attempt] = {}  # trials that may still change, by their id
        self._tries: dict[int, list[_Attempt]] = {}  # of children that have not ended, oldest first
        self._ended: set[int] = set()
        self._children: list[Child] = []  # those that have ended, in that order
        self._news: list[Child] = []

    # --- reading.

    def children(self) -> list[Child]:
        """All ended children, in the order in which they ended."""
        self._read()
        return list(self._children)

    def known_children(self) -> Sequence[Child]:
        """The ended children as of the last reading, as a view; the database is not asked."""
        return self._children

    def new_children(self) -> list[Child]:
        """The children that ended since the last call, in that order; at first, all."""
        self._read()
        new_children, self._news = sorted(self._news, key=_end), []
        return new_children

    def open_children(self) -> list[OpenChild]:
        """Children that are being trained, by number, as of the last reading."""
        found = []
        for number, tries in sorted(self._tries.items()):
            under_way = next((one for one in tries if one.is_open), None)
            if under_way is not None:
                found.append(OpenChild(number, under_way.genotype, under_way.announced_s))
        return found

    def _read(self) -> None:
        """Takes in what has changed, and finds out whose workers are gone."""
        self._shared.call_with_retries(self._read_changes)
        self._mark_dead()

    def _read_changes(self) -> None:
        """New trials and those that may have changed, by number; goes on where it was cut off."""
        among = list(self._unsettled)
        for trial in read(self._storage, self._id, after=self._last_id, among=among, keys=KEYS):
            self._note(trial)

    def _note(self, trial: Trial) -> None:
        one = self._unsettled.get(trial.id)
        if one is None:
            retry_of = trial.attributes.get(_RETRY)
            self._num_retries += retry_of is not None
            # Children are numbered by their first tries.
            number = trial.number - self._num_retries if retry_of is None else int(retry_of)
            one = self._unsettled[trial.id] = _Attempt(number, trial)
            self._last_id = max(self._last_id, trial.id)
            if number not in self._ended:
                self._tries.setdefault(number, []).append(one)
        one.trial = trial
        if one.child is not None:
            self._take(Child.from_dict(one.child))
        # Somebody who thinks this worker dead may close a trial that it is working on.
        if trial.state.is_finished() and trial.id not in self._mine:
            del self._unsettled[trial.id]

    def _take(self, child: Child) -> None:
        """The first outcome of a child counts; a second one comes of a worker thought dead."""
        if child.number not in self._ended:
            self._ended.add(child.number)
            self._tries.pop(child.number, None)
            bisect.insort(self._children, child, key=_end)
            self._news.append(child)

    def _mark_dead(self) -> None:
        """Closes the trials that nobody works on any more."""
        others = [one for one in self._unsettled.values() if one.id not in self._mine]
        silent = self._shared.silent_trials(self._id) if others else set()
        dead = [
            one
            for one in others
            if one.child is not None or is_dead(one.trial, self._shared, silent)
        ]
        if dead:
            # One may have written its outcome after the last reading, and died only then.
            self._shared.call_with_retries(self._read_changes)
        for one in dead:
            one.is_dead = True
            self._close(one.id, one.child)

    # --- working.

    def start(self, fits: Fits) -> Attempt | None:
        """A child to work on: one that was left by its worker, or a new one; None when none fits.

        Call `propose` next, then `finish` or `withdraw`.
        """
        self._read()
        while fits(self._children, self.open_children()):
            attempt = self._announce(self._first_left(), fits)
            if attempt is not None:
                return attempt
        return None

    def _first_left(self) -> int | None:
        """The first child that has not ended and that nobody is at, as of the last reading."""
        left = (n for n, tries in self._tries.items() if not any(one.is_open for one in tries))
        return min(left, default=None)

    def _announce(self, child: int | None, fits: Fits) -> Attempt | None:
        """A try at `child`, or at a new one; None when somebody was first or it is too much."""
        attributes: dict[str, Any] = {
            _WORKER: self._shared.worker.to_dict(),
            _ANNOUNCED: time.time(),
        }
        if child is not None:
            attributes[_RETRY] = child
        template = create_trial(state=TrialState.RUNNING, user_attrs=attributes)
        trial_id = self._shared.call_with_retries(
            self._storage.create_new_trial, self._id, template
        )
        self._mine.add(trial_id)
        self._read()
        number = self._unsettled[trial_id].number
        tries = self._tries.get(number, [])
        attempt = Attempt(
            trial_id,
            number,
            tries=sum(not one.is_withdrawn for one in tries),
            genotype=next((one.genotype for one in tries if one.genotype is not None), None),
        )
        is_taken = any(one.is_open and one.id != trial_id for one in tries)
        if number in self._ended or is_taken or not fits(self._children, self._ahead_of(number)):
            self.withdraw(attempt)
            return None
        self._shared.keep_alive(trial_id)
        return attempt

    def _ahead_of(self, number: int) -> list[OpenChild]:
        """The children that come first: those under way, and those whose worker has just died.

        Without the latter a new child would take the place of one that was begun before it.
        """
        ahead = {one.number: one for one in self.open_children() if one.number < number}
        for other, tries in self._tries.items():
            if other < number and other not in ahead:
                ahead[other] = OpenChild(other, tries[0].genotype, time.time())
        return list(ahead.values())

    def propose(self, attempt: Attempt, genotype: Genotype) -> bool:
        """Writes what a child is, before it is trained.

        Returns:
            False when somebody has thought this worker dead and given the child to another; then
            `withdraw`.
        """
        try:
            self._set(attempt.trial_id, _GENOTYPE, genotype.to_dict())
        except UpdateFinishedTrialError:
            return False
        return True

    def finish(self, attempt: Attempt, child: Child) -> None:
        """Writes the end of a child; doing it twice changes nothing."""
        try:
            self._set(attempt.trial_id, CHILD, child.to_dict())
        except UpdateFinishedTrialError:
            self._finish_late(child)
        else:
            self._close(attempt.trial_id, child.to_dict())
        self._leave(attempt)

    def _finish_late(self, child: Child) -> None:
        """This worker was thought dead. What it found counts, unless the child has another try."""
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
        return False  # somebody thought this worker dead; the end of the training will tell

    def withdraw(self, attempt: Attempt) -> None:
        """Gives a try up without an outcome; it does not count as one."""
        # Somebody who thought this worker dead may have closed it.
        with contextlib.suppress(UpdateFinishedTrialError):
            self._set(attempt.trial_id, _WITHDRAWN, True)
            self._close(attempt.trial_id, None)
        self._unsettled[attempt.trial_id].is_dead = True
        self._leave(attempt)

    def _leave(self, attempt: Attempt) -> None:
        self._shared.rest(attempt.trial_id)
        self._mine.discard(attempt.trial_id)

    # --- small things.

    def _set(self, trial_id: int, key: str, value: Any) -> None:
        self._shared.call_with_retries(self._storage.set_trial_user_attr, trial_id, key, value)

    def _close(self, trial_id: int, child: dict[str, Any] | None) -> None:
        close(self._shared, trial_id, child)


def is_dead(trial: Trial, storage: Storage, silent: Collection[int]) -> bool:
    """Return whether nobody works on a trial any more, as far as can be known.

    Args:
        trial: with the attributes `KEYS`.
        silent: ids of the trials whose workers give no sign of life.
    """
    worker = WorkerIdentity(**trial.attributes[_WORKER])
    if worker.id == storage.worker.id or worker.is_gone() or trial.id in silent:
        return True
    # Without a genotype there may be no sign of life yet, so no silence either.
    never_began = _GENOTYPE not in trial.attributes and storage.is_settled()
    age_s = time.time() - float(trial.attributes[_ANNOUNCED])
    return never_began and age_s > 2 * storage.worker_timeout_s


def close(storage: Storage, trial_id: int, child: dict[str, Any] | None) -> None:
    """End a trial by the outcome of its child; one that is ended stays as it is.

    Args:
        child: as it was written to the trial; None where the worker left without an outcome.
    """
    state, values = TrialState.FAIL, None
    if child is not None and child["status"] == "finished":
        state, values = TrialState.COMPLETE, [child["objective"]]
    elif child is not None and child["status"] == "pruned":
        state = TrialState.PRUNED
    with contextlib.suppress(UpdateFinishedTrialError):
        storage.call_with_retries(storage.optuna.set_trial_state_values, trial_id, state, values)


def _end(child: Child) -> tuple[float, int]:
    return child.ended_s or 0.0, child.number
