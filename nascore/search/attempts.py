"""Attempts at the children of a study, as its trials record them. No database here.

A trial of the study is one attempt of one worker at one child. Children are numbered by their first
attempts; a further attempt names the child that it retries.
"""

import bisect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search.trial_reader import Trial

# User attributes of a trial.
WORKER = "worker"
ANNOUNCED = "announced_s"  # seconds since the epoch: Optuna's own times have no time zone
RETRY = "retry of child"  # absent on a first attempt
GENOTYPE = "genotype"
CHILD = "child"
WITHDRAWN = "withdrawn"
KEYS = (WORKER, ANNOUNCED, RETRY, GENOTYPE, CHILD, WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a child, to be made by this process.

    Attributes:
        number: of the child.
        tries: attempts at this child so far, this one included; withdrawn ones do not count.
        genotype: that an earlier attempt has proposed.
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


@dataclass(slots=True)
class RecordedAttempt:
    """A trial of the study; `number` is that of its child."""

    number: int
    trial: Trial
    is_dead: bool = False
    ahead_s: float = field(default_factory=lambda: time.time() - time.monotonic())
    """By how much the clock was ahead of the monotonic one when the trial was first read."""

    @property
    def id(self) -> int:
        return self.trial.id

    @property
    def announced_s(self) -> float:
        """Seconds since the epoch, by the clock as it is now: it may have been set meanwhile."""
        set_by_s = time.time() - time.monotonic() - self.ahead_s
        return float(self.trial.attributes[ANNOUNCED]) + set_by_s

    @property
    def child(self) -> dict[str, Any] | None:
        return self.trial.attributes.get(CHILD)

    @property
    def genotype(self) -> Genotype | None:
        found = self.trial.attributes.get(GENOTYPE)
        return None if found is None else Genotype.from_dict(found)

    @property
    def is_withdrawn(self) -> bool:
        return WITHDRAWN in self.trial.attributes

    @property
    def is_open(self) -> bool:
        return not (self.trial.state.is_finished() or self.is_dead or self.child)


class AttemptHistory:
    """All attempts that were read so far, and the children that have ended.

    Attributes:
        own: ids of the trials on which this process works.
        unsettled: attempts that may still change, by the ids of their trials.
        last_id: the highest id that was read.
    """

    def __init__(self) -> None:
        self.own: set[int] = set()
        self.unsettled: dict[int, RecordedAttempt] = {}
        self.last_id = -1
        self._num_retries = 0
        self._attempts: dict[int, list[RecordedAttempt]] = {}  # at open children, oldest first
        self._ended: set[int] = set()
        self._children: list[Child] = []
        self._new_children: list[Child] = []

    @property
    def children(self) -> Sequence[Child]:
        """The ended children, in the order in which they ended, as a view."""
        return self._children

    def take_new_children(self) -> list[Child]:
        """Return the children that ended since the last call, in that order; at first, all."""
        new_children, self._new_children = sorted(self._new_children, key=_end), []
        return new_children

    def open_children(self) -> list[OpenChild]:
        """Return the children in training, by number."""
        found = []
        for number, attempts in sorted(self._attempts.items()):
            current = next((one for one in attempts if one.is_open), None)
            if current is not None:
                found.append(OpenChild(number, current.genotype, current.announced_s))
        return found

    def first_abandoned(self) -> int | None:
        """Return the first child that has not ended and that no worker is training."""
        abandoned = (
            number
            for number, attempts in self._attempts.items()
            if not any(one.is_open for one in attempts)
        )
        return min(abandoned, default=None)

    def ahead_of(self, number: int) -> list[OpenChild]:
        """Return the earlier children in training, and those whose worker has just died.

        Without the latter a new child would take the place of one that was begun before it.
        """
        ahead = {one.number: one for one in self.open_children() if one.number < number}
        for other, attempts in self._attempts.items():
            if other < number and other not in ahead:
                ahead[other] = OpenChild(other, attempts[0].genotype, time.time())
        return list(ahead.values())

    def own_attempt(self, trial_id: int) -> Attempt:
        """Return what is known of the child of an own trial."""
        number = self.unsettled[trial_id].number
        attempts = self._attempts.get(number, [])
        return Attempt(
            trial_id,
            number,
            tries=sum(not one.is_withdrawn for one in attempts),
            genotype=next((one.genotype for one in attempts if one.genotype is not None), None),
        )

    def is_taken(self, attempt: Attempt) -> bool:
        """Return whether the child has ended, or another worker is training it."""
        attempts = self._attempts.get(attempt.number, [])
        return attempt.number in self._ended or any(
            one.is_open and one.id != attempt.trial_id for one in attempts
        )

    def record(self, trial: Trial) -> None:
        """Take in a new trial, or a changed one; trials come by number."""
        one = self.unsettled.get(trial.id)
        if one is None:
            one = self.unsettled[trial.id] = RecordedAttempt(
                self._child_of(trial.number, trial.attributes), trial
            )
            self.last_id = max(self.last_id, trial.id)
            if one.number not in self._ended:
                self._attempts.setdefault(one.number, []).append(one)
        one.trial = trial
        if one.child is not None:
            self._record_child(Child.from_dict(one.child))
        # A worker that takes this one for dead may close a trial that this one is working on.
        if trial.state.is_finished() and trial.id not in self.own:
            del self.unsettled[trial.id]

    def _child_of(self, trial_number: int, attributes: Mapping[str, Any]) -> int:
        retry_of = attributes.get(RETRY)
        if retry_of is not None:
            self._num_retries += 1
            return int(retry_of)
        return trial_number - self._num_retries

    def _record_child(self, child: Child) -> None:
        """Keep the first outcome of a child; a worker taken for dead may store a second."""
        if child.number not in self._ended:
            self._ended.add(child.number)
            self._attempts.pop(child.number, None)
            bisect.insort(self._children, child, key=_end)
            self._new_children.append(child)


def _end(child: Child) -> tuple[float, int]:
    return child.ended_s or 0.0, child.number
