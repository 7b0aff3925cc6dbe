"""Tasks of a compiled pipeline, in its order."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NUMBERS = re.compile(r"\d+|\D+")
_EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass(frozen=True, slots=True)
class PipelineTask:
    """A task of a pipeline.

    Attributes:
        name: name in the pipeline.
        groups: names of the exit handlers, conditions and loops around it, the outermost first.
        items: number of iterations of the loop around it; None outside loops, and if only the run
            itself knows it.
        is_exit: whether it runs at the end, however the other tasks ended.
    """

    name: str
    groups: tuple[str, ...] = ()
    items: int | None = None
    is_exit: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks that are known beforehand: one, or one for each iteration."""
        if self.items is None:
            return (self.name,)
        return tuple(f"{self.name}[{number}]" for number in range(self.items))


def planned(pipeline: Mapping[str, Any]) -> list[PipelineTask]:
    """Return the tasks of a compiled pipeline in the form of a request; empty if it has none."""
    spec = pipeline.get("pipeline_spec") or pipeline
    root = (spec.get("root") or {}).get("dag") or {}
    return list(_tasks(root, spec.get("components") or {}, (), None))


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts `worker-2` before `worker-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.findall(name)]


def depths(before: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Return the length of the longest chain of names before each name; cycles are cut."""
    found: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in found:
            found[name] = 0  # ends the recursion in a cycle
            found[name] = 1 + max((depth(each) for each in before.get(name, ())), default=-1)
        return found[name]

    for name in before:
        depth(name)
    return found


def _tasks(
    dag: Mapping[str, Any],
    components: Mapping[str, Any],
    groups: tuple[str, ...],
    items: int | None,
) -> Iterator[PipelineTask]:
    """Yield the tasks of a DAG and of the DAGs inside it, each after its dependencies."""
    tasks = dag.get("tasks") or {}
    inner = {
        name: components.get(str((task.get("componentRef") or {}).get("name"))) or {}
        for name, task in tasks.items()
    }
    order = depths({name: task.get("dependentTasks") or () for name, task in tasks.items()})
    for name in sorted(tasks, key=lambda name: (order[name], "dag" in inner[name], natural(name))):
        task = tasks[name]
        if "dag" in inner[name]:
            count = _count(task, items)
            yield from _tasks(inner[name]["dag"], components, (*groups, name), count)
        else:
            strategy = (task.get("triggerPolicy") or {}).get("strategy")
            yield PipelineTask(name, groups, items, is_exit=strategy == _EXIT)


def _count(task: Mapping[str, Any], outer: int | None) -> int | None:
    """Return the number of iterations of a loop, if the pipeline states its items."""
    iterator = task.get("parameterIterator")
    if iterator is None:
        return outer
    try:
        found = json.loads((iterator.get("items") or {})["raw"])
    except (KeyError, ValueError):
        return None
    return len(found) if isinstance(found, list) and outer is None else None
