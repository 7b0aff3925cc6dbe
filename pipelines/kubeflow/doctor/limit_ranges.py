"""Limit ranges of the namespace: defaults that they add to pods, and pods that they refuse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, set_steps
from pipelines.kubeflow.doctor.pods import demand_of_step
from pipelines.kubeflow.doctor.quantities import Amounts, PodDemand, amounts, show
from pipelines.kubeflow.doctor.target import Target

_MEND = {"cpu": "CPUS", "memory": "SIZE"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """One rule of a limit range.

    Attributes:
        kind: `Container` or `Pod`.
        ratio: largest quotient of limit and request.
    """

    owner: str
    kind: str
    least: Amounts
    most: Amounts
    ratio: Amounts
    default: Amounts
    default_request: Amounts

    @classmethod
    def of(cls, owner: str, item: Mapping[str, Any]) -> "Bounds":
        return cls(
            owner,
            str(item.get("type")),
            amounts(item.get("min")),
            amounts(item.get("max")),
            amounts(item.get("maxLimitRequestRatio")),
            amounts(item.get("default")),
            amounts(item.get("defaultRequest")),
        )

    def faults(self, requests: Amounts, limits: Amounts) -> Iterator[tuple[str, str]]:
        """Yield the resources of a container or pod that are refused, and why."""
        for resource, least in self.least.items():
            asked = requests.get(resource)
            if asked is None or asked < least:
                yield resource, f"at least {show(resource, least)} {resource} must be requested"
        for resource, most in self.most.items():
            limit = limits.get(resource)
            if limit is None:
                yield resource, f"it has no limit of {resource}, at most {show(resource, most)}"
            elif limit > most:
                yield resource, f"at most {show(resource, most)} {resource} are allowed"
        for resource, ratio in self.ratio.items():
            asked, limit = requests.get(resource), limits.get(resource)
            if not asked or limit is None or limit / asked > ratio:
                message = f"the limit of {resource} may be {ratio.normalize():f} times the request"
                yield resource, message


@dataclass(frozen=True, slots=True)
class Ranges:
    """All rules of a namespace."""

    bounds: tuple[Bounds, ...]

    def apply(self, pod: PodDemand) -> PodDemand:
        """Return a pod with the defaults that are added to it."""
        for one in self.bounds:
            if one.kind == "Container":
                pod = pod.with_defaults(one.default_request, one.default)
        return pod

    def faults(self, pod: PodDemand) -> Iterator[tuple[str, str, str]]:
        """Yield why a pod is refused: the limit range, the resource, and the reason."""
        for container in pod.containers:
            for resource, limit in container.limits.items():
                asked = container.requests.get(resource, Decimal(0))
                if asked > limit:
                    reason = (
                        f"container {container.name} asks for {show(resource, asked)} {resource}, "
                        f"and the default limit is {show(resource, limit)}"
                    )
                    yield self._owner_of_default(resource), resource, reason
        for one in self.bounds:
            if one.kind == "Pod":
                for resource, reason in one.faults(pod.requests, pod.limits):
                    yield one.owner, resource, f"of the pod, {reason}"
            elif one.kind == "Container":
                for container in pod.containers:
                    for resource, reason in one.faults(container.requests, container.limits):
                        yield one.owner, resource, f"of container {container.name}, {reason}"

    def _owner_of_default(self, resource: str) -> str:
        return next((one.owner for one in self.bounds if resource in one.default), "")


def ranges_of(target: Target) -> Ranges:
    """Read the limit ranges of the namespace. Raises KubeError."""
    found = []
    for limit_range in target.kube.items(target.own("limitranges")):
        for item in (limit_range.get("spec") or {}).get("limits") or ():
            found.append(Bounds.of(limit_range["metadata"]["name"], item))
    return Ranges(tuple(found))


def check_limit_ranges(target: Target) -> Iterator[ClusterFinding]:
    """Check that limit ranges admit the pods of the steps."""
    ranges = ranges_of(target)
    refused: dict[tuple[str, str, str], list[str]] = {}
    for step in target.demand.steps:
        for fault in ranges.faults(ranges.apply(demand_of_step(target, step))):
            steps = refused.setdefault(fault, [])
            if step.name not in steps:
                steps.append(step.name)
    for (owner, resource, reason), steps in refused.items():
        report = Reporter("limit-range", target.kubectl("describe", "limitrange", owner))
        edit = target.kubectl("edit", "limitrange", owner)
        value = _MEND.get(resource)
        changed = f"{set_steps(steps, f'{resource}={value}')}; or " if value else ""
        seen = f"LimitRange {owner} refuses the pods of {', '.join(steps)}: {reason}"
        yield report.problem(seen, f"{changed}{edit}")
    if not refused:
        names = ", ".join({one.owner: None for one in ranges.bounds}) or "none"
        report = Reporter("limit-range", target.kubectl("get", "limitrange"))
        yield report.ok(f"limit ranges: {names}")
