"""Requests of the pods of a compiled pipeline, read from the file that KFP reads."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.config.schema import Config
from pipelines.definitions.kinds import Kind
from pipelines.kubeflow.doctor.quantities import Container

_COPY = re.compile(r"-\d+$")  # kfp numbers further tasks of the same component


@dataclass(frozen=True, slots=True)
class Reference:
    """A Secret or ConfigMap that a step names, with the keys that it reads."""

    name: str
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Step:
    """Pod of a step.

    Attributes:
        name: name in `cluster.steps`.
        copies: number of pods that run at the same time.
        gpu_type: name of the GPU resource; empty without GPUs.
        tolerations, node_selector: in the form of a pod.
        claims: mount paths by the names of PersistentVolumeClaims.
        user: user id of the container; None if the image or the platform sets it.
        time_limit: whether the pod is ended after a time.
        environment: environment variables in the form of a pod.
    """

    name: str
    copies: int
    container: Container
    gpu_type: str
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...]
    secrets: tuple[Reference, ...]
    config_maps: tuple[Reference, ...]
    pull_secrets: tuple[str, ...]
    claims: Mapping[str, str]
    user: int | None
    time_limit: bool
    environment: tuple[Mapping[str, Any], ...]

    @property
    def gpus(self) -> int:
        return int(self.container.requests.get(self.gpu_type, 0)) if self.gpu_type else 0


@dataclass(frozen=True, slots=True)
class Demand:
    """Image and pods of a compiled pipeline."""

    image: str
    steps: tuple[Step, ...]

    def references(self, kind: str) -> dict[str, frozenset[str]]:
        """Return all `secrets` or `config_maps` by name, with the keys that any step reads."""
        found: dict[str, frozenset[str]] = {}
        for step in self.steps:
            for one in getattr(step, kind):
                found[one.name] = found.get(one.name, frozenset()) | one.keys
        return found

    def at_once(self) -> list[Step]:
        """Return the steps that run at the same time: the search, and its workers."""
        return [step for step in self.steps if step.name in ("search", "search_worker")]


def demand_of(config: Config, *, kind: Kind, image: str) -> Demand:
    """Compile a pipeline in a temporary folder and read its requests.

    Raises:
        InputError: it cannot be compiled for a cluster.
    """
    from pipelines.definitions.kinds import compile_pipeline

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(kind, config, file, image=image)
        pipeline, *platforms = yaml.safe_load_all(file.read_text())
    return read(pipeline, platforms[0] if platforms else {})


def read(pipeline: Mapping[str, Any], platform: Mapping[str, Any]) -> Demand:
    """Read the two documents of a compiled pipeline.

    Steps that differ only in their number, such as the workers of a search, and the steps that
    branches of a retraining share, are one step.
    """
    on_kubernetes = platform.get("platforms", {}).get("kubernetes", {})
    settings = on_kubernetes.get("deploymentSpec", {}).get("executors", {})
    copies = _copies(pipeline)
    steps: dict[str, Step] = {}
    images = set()
    for label, executor in pipeline["deploymentSpec"]["executors"].items():
        container = executor["container"]
        images.add(container["image"])
        step = _step(label, container, settings.get(label, {}), copies[_step_name(label)])
        steps.setdefault(step.name, step)
    assert len(images) == 1, "all steps run in one image"
    return Demand(images.pop(), tuple(steps.values()))


def _step_name(label: str) -> str:
    return _COPY.sub("", label.removeprefix("exec-")).replace("-", "_")


def _step(label: str, container: Mapping[str, Any], given: Mapping[str, Any], copies: int) -> Step:
    accelerator = container.get("resources", {}).get("accelerator", {})
    user = given.get("securityContext", {}).get("runAsUser")
    return Step(
        name=_step_name(label),
        copies=copies,
        container=_container(container.get("resources", {})),
        gpu_type=str(accelerator.get("resourceType") or accelerator.get("type") or ""),
        node_selector=dict(given.get("nodeSelector", {}).get("labels", {})),
        tolerations=tuple(given.get("tolerations", ())),
        secrets=_references(given.get("secretAsEnv", ()), "secretName", "secretKey"),
        config_maps=_references(given.get("configMapAsEnv", ()), "configMapName", "configMapKey"),
        pull_secrets=tuple(one["secretName"] for one in given.get("imagePullSecret", ())),
        claims={one["constant"]: one["mountPath"] for one in given.get("pvcMount", ())},
        user=None if user is None else int(user),
        time_limit="activeDeadlineSeconds" in given,
        environment=tuple(_environment(container, given)),
    )


def _container(resources: Mapping[str, Any]) -> Container:
    requests = {
        "cpu": resources.get("resourceCpuRequest"),
        "memory": resources.get("resourceMemoryRequest"),
    }
    limits = {
        "cpu": resources.get("resourceCpuLimit"),
        "memory": resources.get("resourceMemoryLimit"),
    }
    accelerator = resources.get("accelerator", {})
    if accelerator:
        count = accelerator.get("resourceCount") or accelerator.get("count")
        limits[accelerator.get("resourceType") or accelerator["type"]] = count
    return Container.of(
        "main",
        {
            "requests": {name: text for name, text in requests.items() if text},
            "limits": {name: text for name, text in limits.items() if text},
        },
    )


def _references(given: Any, name: str, key: str) -> tuple[Reference, ...]:
    """Return the references that are not marked as optional."""
    return tuple(
        Reference(one[name], frozenset(pair[key] for pair in one.get("keyToEnv", ())))
        for one in given
        if not one.get("optional")
    )


def _environment(
    container: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the environment variables of a container in the form of a pod."""
    yield from container.get("env", ())
    for one in given.get("secretAsEnv", ()):
        for pair in one.get("keyToEnv", ()):
            reference = {"name": one["secretName"], "key": pair["secretKey"]}
            yield {"name": pair["envVar"], "valueFrom": {"secretKeyRef": reference}}
    for one in given.get("configMapAsEnv", ()):
        for pair in one.get("keyToEnv", ()):
            reference = {"name": one["configMapName"], "key": pair["configMapKey"]}
            yield {"name": pair["envVar"], "valueFrom": {"configMapKeyRef": reference}}


def _copies(pipeline: Mapping[str, Any]) -> Counter[str]:
    """Return the number of pods of each step that run at once: its most tasks in one DAG.

    The DAGs of different branches never run together.
    """
    components = pipeline.get("components", {})
    dags = [pipeline["root"], *components.values()]
    most: Counter[str] = Counter()
    for dag in (one["dag"] for one in dags if "dag" in one):
        names = (components[task["componentRef"]["name"]] for task in dag["tasks"].values())
        labels = [one["executorLabel"] for one in names if "executorLabel" in one]
        most |= Counter(map(_step_name, labels))
    return most
