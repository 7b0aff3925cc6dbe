"""Watching a run on Kubeflow: each change of a task is printed once, a lost run is detected."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pipelines.kubeflow import clock
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.run_origin import Origin, known_origin
from pipelines.kubeflow.status.pipeline_tasks import planned
from pipelines.kubeflow.status.run_state import is_ended, state_of
from pipelines.kubeflow.status.run_status import LOST, waiting_pods
from pipelines.kubeflow.status.run_text import change
from pipelines.kubeflow.status.run_view import task_views
from pipelines.kubeflow.status.signs import RunSigns, look_for_signs, with_signs
from pipelines.kubeflow.status.task_nodes import read

_SIGNS_EVERY = timedelta(minutes=1)

Say = Callable[[str], None]
"""Prints a line."""


class Watch:
    """Prints the changes of a run, and remembers what it has printed."""

    def __init__(self, cluster: Cluster, say: Say) -> None:
        self._cluster = cluster
        self._say = say
        self._said: dict[str, str] = {}
        self._origin: Origin | None = None
        self._signs, self._asked = RunSigns(), datetime.min.replace(tzinfo=UTC)
        self._changed = ""
        self._notes: set[str] = set()

    def look(self, run: JsonObject) -> str | None:
        """Print what has changed since the last call.

        Returns:
            Evidence that nothing of the run is left although Kubeflow shows it as running, or None.

        Raises:
            ClusterError: the server does not answer.
        """
        now = clock.now()
        self._origin = self._origin or known_origin(self._cluster, run)
        listed = read(run)
        tasks = task_views(run, listed, planned(self._origin.pipeline), now=now)
        is_news = listed.changed != self._changed or is_ended(run)
        if is_news or now - self._asked > _SIGNS_EVERY:
            self._signs = look_for_signs(self._cluster, run, listed, tasks, self._origin, now)
            self._asked, self._changed = now, listed.changed
        if not is_ended(run) and state_of(run) == "CANCELING":
            self._note("canceling", "the run is being cancelled", now)
        if self._signs.stale_since is not None and not is_ended(run):
            since = f"Kubeflow's list of tasks has not changed since {self._signs.stale_since}"
            self._note("stale", f"{since}, although the run continues; {self._signs.note}", now)
        for name, text in waiting_pods(tasks, now):
            self._note(text, f"{name:<24} {text}", now)
        for task in with_signs(tasks, self._signs):
            shown = change(task)
            has_begun = task.state not in ("pending", "not-reached")
            if has_begun and self._said.get(task.name) != shown:
                self._said[task.name] = shown
                self._say(f"{now:%H:%M:%S}  {task.name:<24} {shown}")
        is_lost = self._signs.is_lost and not is_ended(run)
        return LOST.format(since=listed.changed) if is_lost else None

    def _note(self, kind: str, text: str, now: datetime) -> None:
        if kind not in self._notes:
            self._notes.add(kind)
            self._say(f"{now:%H:%M:%S}  {text}")
