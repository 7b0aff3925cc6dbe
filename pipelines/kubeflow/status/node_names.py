"""Full names of the nodes of an Argo workflow, reconstructed from KFP's list.

The list does not show the tree: a node has no parent and no id, only the ids of its children. Such
an id is a hash of a node's full name, so the names can be found by trying.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Node = Mapping[str, Any]
"""An entry of KFP's list of tasks, which is a node of the workflow."""

_TRY = re.compile(r"\(\d+\)$")
_TRIES = re.compile(r"\((\d+)\)")
_ITEM = re.compile(r"\((\d+):[^()]*\)")
_EXPANSION = re.compile(r"\([^()]*\)$")
_FNV_START, _FNV_PRIME = 0x811C9DC5, 0x01000193


def full_names(listed: Sequence[Node]) -> dict[str, str]:
    """Return ids by full name, of the workflow and of all nodes that are children of another."""
    ids = {child for node in listed for child in children_of(node)}
    if not ids:
        return {}
    workflow = min(ids).rpartition("-")[0]
    shown = {shown_name(node) for node in listed} - {workflow, ""}
    suffixes = {match.group() for name in shown if (match := _EXPANSION.search(name))}
    suffixes |= {"(0)"}
    parts = {f".{without_expansions(name)}" for name in shown}
    names, wanted = {workflow: workflow}, [(workflow, _hash(workflow))]
    while wanted:
        above, state = wanted.pop()
        for part in suffixes | parts:
            name, number = above + part, _hash(part, state)
            if f"{workflow}-{number}" in ids and name not in names:
                names[name] = f"{workflow}-{number}"
                wanted.append((name, number))
    return names


def full_name(node: Node, names: Mapping[str, str]) -> str | None:
    """Return the full name of a node.

    None for a node without children below it: a pod, or a task that does not run.
    """
    shown, children = shown_name(node), set(children_of(node))
    for name in names:
        if name != shown and not name.endswith(f".{shown}"):
            continue
        below = (inner for inner in names if inner.startswith((f"{name}(", f"{name}.")))
        if any(names[inner] in children for inner in below):
            return name
    return None


def likely_place(node: Node, names: Mapping[str, str], taken: Mapping[str, object]) -> str:
    """Return a free place with the name of a node, or the only one, or just the name."""
    shown = without_tries(shown_name(node))
    places = {without_tries(name) for name in names}
    places = {place for place in places if place.endswith(f".{shown}")}
    free = sorted(places - taken.keys())
    if free:
        return free[0]
    return places.pop() if len(places) == 1 else shown


def node_id(workflow: str, name: str) -> str:
    """Return the id that Argo gives to the node with a full name."""
    return f"{workflow}-{_hash(name)}"


def shown_name(node: Node) -> str:
    return str(node.get("display_name") or "")


def children_of(node: Node) -> list[str]:
    return [child["pod_name"] for child in node.get("child_tasks") or [] if "pod_name" in child]


def is_try(name: str) -> bool:
    """Return whether a name ends with the number of a try: `search(0)`, not `iteration(0:0)`."""
    return _TRY.search(name) is not None


def tries_in(name: str) -> list[int]:
    """Return the numbers of tries at all levels of a full name."""
    return [int(number) for number in _TRIES.findall(name)]


def items_in(name: str) -> list[int]:
    """Return the numbers of iterations at all levels of a full name."""
    return [int(number) for number in _ITEM.findall(name)]


def without_tries(name: str) -> str:
    """Remove `(0)`, but not the `(0:0)` of an iteration."""
    return _TRIES.sub("", name)


def without_expansions(name: str) -> str:
    while _EXPANSION.search(name):
        name = _EXPANSION.sub("", name)
    return name


def _hash(text: str, start: int = _FNV_START) -> int:
    """Return the 32-bit FNV-1a hash of a text, continued from the hash of the text before it."""
    for byte in text.encode():
        start = ((start ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return start
