"""The two documents of a compiled pipeline, and what a pod is made of by them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

Json = dict[str, Any]
_FIELD = re.compile(r"metadata\.labels\['(.+)'\]")
_UNITS = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20}
_UNITS |= {"Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline; `platform` is the second document, which holds what Kubernetes does."""

    spec: Json
    platform: Json

    @classmethod
    def load(cls, path: Path) -> Self:
        documents = list(yaml.safe_load_all(path.read_text()))
        return cls(documents[0], documents[1] if len(documents) > 1 else {})

    @property
    def name(self) -> str:
        return str(self.spec["pipelineInfo"]["name"])

    def component(self, task: Mapping[str, Any]) -> Json:
        found: Json = self.spec["components"][task["componentRef"]["name"]]
        return found

    def container(self, component: Mapping[str, Any]) -> Json:
        executors = self.spec["deploymentSpec"]["executors"]
        found: Json = executors[component["executorLabel"]]["container"]
        return found

    def kubernetes(self, component: Mapping[str, Any]) -> Json:
        """What kfp-kubernetes asks for the task; empty where it asks for nothing."""
        executors = (
            self.platform.get("platforms", {})
            .get("kubernetes", {})
            .get("deploymentSpec", {})
            .get("executors", {})
        )
        found: Json = executors.get(component["executorLabel"], {})
        return found


def quantity(text: str) -> float:
    """Return the value of a Kubernetes quantity, such as 16G or 512Mi."""
    found = re.fullmatch(r"([\d.]+)(\w*)", text)
    assert found is not None, text
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What the kubelet would start.

    Attributes:
        user: `UID:GID`; the image's own when None.
        claims: name of each mounted PersistentVolumeClaim by the path within the container.
        memory_mounts: size of each emptyDir in memory by its path, such as /dev/shm.
        missing: what the pod waits for; it does not start before.
    """

    image: str
    command: tuple[str, ...]
    env: dict[str, str]
    user: str | None
    memory: int | None
    claims: dict[str, str] = field(default_factory=dict)
    empty_dirs: tuple[str, ...] = ()
    memory_mounts: dict[str, int] = field(default_factory=dict)
    deadline_s: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """Secrets, ConfigMaps and GPUs that pods may ask for; changes are seen by waiting pods."""

    secrets: dict[str, dict[str, str]]
    config_maps: dict[str, dict[str, str]]
    gpus: int = 0


def pod_spec(
    container: Json, kubernetes: Json, namespace: Namespace, *, labels: Mapping[str, str]
) -> PodSpec:
    """Return what driver and compiler make of a task (K: v2/driver/driver.go initPodSpecPatch,
    v2/driver/k8s.go extendPodSpecPatch)."""
    env = {one["name"]: str(one["value"]) for one in container.get("env", ())}
    missing: list[str] = []
    sources = (
        ("secretAsEnv", "secretName", "secretKey", namespace.secrets),
        ("configMapAsEnv", "configMapName", "configMapKey", namespace.config_maps),
    )
    for kind, name_key, entry_key, known in sources:
        for reference in kubernetes.get(kind, ()):
            name = reference[name_key]
            for entry in reference["keyToEnv"]:
                value = known.get(name, {}).get(entry[entry_key])
                if value is not None:
                    env[entry["envVar"]] = value
                elif not reference.get("optional"):
                    # M10: CreateContainerConfigError, and the node stays Pending.
                    missing.append(f"{name}/{entry[entry_key]}")
    for reference in kubernetes.get("fieldPathAsEnv", ()):
        found = _FIELD.fullmatch(reference["fieldPath"])
        assert found is not None, f"unknown field {reference['fieldPath']}"
        env[reference["name"]] = labels.get(found[1], "")
    resources = container.get("resources", {})
    gpus = int(resources.get("accelerator", {}).get("resourceCount", 0))
    if gpus > namespace.gpus:
        missing.append(f"{gpus} GPUs")  # H5: tried without end, the node stays Pending
    memory = resources.get("resourceMemoryLimit")
    security = kubernetes.get("securityContext", {})
    user = security.get("runAsUser")
    mounts = kubernetes.get("emptyDirMounts", ())
    in_memory = [one for one in mounts if one.get("medium") == "Memory"]
    return PodSpec(
        image=container["image"],
        command=(*container.get("command", ()), *container.get("args", ())),
        env=env,
        user=None if user is None else f"{user}:{security.get('runAsGroup', 0)}",
        memory=None if memory is None else int(quantity(memory)),
        claims={one["mountPath"]: one["constant"] for one in kubernetes.get("pvcMount", ())},
        empty_dirs=tuple(one["mountPath"] for one in mounts if one not in in_memory),
        memory_mounts={one["mountPath"]: int(quantity(one["sizeLimit"])) for one in in_memory},
        deadline_s=float(kubernetes.get("activeDeadlineSeconds", 0)) or None,
        missing=tuple(missing),
    )
