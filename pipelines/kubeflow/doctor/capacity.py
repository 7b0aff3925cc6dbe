"""Check of the quotas of the namespace against the requests of the pods of the steps.

A pod that exceeds a quota is not refused finally: Argo creates it again without end, and the step
stays pending (`exceeded quota` counts as transient in its `util/errors`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pipelines.kubeflow.doctor.client import Forbidden, JsonObject
from pipelines.kubeflow.doctor.demand import Step
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, set_steps
from pipelines.kubeflow.doctor.limit_ranges import ranges_of
from pipelines.kubeflow.doctor.pods import demand_of_step
from pipelines.kubeflow.doctor.quantities import (
    CPU,
    MEMORY,
    Amounts,
    Container,
    PodDemand,
    add,
    amounts,
    show,
)
from pipelines.kubeflow.doctor.target import Target

_RUN = "pipeline/runid"
_OVER = ("Succeeded", "Failed")
# Scopes of a quota, and whether it then counts steps, which have requests and no priority class.
_SCOPES = {"NotBestEffort": True, "BestEffort": False}

_Fault = tuple[Literal["warning", "problem"], str, str]
"""State, observation, and advice."""


def check_quotas(target: Target) -> Iterator[ClusterFinding]:
    """Check that every step fits the quotas, alone and together with the pods of services."""
    quotas = target.kube.items(target.own("resourcequotas"))
    if not quotas:
        report = Reporter("quota", target.kubectl("get", "resourcequota"))
        yield report.ok(f"namespace {target.namespace} has none")
        return
    others, ranges = _others(target), ranges_of(target)
    steps = target.demand.steps
    pods = {step.name: ranges.apply(demand_of_step(target, step)) for step in steps}
    for quota in quotas:
        yield from _Quota(target, quota, pods, others).findings()


@dataclass(frozen=True, slots=True)
class _Quota:
    """A quota and the pods that it has to accommodate.

    Attributes:
        pods: pods of the steps by step name.
        others: amounts of the pods that belong to no run; empty without the right to see them.
    """

    target: Target
    quota: JsonObject
    pods: dict[str, PodDemand]
    others: Amounts

    @property
    def name(self) -> str:
        return str(self.quota["metadata"]["name"])

    def findings(self) -> Iterator[ClusterFinding]:
        """Yield the fault of each resource; one finding that all is well if there is none."""
        report = Reporter("quota", self.target.kubectl("describe", "resourcequota", self.name))
        steps = [step.name for step in self.target.demand.steps if _counts(self.quota, step)]
        found = 0
        for resource, hard in amounts((self.quota.get("spec") or {}).get("hard")).items():
            fault = self._unnamed(resource, steps) or self._too_large(resource, hard, steps)
            fault = fault or self._too_many(resource, hard, steps)
            if fault is not None:
                found += 1
                yield ClusterFinding("quota", *fault, report.command)
        if not found:
            yield report.ok(f"{self.name}: every step fits")

    def _unnamed(self, resource: str, steps: list[str]) -> _Fault | None:
        """Return the fault of containers without CPU or memory, which such a quota refuses."""
        kind, _, what = _key(resource).partition(".")
        if what not in (CPU, MEMORY):
            return None
        lacking = {
            container.name: None
            for step in steps
            for container in self.pods[step].containers
            if what not in (container.limits if kind == "limits" else container.requests)
        }
        if not lacking:
            return None
        default = "default" if kind == "limits" else "defaultRequest"
        seen = (
            f"{self.name} counts {resource}, which containers of each step ({', '.join(lacking)}) "
            "do not name, so that their pods are refused"
        )
        return (
            "problem",
            seen,
            f"add a LimitRange with {default}.{what} (manifests/closed/limits.yaml)",
        )

    def _too_large(self, resource: str, hard: Decimal, steps: list[str]) -> _Fault | None:
        key = _key(resource)
        taken = self.others.get(key, Decimal(0))
        over = [step for step in steps if self._asked(step, key) > hard - taken]
        if not over:
            return None
        most = max(self._asked(step, key) for step in over)
        besides = f", of which other pods always take {show(key, taken)}" if taken else ""
        seen = (
            f"{self.name} allows {show(key, hard)} {resource}{besides}; the pod of "
            f"{', '.join(over)} asks for up to {show(key, most)}, and would wait for ever"
        )
        return "problem", seen, self._mend(resource, over)

    def _too_many(self, resource: str, hard: Decimal, steps: list[str]) -> _Fault | None:
        key = _key(resource)
        left = hard - self.others.get(key, Decimal(0))
        at_once = [step for step in self.target.demand.at_once() if step.name in steps]
        asked = sum((step.copies * self._asked(step.name, key) for step in at_once), Decimal(0))
        if asked <= left:
            return None
        seen = (
            f"{self.name} leaves {show(key, left)} {resource}; the search and its workers ask for "
            f"{show(key, asked)} together, so that some of them wait"
        )
        return "warning", seen, "set search.workers lower, or raise the quota"

    def _asked(self, step: str, key: str) -> Decimal:
        return _counted(self.pods[step]).get(key, Decimal(0))

    def _mend(self, resource: str, steps: list[str]) -> str:
        raised = f"raise the quota: {self.target.kubectl('edit', 'resourcequota', self.name)}"
        setting = {CPU: "cpu=CPUS", MEMORY: "memory=SIZE"}.get(_key(resource).partition(".")[2])
        if any(
            step.gpu_type and resource.endswith(step.gpu_type) for step in self.target.demand.steps
        ):
            setting = "gpus=0"
        if setting is None:
            return raised
        return f"{set_steps(steps, setting)}; or {raised}"


def _key(resource: str) -> str:
    """Return the name of a resource in `_counted`: `cpu` is short for `requests.cpu`."""
    short = {CPU: "requests.cpu", MEMORY: "requests.memory", "count/pods": "pods"}
    return short.get(resource, resource)


def _counted(pod: PodDemand) -> Amounts:
    """Return the amounts of a pod that a quota counts, by the names in quotas."""
    return {
        "pods": Decimal(1),
        **{f"requests.{name}": amount for name, amount in pod.requests.items()},
        **{f"limits.{name}": amount for name, amount in pod.limits.items()},
    }


def _counts(quota: JsonObject, step: Step) -> bool:
    """Return whether a quota counts the pods of a step."""
    spec = quota.get("spec") or {}
    if (spec.get("scopeSelector") or {}).get("matchExpressions"):
        return False  # of priority classes and similar, which steps do not have
    known = {**_SCOPES, "Terminating": step.time_limit, "NotTerminating": not step.time_limit}
    return all(known.get(scope, False) for scope in spec.get("scopes") or ())


def _others(target: Target) -> Amounts:
    """Return the amounts of pods that belong to no run; none without the right to see them."""
    try:
        pods = target.kube.items(target.own("pods"))
    except Forbidden:
        return {}
    return add(*_amounts_of(pods))


def _amounts_of(pods: Iterable[JsonObject]) -> Iterator[Amounts]:
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if _RUN in labels or (pod.get("status") or {}).get("phase") in _OVER:
            continue
        spec = pod.get("spec") or {}
        main, before = (
            tuple(Container.of(one["name"], one.get("resources")) for one in spec.get(key) or ())
            for key in ("containers", "initContainers")
        )
        yield _counted(PodDemand(main, before))
