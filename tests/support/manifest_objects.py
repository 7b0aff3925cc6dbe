"""The objects of an overlay, and what in them starts pods."""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

SERVICES = ("Deployment", "StatefulSet")
WORKLOADS = (*SERVICES, "Job", "CronJob")


def named(one: Object) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def template(one: Object) -> Object:
    """The pod of a workload."""
    spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
    found: Object = spec["template"]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Name and template of everything that starts pods; no other kind may."""
    for one in objects:
        if one["kind"] in WORKLOADS:
            yield named(one), template(one)


def containers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Name, container and spec of its pod; init containers, too."""
    for name, pod in pods(objects):
        spec = pod["spec"]
        for one in [*spec.get("initContainers", []), *spec["containers"]]:
            yield f"{name}/{one['name']}", one, spec
