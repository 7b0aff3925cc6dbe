"""Tasks of a run, read from KFP's list of the nodes of its Argo workflow.

For a task `search` the list has `search-driver`, `search` and, below it, `executor`; if the cluster
retries every template, as KFP 2.17 does, also `search-driver(0)`, `search(0)` and `executor(0)` for
each try. Loops, conditions and exit handlers are nodes too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.kubeflow.status.node_names import (
    Node,
    children_of,
    full_names,
    is_try,
    items_in,
    shown_name,
    tries_in,
    without_tries,
)
from pipelines.kubeflow.status.node_places import (
    DRIVER,
    Places,
    depths_of,
    is_structure,
    rounds_of,
    start_of,
    time_of,
)

OMITTED = "OMITTED"
"""State of a task that will not run since an earlier one failed; KFP sends no state for it."""
_WORKING = ("RUNNING", "PENDING")
_LATEST = "9"  # after every time
# Templates of the pods of steps with and without retries, in KFP's compiler for Argo.
_TEMPLATES = ("retry-system-container-impl", "system-container-impl")


@dataclass(frozen=True, slots=True)
class Task:
    """Task of a pipeline in a run.

    Attributes:
        name: name in the pipeline; an iteration of a loop has its number, as in `worker[0]`.
        state: state of KFP, or `OMITTED`. A task that will run again, since the group around it is
            tried again, is PENDING.
        start: start of its first try, as KFP writes times; empty if there is none.
        end: end of its last try.
        nodes: ids of the nodes whose pods did the work, one for each try in order; empty if there
            was none, or its id cannot be determined.
        place: full name of its node without the numbers of tries.
        waits_since: since when its pod has been waiting to start; empty if it is not.
    """

    name: str
    state: str
    start: str = ""
    end: str = ""
    nodes: tuple[str, ...] = ()
    place: str = ""
    waits_since: str = ""

    @property
    def base(self) -> str:
        """Name without the number of an iteration."""
        return self.name.partition("[")[0]

    def up_to(self, tries: int) -> "Task":
        """Return the state of the task after that number of tries."""
        return replace(self, nodes=self.nodes[:tries])


@dataclass(frozen=True, slots=True)
class TaskList:
    """KFP's list of the tasks of a run.

    Attributes:
        tasks: tasks in the order of their start, then of the pipeline.
        groups: states of conditions, loops and exit handlers by name.
        workflow: name of the Argo workflow; empty if nothing is listed.
        names: ids of nodes by their full names.
        changed: last change of a state in the list; empty if nothing is listed.
        is_working: whether the pod of a task runs or waits to start; drivers take seconds.
        is_waiting: whether a pod waits to start.
        is_going_on: whether the workflow had not ended at the last change of the list.
    """

    tasks: tuple[Task, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    workflow: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    changed: str = ""
    is_working: bool = False
    is_waiting: bool = False
    is_going_on: bool = False


def read(run: Mapping[str, Any]) -> TaskList:
    """Return KFP's list of a run, each task once with its last state."""
    details = (run.get("run_details") or {}).get("task_details") or []
    listed = [node for node in details if shown_name(node)]
    names = full_names(listed)
    workflow = next(iter(names), "")
    places = Places(listed, names, workflow)
    rounds = rounds_of(places)
    found = [
        _waiting(_task(place, nodes, names, rounds), listed, names)
        for place, nodes in places.of_tasks.items()
    ]
    depths = depths_of(places, names)
    found.sort(key=lambda task: _order(task, depths))
    whole = [node for node in listed if shown_name(node) == workflow]
    leaves = [node for node in listed if not children_of(node)]
    return TaskList(
        tasks=tuple(_with_drivers(found)),
        groups={name: str(_newest(nodes).get("state")) for name, nodes in places.of_groups.items()},
        workflow=workflow,
        names=names,
        changed=max(_changes(listed), default=""),
        is_working=any(
            node.get("state") in _WORKING
            for node in leaves
            if without_tries(shown_name(node)) == "executor"
        ),
        is_waiting=any(node.get("state") == "PENDING" for node in leaves),
        is_going_on=any(node.get("state") in _WORKING for node in whole),
    )


def failed(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks that have failed; no task of this project contains another."""
    return [task for task in tasks if task.state == "FAILED"]


def pods_of(node: str) -> list[str]:
    """Return possible names of the pod of a node; the node's id last, as old Argo named pods."""
    workflow, _, number = node.rpartition("-")
    return [*(f"{workflow}-{template}-{number}" for template in _TEMPLATES), node]


# --- tasks ----------------------------------------------------------------------------------


def _task(
    place: str, nodes: list[Node], names: Mapping[str, str], rounds: list[tuple[str, str]]
) -> Task:
    """Make one task of its nodes; the newest that contains all tries has the state."""
    last = _newest(nodes)
    state, start, end = (
        str(last.get("state") or OMITTED),
        start_of(last),
        time_of(last.get("end_time")),
    )
    later = [began for above, began in rounds if place.startswith(f"{above}.")]
    if end and any(start < began or (state == OMITTED and start == began) for began in later):
        state, end = "PENDING", ""
    starts = [start_of(node) for node in nodes if node.get("state")]
    items = "".join(f"[{number}]" for number in items_in(place))
    return Task(
        name=place.rpartition(".")[2] + items,
        state=state,
        start=min(starts, default=""),
        end=end if state != OMITTED else "",
        nodes=tuple(names[name] for name in _executors(place, names)),
        place=place,
    )


def _newest(nodes: Sequence[Node]) -> Node:
    whole = [node for node in nodes if not is_try(shown_name(node))] or nodes
    return max(whole, key=lambda node: start_of(node) or _LATEST)


def _executors(place: str, names: Mapping[str, str]) -> list[str]:
    """Return the full names of the pods that did the work of a task, in the order of the tries."""
    inner = f"{place}.executor"
    tries = [name for name in names if without_tries(name) == inner]
    pods = [name for name in tries if f"{name}(0)" not in names]  # else it contains the tries
    return sorted(pods, key=tries_in)


def _waiting(task: Task, listed: Sequence[Node], names: Mapping[str, str]) -> Task:
    """Add since when the pod of a task has been waiting, unless it may be that of another task."""
    if task.state not in _WORKING:
        return task
    leaves = [node for node in listed if not children_of(node)]
    if task.place.endswith(DRIVER):
        own = [node for node in leaves if without_tries(shown_name(node)) == task.base]
        waiting = [node for node in own if node.get("state") == "PENDING"]
    else:
        executors = _executors(task.place, names)
        last = executors[-1].rpartition(".")[2] if executors else "executor"
        waiting = [
            node
            for node in leaves
            if shown_name(node) == last
            and node.get("state") == "PENDING"
            and start_of(node) >= task.start
        ]
    return replace(task, waits_since=start_of(waiting[0])) if len(waiting) == 1 else task


def _with_drivers(found: list[Task]) -> Iterator[Task]:
    """Leave out drivers, except those whose task has not started.

    A task is PENDING while its driver works, and has failed if the driver has.
    """
    tasks = [task for task in found if not task.base.endswith(DRIVER)]
    drivers = {task.name.replace(DRIVER, ""): task for task in found if task.base.endswith(DRIVER)}
    for task in tasks:
        driver = drivers.pop(task.name, None)
        if driver is not None and driver.state == "FAILED" and task.state == OMITTED:
            task = replace(driver, name=task.name, place=task.place)
        yield task
    for name, driver in drivers.items():
        is_group = is_structure(driver.base.removesuffix(DRIVER))
        if driver.state == "FAILED":
            yield driver if is_group else replace(driver, name=name)
        elif driver.state in _WORKING and not is_group:
            place = driver.place.removesuffix(DRIVER)
            yield replace(driver, name=name, place=place, state="PENDING", start="", end="")


# --- order and times ------------------------------------------------------------------------


def _order(task: Task, depths: Mapping[str, int]) -> tuple[bool, str, int, list[int], str]:
    started = "" if task.state == OMITTED else task.start
    place = task.place.removesuffix(DRIVER)
    is_exit = ".onExit" in task.place
    return is_exit, started or _LATEST, depths.get(place, 0), items_in(place), place


def _changes(listed: Sequence[Node]) -> Iterator[str]:
    for node in listed:
        for change in node.get("state_history") or []:
            yield time_of(change.get("update_time"))
