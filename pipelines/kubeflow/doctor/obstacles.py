"""Reason why no node can run a pod: the first requirement that no remaining node meets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from pipelines.kubeflow.doctor.client import JsonObject
from pipelines.kubeflow.doctor.demand import Step
from pipelines.kubeflow.doctor.nodes import (
    ARCH,
    ARCHITECTURE,
    TAINTS,
    allocatable,
    architecture_of,
    labels_of,
    takes_pods,
    untolerated,
)
from pipelines.kubeflow.doctor.quantities import CPU, MEMORY, Amounts, show


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why no node can run a pod.

    Attributes:
        seen: the reason.
        setting: setting of the steps that would help, such as `gpus=0`; may be empty.
        advice: another solution.
        command: words of the `kubectl` command that shows it.
    """

    seen: str
    setting: str
    advice: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sieve:
    """One requirement for nodes.

    Attributes:
        lets_through: whether a node meets it.
        why: the obstacle if none of some nodes meets it.
    """

    lets_through: Callable[[JsonObject], bool]
    why: Callable[[list[JsonObject]], Obstacle]


def obstacle_of(step: Step, requests: Amounts, nodes: list[JsonObject]) -> Obstacle | None:
    """Return why no node can run a pod; None if one can.

    Args:
        step: step with its node selector and tolerations.
        requests: requests of the whole pod.
        nodes: nodes of the cluster.
    """
    left = nodes
    for sieve in _sieves(step, requests):
        passed = [node for node in left if sieve.lets_through(node)]
        if not passed:
            return sieve.why(left)
        left = passed
    return None


def _sieves(step: Step, requests: Amounts) -> Iterator[_Sieve]:
    yield _Sieve(takes_pods, _not_ready)
    yield _Sieve(lambda node: architecture_of(node) == ARCHITECTURE, _other_architecture)
    if step.gpus:
        yield _gpus(step.gpu_type, step.gpus)
    for label, value in step.node_selector.items():
        yield _label(label, value)
    yield _Sieve(
        lambda node: not untolerated(node, step.tolerations), lambda left: _tainted(left, step)
    )
    for resource in (CPU, MEMORY):
        yield _size(resource, requests.get(resource, Decimal(0)))


def _not_ready(left: list[JsonObject]) -> Obstacle:
    return Obstacle(f"none of {len(left)} nodes is ready", "", "see to the nodes", ("get", "nodes"))


def _other_architecture(left: list[JsonObject]) -> Obstacle:
    there = ", ".join(sorted({architecture_of(node) for node in left}))
    seen = f"all are of {there}, and the image is built for {ARCHITECTURE}"
    return Obstacle(seen, "", f"add nodes of {ARCHITECTURE}", ("get", "nodes", "-L", ARCH))


def _gpus(kind: str, wanted: int) -> _Sieve:
    column = kind.replace(".", "\\.")  # as JSONPath wants it

    def why(left: list[JsonObject]) -> Obstacle:
        most = max(allocatable(node, kind) for node in left)
        seen = f"none has {wanted} {kind}, but {most} at most" if most else f"none offers {kind}"
        return Obstacle(
            seen,
            "gpus=0",
            "correct cluster.gpu_type, or install the device plugin of the GPUs",
            (
                "get",
                "nodes",
                "-o",
                f"custom-columns=N:.metadata.name,G:.status.allocatable.{column}",
            ),
        )

    return _Sieve(lambda node: allocatable(node, kind) >= wanted, why)


def _label(label: str, value: str) -> _Sieve:
    def why(left: list[JsonObject]) -> Obstacle:
        there = ", ".join(sorted({labels_of(node).get(label, "none") for node in left}))
        return Obstacle(
            f"none has the label {label}={value} (there: {there})",
            "",
            "correct cluster.node_selector or cluster.gpu_node_selector, or label the nodes",
            ("get", "nodes", "-L", label),
        )

    return _Sieve(lambda node: labels_of(node).get(label) == value, why)


def _tainted(left: list[JsonObject], step: Step) -> Obstacle:
    taints = {_show(taint) for node in left for taint in untolerated(node, step.tolerations)}
    setting = f"cluster.{'gpu_' if step.gpus else ''}tolerations"
    return Obstacle(
        f"those that would do have taints that it does not tolerate: {', '.join(sorted(taints))}",
        "",
        f"add {{key: KEY, operator: Exists, effect: EFFECT}} to {setting}",
        TAINTS,
    )


def _show(taint: JsonObject) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _size(resource: str, wanted: Decimal) -> _Sieve:
    def why(left: list[JsonObject]) -> Obstacle:
        most = show(resource, max(allocatable(node, resource) for node in left))
        columns = f"custom-columns=N:.metadata.name,SIZE:.status.allocatable.{resource}"
        return Obstacle(
            f"{show(resource, wanted)} {resource} are asked for, and the largest offers {most}",
            f"{resource}={'CPUS' if resource == CPU else 'SIZE'}",
            "add larger nodes",
            ("get", "nodes", "-o", columns),
        )

    return _Sieve(lambda node: allocatable(node, resource) >= wanted, why)
