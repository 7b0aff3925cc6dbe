"""The tasks of a run, read from what KFP lists: the nodes of its Argo workflow.

For one task `search` the list holds `search-driver`, `search` and, below it, `executor`; where the
cluster retries every template (as KFP 2.17 does) also `search-driver(0)`, `search(0)` and
`executor(0)`, one for each try. Loops, conditions and exit handlers are nodes, too. Nothing says
which node is below which: a node has no parent and no id, only the ids of what it leads to. But
such an id is a hash of the node's full name, so the names can be found by trying.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

OMITTED = "OMITTED"
"""State of a task that will not run, since one before it has failed; KFP sends none for it."""
NO_TIME = ("0001", "1970")
"""Years with which a time begins that stands for none."""

_TRY = re.compile(r"\(\d+\)$")
_EXPANSION = re.compile(r"\([^()]*\)$")
_TRIES = re.compile(r"\((\d+)\)")
_STRUCTURE = re.compile(
    r"(root|executor|iteration-(item|iterations)"
    r"|(for-loop|condition|condition-branches|exit-handler)-\d+(\.onExit)?)$"
)
_DRIVER = "-driver"
_FNV_START, _FNV_PRIME = 0x811C9DC5, 0x01000193
# Templates of the pods of steps with and without retries, in KFP's compiler for Argo.
_TEMPLATES = ("retry-system-container-impl", "system-container-impl")


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the pipeline's author knows it.

    Attributes:
        name: as in the pipeline; the iterations of a loop bear one name.
        state: a state of KFP, or `OMITTED`.
        start, end: as KFP writes times; empty when there is none.
        nodes: ids of the nodes whose pods did the work, one for each try, the last one last; empty
            when there was none, or its id cannot be found out.
    """

    name: str
    state: str
    start: str = ""
    end: str = ""
    nodes: tuple[str, ...] = ()


def tasks_of(run: Mapping[str, Any]) -> list[Task]:
    """Return the tasks in the order of their start, each once, with its last state."""
    listed = list((run.get("run_details") or {}).get("task_details") or [])
    names = _full_names(listed)
    workflow = next(iter(names), "")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    placeless = []
    for node in listed:
        shown = _without_expansions(node.get("display_name") or "")
        if not shown or shown == workflow or _STRUCTURE.match(shown):
            continue
        place = _place(node, names)
        if place is None:
            placeless.append(node)
        else:
            groups.setdefault(place, []).append(node)
    for node in placeless:
        groups.setdefault(_likely_place(node, names, groups), []).append(node)
    found = [_task(place, nodes, names) for place, nodes in groups.items()]
    return sorted(_with_failed_drivers(found), key=lambda task: task.start or "9")


def failed(tasks: list[Task]) -> list[Task]:
    """Return the tasks that have failed; no task of ours holds another."""
    return [task for task in tasks if task.state == "FAILED"]


def pods_of(node: str) -> list[str]:
    """Return what the pod of a node may be called; the node's id last, as old Argo named pods."""
    workflow, _, number = node.rpartition("-")
    return [*(f"{workflow}-{template}-{number}" for template in _TEMPLATES), node]


# --- names ----------------------------------------------------------------------------------


def _full_names(listed: list[Mapping[str, Any]]) -> dict[str, str]:
    """Map the full names of all nodes that another one leads to, and the workflow's, to ids."""
    ids = {child for node in listed for child in _children(node)}
    if not ids:
        return {}
    workflow = min(ids).rpartition("-")[0]
    shown = {str(node.get("display_name") or "") for node in listed} - {workflow, ""}
    suffixes = {match.group() for name in shown if (match := _EXPANSION.search(name))}
    suffixes |= {"(0)"}
    parts = {f".{_without_expansions(name)}" for name in shown}
    names, wanted = {workflow: workflow}, [(workflow, _hash(workflow))]
    while wanted:
        above, state = wanted.pop()
        for part in suffixes | parts:
            name, number = above + part, _hash(part, state)
            if f"{workflow}-{number}" in ids and name not in names:
                names[name] = f"{workflow}-{number}"
                wanted.append((name, number))
    return names


def _hash(text: str, start: int = _FNV_START) -> int:
    """FNV-1a of 32 bits, which goes on from the hash of what stands before."""
    for byte in text.encode():
        start = ((start ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return start


def _place(node: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """Return where a node is: its full name without the numbers of tries.

    A node that leads to nothing below it tells no place: a pod, or a task that does not run.
    """
    shown, children = str(node["display_name"]), set(_children(node))
    for name in names:
        if not name.endswith(f".{shown}"):
            continue
        below = (inner for inner in names if inner.startswith((f"{name}(", f"{name}.")))
        if any(names[inner] in children for inner in below):
            return _without_tries(name)
    return None


def _likely_place(
    node: Mapping[str, Any], names: Mapping[str, str], taken: Mapping[str, object]
) -> str:
    """Return a place of that name that no node has yet, or the only one, or just the name."""
    shown = _without_tries(str(node["display_name"]))
    places = {_without_tries(name) for name in names}
    places = {place for place in places if place.endswith(f".{shown}")}
    free = sorted(places - taken.keys())
    if free:
        return free[0]
    return places.pop() if len(places) == 1 else shown


def _children(node: Mapping[str, Any]) -> list[str]:
    return [child["pod_name"] for child in node.get("child_tasks") or [] if "pod_name" in child]


def _without_tries(name: str) -> str:
    """Remove `(0)`, but not the `(0:0)` of an iteration."""
    return _TRIES.sub("", name)


def _without_expansions(name: str) -> str:
    while _EXPANSION.search(name):
        name = _EXPANSION.sub("", name)
    return name


# --- tasks ----------------------------------------------------------------------------------


def _task(place: str, nodes: list[Mapping[str, Any]], names: Mapping[str, str]) -> Task:
    """Make one task of its nodes: the one that holds all tries says the state."""
    whole = [node for node in nodes if not _TRY.search(node["display_name"])] or nodes
    last = max(whole, key=lambda node: _start(node) or "9")
    return Task(
        name=place.rpartition(".")[2],
        state=str(last.get("state") or OMITTED),
        start=_start(last),
        end=_time(last.get("end_time")),
        nodes=tuple(names[name] for name in _executors(place, names)),
    )


def _executors(place: str, names: Mapping[str, str]) -> list[str]:
    """Return the full names of the pods that did the work of a task, in the order of tries."""
    inner = f"{place}.executor"
    tries = [name for name in names if _without_tries(name) == inner]
    pods = [name for name in tries if f"{name}(0)" not in names]  # else it holds the tries
    return sorted(pods, key=lambda name: [int(number) for number in _TRIES.findall(name)])


def _with_failed_drivers(found: list[Task]) -> Iterator[Task]:
    """Leave drivers out, but for those that have failed: their task did not start then."""
    tasks = [task for task in found if not task.name.endswith(_DRIVER)]
    drivers = [task for task in found if task.name.endswith(_DRIVER) and task.state == "FAILED"]
    stopped = {driver.name.removesuffix(_DRIVER): driver for driver in drivers}
    for task in tasks:
        driver = stopped.pop(task.name, None) if task.state == OMITTED else None
        yield task if driver is None else replace(driver, name=task.name)
    yield from stopped.values()


def _start(node: Mapping[str, Any]) -> str:
    return _time(node.get("start_time")) or _time(node.get("create_time"))


def _time(text: Any) -> str:
    return "" if not text or str(text).startswith(NO_TIME) else str(text)
