"""Quotas and limit ranges of the namespace, against what the pods of the steps ask for.

A pod that exceeds a quota is not refused for good: Argo tries it again without end, and the step
stays pending (`exceeded quota` counts as transient in its `util/errors`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pipelines.kubeflow.doctor.client import Forbidden, Thing
from pipelines.kubeflow.doctor.demand import Step
from pipelines.kubeflow.doctor.findings import ClusterFinding, set_steps
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
# Of the scopes of a quota: which pods it counts. Steps have requests, and no priority class.
_SCOPES = {"NotBestEffort": True, "BestEffort": False}

_Told = tuple[Literal["warning", "problem"], str, str]
"""State, what was seen, and what to do."""


def check_quotas(target: Target) -> Iterator[ClusterFinding]:
    """Whether every step fits the quotas, by itself and with what else is always there."""
    quotas = target.kube.items(target.own("resourcequotas"))
    if not quotas:
        command = target.kubectl("get", "resourcequota")
        seen = f"namespace {target.namespace} has none"
        yield ClusterFinding("quota", "ok", seen, command=command)
        return
    others, ranges = _others(target), ranges_of(target)
    steps = target.demand.steps
    pods = {step.name: ranges.apply(demand_of_step(target, step)) for step in steps}
    for quota in quotas:
        yield from _Quota(target, quota, pods, others).findings()


@dataclass(frozen=True, slots=True)
class _Quota:
    """A quota, and what it has to hold.

    Attributes:
        pods: of the steps, by their names.
        others: what pods that belong to no run take; empty where they cannot be seen.
    """

    target: Target
    quota: Thing
    pods: dict[str, PodDemand]
    others: Amounts

    @property
    def name(self) -> str:
        return str(self.quota["metadata"]["name"])

    def findings(self) -> Iterator[ClusterFinding]:
        """Yield what is wrong with each resource; else that all is well."""
        command = self.target.kubectl("describe", "resourcequota", self.name)
        steps = [step.name for step in self.target.demand.steps if _counts(self.quota, step)]
        found = 0
        for resource, hard in amounts((self.quota.get("spec") or {}).get("hard")).items():
            told = self._unnamed(resource, steps) or self._too_large(resource, hard, steps)
            told = told or self._too_many(resource, hard, steps)
            if told is not None:
                found += 1
                yield ClusterFinding("quota", *told, command)
        if not found:
            seen = f"{self.name}: every step fits"
            yield ClusterFinding("quota", "ok", seen, command=command)

    def _unnamed(self, resource: str, steps: list[str]) -> _Told | None:
        """A quota of CPU or memory refuses pods with a container that does not name it."""
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

    def _too_large(self, resource: str, hard: Decimal, steps: list[str]) -> _Told | None:
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

    def _too_many(self, resource: str, hard: Decimal, steps: list[str]) -> _Told | None:
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
    """The name of a resource in `_counted`: `cpu` is short for `requests.cpu`."""
    short = {CPU: "requests.cpu", MEMORY: "requests.memory", "count/pods": "pods"}
    return short.get(resource, resource)


def _counted(pod: PodDemand) -> Amounts:
    """What a quota counts of a pod, by the names that a quota gives them."""
    return {
        "pods": Decimal(1),
        **{f"requests.{name}": amount for name, amount in pod.requests.items()},
        **{f"limits.{name}": amount for name, amount in pod.limits.items()},
    }


def _counts(quota: Thing, step: Step) -> bool:
    """Whether a quota counts the pods of a step."""
    spec = quota.get("spec") or {}
    if (spec.get("scopeSelector") or {}).get("matchExpressions"):
        return False  # of priority classes and the like, which steps do not have
    known = {**_SCOPES, "Terminating": step.time_limit, "NotTerminating": not step.time_limit}
    return all(known.get(scope, False) for scope in spec.get("scopes") or ())


def _others(target: Target) -> Amounts:
    """What pods that belong to no run take of the quotas; nothing where they cannot be seen."""
    try:
        pods = target.kube.items(target.own("pods"))
    except Forbidden:
        return {}
    return add(*_amounts_of(pods))


def _amounts_of(pods: Iterable[Thing]) -> Iterator[Amounts]:
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
