"""Where the nodes of a run are: full names without numbers of tries, and what is before them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.kubeflow.status.node_names import (
    Node,
    children_of,
    full_name,
    is_try,
    likely_place,
    shown_name,
    tries_in,
    without_expansions,
    without_tries,
)

DRIVER = "-driver"
NO_TIME = ("0001", "1970")
"""Years with which a time begins that stands for none."""

_STRUCTURE = re.compile(
    r"(root|executor|iteration(-item|-iterations)?"
    r"|(for-loop|condition|condition-branches|exit-handler)-\d+(\.onExit)?)$"
)


class Places:
    """The nodes of a list by their place: their full name without the numbers of tries.

    Attributes:
        of_tasks: of tasks and drivers.
        of_groups: of all else that is below the workflow, by their own name.
        full: full names of nodes and the nodes, as far as they can be found out.
    """

    def __init__(self, listed: Sequence[Node], names: Mapping[str, str], workflow: str) -> None:
        self.of_tasks: dict[str, list[Node]] = {}
        self.of_groups: dict[str, list[Node]] = {}
        self.full: list[tuple[str, Node]] = []
        placeless = []
        for node in listed:
            full, shown = full_name(node, names), without_expansions(shown_name(node))
            if full is not None:
                self.full.append((full, node))
            if shown == workflow:
                continue
            if is_structure(shown):
                self.of_groups.setdefault(shown, []).append(node)
            elif full is None:
                placeless.append(node)
            else:
                self.of_tasks.setdefault(without_tries(full), []).append(node)
        for node in placeless:
            place = likely_place(node, names, self.of_tasks)
            self.of_tasks.setdefault(place, []).append(node)


def is_structure(name: str) -> bool:
    """Whether a node of that name, without expansions, holds tasks and is none."""
    return _STRUCTURE.match(name) is not None


def rounds_of(places: Places) -> list[tuple[str, str]]:
    """Return what holds tasks and was tried again: its place, and when its last try began."""
    return [
        (without_tries(full), start_of(node))
        for full, node in places.full
        if is_try(full) and tries_in(full)[-1] > 0 and not _is_task(full)
    ]


def _is_task(full: str) -> bool:
    last = without_expansions(full.rpartition(".")[2])
    return "." in full and not is_structure(last)


def depths_of(places: Places, names: Mapping[str, str]) -> dict[str, int]:
    """Return how many tasks are before each place, one after the other."""
    by_id = {number: _step(name) for name, number in names.items()}
    before: dict[str, set[str]] = {}
    of_groups = [(full, node) for full, node in places.full if not _is_task(full)]
    of_tasks = [(place, node) for place, nodes in places.of_tasks.items() for node in nodes]
    for name, node in (*of_groups, *of_tasks):
        above = _step(name)
        for below in (by_id.get(child, "") for child in children_of(node)):
            if below and below != above and not below.startswith(f"{above}."):
                before.setdefault(below, set()).add(above)
    depths: dict[str, int] = {}

    def depth(place: str) -> int:
        if place not in depths:
            depths[place] = 0  # whatever the list holds, this comes to an end
            depths[place] = 1 + max((depth(each) for each in before.get(place, ())), default=-1)
        return depths[place]

    for place in before:
        depth(place)
    return depths


def _step(full: str) -> str:
    """Return the place of the task or group that a node belongs to."""
    return without_tries(full).removesuffix(".executor").removesuffix(DRIVER)


def start_of(node: Node) -> str:
    return time_of(node.get("start_time")) or time_of(node.get("create_time"))


def time_of(text: Any) -> str:
    return "" if not text or str(text).startswith(NO_TIME) else str(text)
