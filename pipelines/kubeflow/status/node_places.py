"""Places of the nodes of a run: full names without numbers of tries, and their order."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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
from pipelines.kubeflow.status.pipeline_tasks import depths

DRIVER = "-driver"
_NO_TIME = ("0001", "1970")  # years of a time that is not set

_STRUCTURE = re.compile(
    r"(root|executor|iteration(-item|-iterations)?"
    r"|(for-loop|condition|condition-branches|exit-handler)-\d+(\.onExit)?)$"
)


class Places:
    """Nodes of a list by place: their full name without the numbers of tries.

    Attributes:
        of_tasks: nodes of tasks and drivers.
        of_groups: other nodes below the workflow, by their own name.
        full: nodes with their full names, as far as these can be determined.
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
    """Return whether a node of that name, without expansions, contains tasks and is not one."""
    return _STRUCTURE.match(name) is not None


def rounds_of(places: Places) -> list[tuple[str, str]]:
    """Return place and start of the last try of each group of tasks that was tried again."""
    return [
        (without_tries(full), start_of(node))
        for full, node in places.full
        if is_try(full) and tries_in(full)[-1] > 0 and not _is_task(full)
    ]


def _is_task(full: str) -> bool:
    last = without_expansions(full.rpartition(".")[2])
    return "." in full and not is_structure(last)


def depths_of(places: Places, names: Mapping[str, str]) -> dict[str, int]:
    """Return the length of the longest chain of tasks before each place."""
    by_id = {number: _step(name) for name, number in names.items()}
    before: dict[str, set[str]] = {}
    of_groups = [(full, node) for full, node in places.full if not _is_task(full)]
    of_tasks = [(place, node) for place, nodes in places.of_tasks.items() for node in nodes]
    for name, node in (*of_groups, *of_tasks):
        above = _step(name)
        for below in (by_id.get(child, "") for child in children_of(node)):
            if below and below != above and not below.startswith(f"{above}."):
                before.setdefault(below, set()).add(above)
    return depths(before)


def _step(full: str) -> str:
    """Return the place of the task or group that a node belongs to."""
    return without_tries(full).removesuffix(".executor").removesuffix(DRIVER)


def start_of(node: Node) -> str:
    return time_of(node.get("start_time")) or time_of(node.get("create_time"))


def time_of(text: Any) -> str:
    """Return a time that KFP has written; empty for one that is not set."""
    return "" if not text or str(text).startswith(_NO_TIME) else str(text)


def parse_time(text: Any) -> datetime | None:
    """Return a time that Argo or KFP has written; None for one that is not set or not a time."""
    try:
        found = datetime.fromisoformat(time_of(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
