"""The tasks of a compiled pipeline, in its order."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NUMBERS = re.compile(r"\d+|\D+")
_EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass(frozen=True, slots=True)
class Planned:
    """A task that a pipeline has.

    Attributes:
        name: as in the pipeline.
        groups: names of the exit handlers, conditions and loops that hold it, the outermost first.
        items: how often it runs for a loop that holds it; None outside loops, and where only the
            run itself knows.
        is_exit: whether it runs at the end, however the others ended.
    """

    name: str
    groups: tuple[str, ...] = ()
    items: int | None = None
    is_exit: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is known beforehand to run: one, or one for each iteration."""
        if self.items is None:
            return (self.name,)
        return tuple(f"{self.name}[{number}]" for number in range(self.items))


def planned(pipeline: Mapping[str, Any]) -> list[Planned]:
    """Return the tasks of a compiled pipeline, as a request holds it; empty when it holds none."""
    spec = pipeline.get("pipeline_spec") or pipeline
    root = (spec.get("root") or {}).get("dag") or {}
    return list(_tasks(root, spec.get("components") or {}, (), None))


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which `worker-2` sorts before `worker-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.findall(name)]


def _tasks(
    dag: Mapping[str, Any],
    components: Mapping[str, Any],
    groups: tuple[str, ...],
    items: int | None,
) -> Iterator[Planned]:
    """Yield the tasks of a DAG and of those within it, each after what it depends on."""
    tasks = dag.get("tasks") or {}
    inner = {
        name: components.get(str((task.get("componentRef") or {}).get("name"))) or {}
        for name, task in tasks.items()
    }
    depths = _depths(tasks)
    for name in sorted(tasks, key=lambda name: (depths[name], "dag" in inner[name], natural(name))):
        task = tasks[name]
        if "dag" in inner[name]:
            count = _count(task, items)
            yield from _tasks(inner[name]["dag"], components, (*groups, name), count)
        else:
            strategy = (task.get("triggerPolicy") or {}).get("strategy")
            yield Planned(name, groups, items, is_exit=strategy == _EXIT)


def _depths(tasks: Mapping[str, Any]) -> dict[str, int]:
    """Return how many tasks are before each one, one after the other."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 0  # a file that somebody has changed may hold a circle
            above = [each for each in tasks[name].get("dependentTasks") or [] if each in tasks]
            depths[name] = 1 + max((depth(each) for each in above), default=-1)
        return depths[name]

    for name in tasks:
        depth(name)
    return depths


def _count(task: Mapping[str, Any], outer: int | None) -> int | None:
    """Return for how many items a loop runs, where the pipeline holds them."""
    iterator = task.get("parameterIterator")
    if iterator is None:
        return outer
    try:
        found = json.loads((iterator.get("items") or {})["raw"])
    except (KeyError, ValueError):
        return None
    return len(found) if isinstance(found, list) and outer is None else None
