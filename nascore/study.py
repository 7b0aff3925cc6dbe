"""The children of a search, kept in an Optuna study: the only state a search has.

A child is a trial. Its genotype is written before the training starts and its scores before the
trial is closed, each in one transaction, so a process may die anywhere: a child whose scores are
there is finished and never trained twice, one without is trained again under the same number.
"""

import time
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.results import Child, ChildScores

VERSION = 1


class Study:
    """One arm of a search in an Optuna storage.

    Args:
        url: any URL of SQLAlchemy, such as `sqlite:///FILE`; None keeps the study in memory.
        name: of the study; arms of one search differ in it.
        identity: what the children depend on (method, space, seed, training); a study that was
            made with another identity is refused.

    Raises:
        InputError: the study belongs to another search.
    """

    def __init__(self, url: str | None, name: str, identity: dict[str, Any]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=url, study_name=name, direction="maximize", load_if_exists=True
        )
        self.method = str(identity["method"])
        identity = {"version": VERSION, **identity}
        found = self._study.user_attrs.get("identity")
        if found is None:
            self._study.set_user_attr("identity", identity)
        elif found != identity:
            different = sorted(
                key for key in identity.keys() | found.keys() if found.get(key) != identity.get(key)
            )
            raise InputError.of(
                "study",
                name,
                f"was made by another search: {', '.join(different)} differ "
                f"({', '.join(f'{k} was {found.get(k)!r}' for k in different)}); "
                "use another output folder or the old configuration",
            )
        self._unfinished = [
            trial.number for trial in self._study.get_trials(False, (TrialState.RUNNING,))
        ]

    def start(self) -> int:
        """The number of the next child: one that was left unfinished, or a new one."""
        if self._unfinished:
            return self._unfinished.pop(0)
        return self._study.ask().number

    def finish(self, child: Child) -> None:
        """Writes the end of a child; doing it twice changes nothing."""
        if self._trial(child.number).state.is_finished():
            return
        self._set(child.number, "child", child.to_dict())
        if child.scores is None:
            self._study.tell(child.number, state=TrialState.FAIL)
        else:
            self._study.tell(child.number, child.scores.valid_accuracy)

    def propose(self, number: int, genotype: Genotype) -> float:
        """Writes what child `number` is, before it is trained; returns the time, in seconds."""
        started_s = time.time()
        self._set(number, "genotype", genotype.to_dict())
        return started_s

    def children(self) -> list[Child]:
        """All ended children, by number; closes those whose scores came before their end."""
        children = []
        for trial in self._study.get_trials(deepcopy=False):
            if "child" not in trial.user_attrs:
                continue
            child = Child.from_dict(trial.user_attrs["child"])
            if not trial.state.is_finished():
                self.finish(child)
                self._unfinished = [n for n in self._unfinished if n != child.number]
            children.append(child)
        return children

    def _trial(self, number: int) -> FrozenTrial:
        storage = self._study._storage
        return storage.get_trial(
            storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        )

    def _set(self, number: int, key: str, value: Any) -> None:
        storage = self._study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        storage.set_trial_user_attr(trial_id, key, value)


def failed(number: int, genotype: Genotype, reason: str, started_s: float) -> Child:
    return Child(number, genotype, None, failure=reason, started_s=started_s)


def finished(number: int, genotype: Genotype, scores: ChildScores, started_s: float) -> Child:
    return Child(number, genotype, scores, started_s=started_s)
