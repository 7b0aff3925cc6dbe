"""Passes the trials of an Optuna study to a proposer."""

import math
from collections.abc import Callable, Iterable
from datetime import datetime

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nascore.genotype import Genotype
from nascore.optuna_sampler.parameters import ParameterSpace
from nascore.results import Child
from nascore.search.proposer import Proposer

_MAX_SCORE = 1e30  # methods take cubes, and squares of those; a double ends at 1e308


class TrialFeed:
    """A proposer, and the trials of one study that it has received."""

    def __init__(
        self, space: ParameterSpace, make_proposer: Callable[[ParameterSpace], Proposer]
    ) -> None:
        self.space = space
        self._make_proposer = make_proposer
        self._start()

    def _start(self) -> None:
        self._proposer = self._make_proposer(self.space)
        self._received: set[int] = set()
        self._last = (datetime.min, -1)

    def suggest(
        self, number: int, trials: list[FrozenTrial], direction: StudyDirection
    ) -> Genotype:
        """Return the proposal for trial `number`, after all trials that have ended.

        Args:
            number: of the new trial.
            trials: all trials of the study.
            direction: of the study.
        """
        self._update(trials, direction)
        running = (t for t in trials if t.state == TrialState.RUNNING and t.number != number)
        tried = ((trial.number, self.space.genotype_of(trial)) for trial in running)
        return self._proposer.suggest(number, {n: g for n, g in tried if g is not None})

    def _update(self, trials: Iterable[FrozenTrial], direction: StudyDirection) -> None:
        ended = [t for t in trials if t.state.is_finished() and t.number not in self._received]
        ended.sort(key=_end_of)
        if ended and _end_of(ended[0]) < self._last:
            # Another worker's trial, or an imported one. A new sampler would receive it earlier.
            self._start()
            return self._update(trials, direction)
        for trial in ended:
            self._received.add(trial.number)
            self._last = _end_of(trial)
            genotype = self.space.genotype_of(trial)
            if genotype is not None:
                self._proposer.update(_child(trial, genotype, direction))


def _end_of(trial: FrozenTrial) -> tuple[datetime, int]:
    return trial.datetime_complete or datetime.min, trial.number


def _child(trial: FrozenTrial, genotype: Genotype, direction: StudyDirection) -> Child:
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if value is None or not math.isfinite(value):
        reason = f"{trial.state.name.lower()}, {value}"
        return Child(number=trial.number, genotype=genotype, failure=reason, status="failed")
    score = _score(value if direction == StudyDirection.MAXIMIZE else -value)
    return Child(number=trial.number, genotype=genotype, objective=score)


def _score(value: float) -> float:
    """Return the value, or beyond what can be cubed and squared one that grows logarithmically.

    Methods use ranks or standardised values, so any unit is suitable.
    """
    size = abs(value)
    if size > _MAX_SCORE:
        return math.copysign(_MAX_SCORE * (1 + math.log10(size / _MAX_SCORE)), value)
    return value
