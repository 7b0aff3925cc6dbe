"""Incremental reading of a step's log by KFP's API, which can neither skip nor follow."""

from nascore.errors import InputError
from nascore.redaction import redact
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.run_origin import Origin, known_origin
from pipelines.kubeflow.status.pod_signs import expected_node
from pipelines.kubeflow.status.run_end import failure_of
from pipelines.kubeflow.status.run_state import State
from pipelines.kubeflow.status.run_view import TaskView
from pipelines.kubeflow.status.signs import observe
from pipelines.kubeflow.status.step_log import OwnLines, PodLog
from pipelines.kubeflow.status.task_nodes import TaskList, pods_of

_MB = 10**6
_BY_DEFAULT: tuple[State, ...] = ("failed", "running")
_NOT_RUN: tuple[State, ...] = ("skipped", "not-reached")


class LogReader:
    """Unread part of the log of one step of a run.

    Attributes:
        has_log: whether the last read found a log.
        why_not: why it found none.
        is_new_try: whether the last read was the first of the pod of another try.
        left_out: size of a log of which only the end could be read; else empty.
    """

    def __init__(self, cluster: Cluster, run_id: str, *, raw: bool) -> None:
        self._cluster = cluster
        self._run_id = run_id
        self._raw = raw
        self._run: JsonObject = {}
        self._origin: Origin | None = None
        self._listed, self._tasks = TaskList(), tuple[TaskView, ...]()
        self._node: str | None = None
        self._size, self._part = 0, ""
        self._filter = OwnLines()
        self.has_log = self.is_new_try = False
        self.why_not, self.left_out = "", ""

    @property
    def pause_s(self) -> float:
        """Seconds until the next read, which transfers the whole log again."""
        return self._size / _MB

    def choose(self, step: str | None) -> TaskView:
        """Read the state of the run and return a task: the named one, or the most relevant one.

        Raises:
            InputError: there is no such task, or no task at all.
            ClusterError: the server does not answer.
        """
        self._run = self._cluster.run(self._run_id)
        self._origin = self._origin or known_origin(self._cluster, self._run)
        observed = observe(self._cluster, self._run, self._origin)
        self._listed, self._tasks = observed.listed, observed.tasks
        return self._first() if step is None else self._named(step)

    def new_lines(self, task: TaskView) -> list[str]:
        """Return the lines that the pod of a task has written since the last read.

        Raises:
            ClusterError: the server does not answer.
        """
        node = expected_node(self._listed, task, self._tasks)
        self.is_new_try, self.has_log, self.left_out = node != self._node, False, ""
        if self.is_new_try:
            self._node, self._size, self._part, self._filter = node, 0, "", OwnLines()
        self.why_not = f"it is {task.state}"
        for pod in pods_of(node) if node is not None else ():
            text, size = self._cluster.log_from(self._run_id, pod, self._size)
            log = PodLog.of(text)
            self.why_not = log.error.rpartition(": ")[2] or self.why_not
            if log.text or (self._size and not log.error):
                self.has_log = True
                read = len(text.encode())
                if size - self._size > read > 0:
                    self.left_out = f"{size / _MB:.1f} MB"
                self._size = size
                return self._lines(log.text)
        return []

    def rest(self) -> list[str]:
        """Return the last line if it has no line break."""
        rest, self._part = self._part, ""
        return self._own([rest]) if rest else []

    def no_log(self, task: TaskView) -> str:
        """Return the message for a task without a log, with what to do."""
        if task.state in _NOT_RUN:
            return f"{task.name} has no log: it did not run ({task.state})."
        if self._node is None or (task.state == "pending" and not task.tries):
            return f"{task.name} has no log yet: it has not started; see nas status {self._run_id}"
        lines = [f"Kubeflow has no log of {task.name} ({self.why_not})."]
        if task.state == "failed" and task.task is not None:
            failure = failure_of(self._cluster, self._run, task.task, self._origin)
            lines.append(f"It failed: {failure.cause}")
        pod = pods_of(self._node)[0]
        return "\n".join(
            [
                *lines,
                "Kubeflow keeps logs that Argo has archived, and others as long as the pod exists:",
                f"  kubectl logs -n {self._cluster.pods_namespace()} {pod} -c main",
            ]
        )

    def _lines(self, text: str) -> list[str]:
        *lines, self._part = f"{self._part}{text}".split("\n")
        return self._own(lines)

    def _own(self, lines: list[str]) -> list[str]:
        own = [line for line in lines if self._filter.is_own(line) or self._raw]
        return [redact(self._cluster.connection.hide(line)) for line in own]

    def _first(self) -> TaskView:
        """Return the first task that failed, else the first that runs, else the last that ended."""
        for state in _BY_DEFAULT:
            for task in self._tasks:
                if task.state == state:
                    return task
        ended = [task for task in self._tasks if task.started_at is not None]
        if ended:
            return max(ended, key=lambda task: task.started_at or "")
        if not self._tasks:
            message = f"Kubeflow has no tasks of it yet; see nas status {self._run_id}"
            raise InputError.of("RUN", self._run_id, message)
        return self._tasks[0]

    def _named(self, step: str) -> TaskView:
        name = step.replace("_", "-")
        found = [task for task in self._tasks if task.name == name]
        found = found or [task for task in self._tasks if task.name.partition("[")[0] == name]
        if len(found) == 1:
            return found[0]
        names = ", ".join(task.name for task in found or self._tasks)
        what = "is several tasks" if found else "is no task of this run"
        raise InputError.of("STEP", step, f"{what}; give one of {names or '(it has none yet)'}")
