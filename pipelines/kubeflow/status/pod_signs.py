"""States of tasks read from the logs of their pods, where KFP's list of tasks is stale."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from components.ending import End
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.status.node_names import node_id
from pipelines.kubeflow.status.node_places import parse_time
from pipelines.kubeflow.status.run_state import State
from pipelines.kubeflow.status.run_view import TaskView
from pipelines.kubeflow.status.step_log import PodLog
from pipelines.kubeflow.status.task_nodes import TaskList, pods_of

_UPDATE = timedelta(minutes=1)  # between the end of a pod and the change in KFP's list
_ARGO_TIME = re.compile(r"^time=(\S+) .*argo=true", re.MULTILINE)


def log_of(cluster: Cluster, run_id: str, node: str) -> PodLog:
    """Return the log of a node's pod, under the newest pod name that has a log.

    Raises:
        ClusterError: the server does not answer.
    """
    log = PodLog("")
    for pod in pods_of(node):
        log = PodLog.of(cluster.log(run_id, pod))
        if log.text:
            return log
    return log


def expected_node(listed: TaskList, task: TaskView, tasks: Sequence[TaskView]) -> str | None:
    """Return the id of the node that does the work of a task, even before KFP has listed it."""
    if task.task is not None and task.task.nodes:
        return task.task.nodes[-1]
    for other in tasks:
        if other.task is None or not other.task.nodes or other.groups != task.groups:
            continue
        parent = other.task.place.rpartition(".")[0]
        if task.task is not None and task.task.place.rpartition(".")[0] != parent:
            continue
        ids = {number: name for name, number in listed.names.items()}
        above, _, below = ids[other.task.nodes[0]].rpartition(f".{other.task.base}")
        base = task.name.partition("[")[0]
        return node_id(listed.workflow, f"{above}.{base}{below}")
    return None


def pod_states(
    cluster: Cluster,
    run: JsonObject,
    listed: TaskList,
    tasks: Sequence[TaskView],
    now: datetime,
    *,
    all_tasks: bool,
) -> Iterator[tuple[str, State]]:
    """Yield the states of tasks according to the logs of their pods, in the order of the tasks.

    Args:
        all_tasks: include tasks that have not started according to KFP's list.
    """
    for task in tasks:
        has_pod = task.task is not None and bool(task.task.nodes)
        is_open = has_pod and task.task is not None and task.task.state in ("RUNNING", "PENDING")
        if not is_open and (has_pod or not all_tasks or task.state == "skipped"):
            continue
        node = None if "[" in task.name and not has_pod else expected_node(listed, task, tasks)
        log = PodLog("") if node is None else log_of(cluster, run["run_id"], node)
        state = _state_in(log, listed, now)
        if state is not None:
            yield task.name, state
        elif not has_pod:
            return  # later tasks have not started either


def _state_in(log: PodLog, listed: TaskList, now: datetime) -> State | None:
    if not log.text:
        return None
    times = [parse_time(text) for text in _ARGO_TIME.findall(log.text)]
    last = max((time for time in times if time is not None), default=None)
    changed = parse_time(listed.changed)
    if last is not None and (now - last < _UPDATE or (changed and last < changed - _UPDATE)):
        return "running"  # its end would not be in the list yet, or would be in it
    if log.has_succeeded:
        return "succeeded"
    if End.parse_last(log.text) is not None or log.launcher_error:
        return "failed"
    return "running"
