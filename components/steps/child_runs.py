"""MLflow runs of children, nested below that of the search, and found by parameters and metrics.

A run costs the follower some 0.05 s. So the best children have one, and those whose training took
so long that this is less than a percent of it; the table of children has all.
"""

from typing import Literal

from components.steps.runtime import Step
from components.tracking import TrackedRun, lineage
from nascore.results import Arm, Child, SearchResult, Status
from nascore.spaces.base import make_space

_NUM_BEST = 3
_MIN_S = 10.0
_MAX_RUNS = 200
"""Runs of one search; thousands would slow down the UI."""
_PREFIXES = {"method": "child", "control": "control"}

_STATUSES: dict[Status, Literal["FINISHED", "FAILED", "KILLED"]] = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "pruned": "KILLED",
    "rejected": "KILLED",
}


class ChildRuns:
    """Logs children of a search while it goes on, and at its end."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._space = make_space(step.config.search.space)
        self._source = lineage.of_source(step.name)
        self._logged: set[str] = set()

    def on_child(self, arm: str, child: Child) -> None:
        """Log a child that this process has trained, where its training took long."""
        if self._is_long(child):
            self._log(arm, child, is_of_here=True)

    def finish(self, result: SearchResult) -> None:
        """Log what is missing, children of other workers included, and mark the best.

        Args:
            result: of the search.
        """
        for arm, children in (("method", result.arm), ("control", result.control)):
            for child in () if children is None else children.children:
                if self._is_long(child):
                    self._log(arm, child, is_of_here=False)
        for rank, child in enumerate(_best(result.arm), start=1):
            self._log("method", child, is_of_here=False, is_best=True)
            TrackedRun(self._step.tracker, self._key("method", child)).tags({"nas.rank": str(rank)})

    def _is_long(self, child: Child) -> bool:
        return child.duration_s is not None and child.duration_s >= _MIN_S

    def _key(self, arm: str, child: Child) -> str:
        return f"{self._step.run_key}.search.{_PREFIXES[arm]}-{child.number}"

    def _log(self, arm: str, child: Child, *, is_of_here: bool, is_best: bool = False) -> None:
        key = self._key(arm, child)
        if key in self._logged or (len(self._logged) >= _MAX_RUNS and not is_best):
            return
        self._logged.add(key)
        seconds = None
        if child.started_s is not None and child.ended_s is not None:
            seconds = (child.started_s, child.ended_s)
        failure = {"nas.failure": child.failure} if child.failure else {}
        self._step.tracker.ended_run(
            key,
            name=f"{_PREFIXES[arm]} {child.number}",
            parent=f"{self._step.run_key}.search",
            params={
                "arm": arm,
                "number": child.number,
                "architecture": self._space.describe(child.genotype),
                "genotype": child.genotype.short_hash,
            },
            metrics=self._metrics(child),
            tags=lineage.of_genotype(child.genotype) | self._source | failure,
            seconds=seconds,
            has_samples=is_of_here,
            status=_STATUSES[child.status],
        )

    def _metrics(self, child: Child) -> dict[str, float]:
        objective = self._step.config.search.objective
        scores = {} if child.scores is None else child.scores.named(objective)
        measured = scores | {"num_steps": child.num_steps, "duration_s": child.duration_s}
        return {name: float(value) for name, value in measured.items() if value is not None}


def _best(arm: Arm) -> list[Child]:
    done = [child for child in arm.children if child.scores is not None]
    return sorted(done, key=lambda child: (-(child.score or 0), child.number))[:_NUM_BEST]
