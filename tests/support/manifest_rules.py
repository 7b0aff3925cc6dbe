"""What every manifest must hold to: each rule takes the objects of one overlay, names offences."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache

import kubernetes_validate
import manifest_policies as policies
from manifest_objects import WORKLOADS, Object, containers, named, pods, template

NO_SCHEMA = frozenset({"cilium.io/v2/CiliumNetworkPolicy"})
"""APIVERSION/KIND of custom resources, which cannot be validated here."""

SUPPORTED = ("1.32", "1.37")
"""Versions of Kubernetes: the oldest that is looked at, and the newest that is known."""

_NAMES = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by")
_DIGEST = re.compile(r"^[^@]+@sha256:[0-9a-f]{64}$")
_VERSION = re.compile(r"^[^@]+:v?\d+\.\d+\.\d+[\w.-]*$")


# --- the rules ------------------------------------------------------------------------------


def schemas(objects: list[Object]) -> Iterator[str]:
    """Nothing that the API does not know, neither field nor kind."""
    for one in objects:
        for version in SUPPORTED:
            fault = _fault(json.dumps(one), version)
            if fault:
                yield f"{named(one)}: {version} {fault}"


@cache  # it takes a tenth of a second, and most objects are the same in all overlays
def _fault(text: str, version: str) -> str:
    one = json.loads(text)
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    except kubernetes_validate.SchemaNotFoundError:
        kind = f"{one['apiVersion']}/{one['kind']}"
        return "" if kind in NO_SCHEMA else f"knows no {kind}"
    return ""


def kinds(objects: list[Object]) -> Iterator[str]:
    """No secrets in git; no pods that the other rules do not see."""
    for one in objects:
        if one["kind"] in ("Secret", "Pod", "DaemonSet", "ReplicaSet"):
            yield f"{named(one)} is not wanted here"


def labels(objects: list[Object]) -> Iterator[str]:
    for one in objects:
        missing = [name for name in _NAMES if name not in one["metadata"].get("labels", {})]
        if missing and one["kind"] != "ConfigMap":  # those that kustomize generates have no name
            yield f"{named(one)} lacks {missing}"


def restricted(objects: list[Object]) -> Iterator[str]:
    """The restricted profile of pod security, and a root file system that nobody writes to."""
    for one in objects:
        label = "pod-security.kubernetes.io/enforce"
        if one["kind"] == "Namespace" and one["metadata"]["labels"].get(label) != "restricted":
            yield f"{named(one)} does not enforce the restricted profile"
    for name, one, spec in containers(objects):
        pod, own = spec.get("securityContext", {}), one.get("securityContext", {})
        both = {**pod, **own}
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "capabilities": {"drop": ["ALL"]},
        }
        yield from (
            f"{name}: {key} must be {value}"
            for key, value in wanted.items()
            if both.get(key) != value
        )
        if not both.get("runAsUser"):
            yield f"{name}: runAsUser must be a number other than 0"
        for key in ("hostNetwork", "hostPID", "hostIPC", "privileged"):
            if spec.get(key) or own.get(key):
                yield f"{name}: {key}"
    for name, pod in pods(objects):
        for volume in pod["spec"].get("volumes", []):
            if set(volume) - {"name", "emptyDir", "configMap", "persistentVolumeClaim"}:
                yield f"{name}: volume {volume['name']} is of a kind that is not wanted"


def resources(objects: list[Object]) -> Iterator[str]:
    for name, one, _ in containers(objects):
        for which in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in one.get("resources", {}).get(which, {}):
                    yield f"{name}: no {which}.{what}"
        probes = {"startupProbe", "readinessProbe", "livenessProbe"} - set(one)
        if probes and not name.startswith(("Job/", "CronJob/")):
            yield f"{name}: no {sorted(probes)}"


def jobs(objects: list[Object]) -> Iterator[str]:
    """A Job ends, says so by its status, and is gone before the next image is applied."""
    for one in objects:
        if one["kind"] not in ("Job", "CronJob"):
            continue
        if template(one)["spec"].get("restartPolicy") != "Never":
            yield f"{named(one)}: restarts its container, whose log is lost"
        spec = one["spec"]
        if one["kind"] == "CronJob":
            if spec.get("concurrencyPolicy") != "Forbid":
                yield f"{named(one)}: two of it may run at once"
            spec = spec["jobTemplate"]["spec"]
            if "activeDeadlineSeconds" not in spec:
                yield f"{named(one)}: one that hangs keeps the next from starting"
        for limit in ("backoffLimit", "ttlSecondsAfterFinished"):
            if limit not in spec:
                yield f"{named(one)}: no {limit}"


def volumes(objects: list[Object]) -> Iterator[str]:
    """A volume, which comes root-owned, is handed over to the group of the pod that mounts it."""
    claims = {one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"}
    for one in objects:
        spec = template(one)["spec"] if one["kind"] in WORKLOADS else {}
        mounted = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in spec.get("volumes", [])
            if "persistentVolumeClaim" in volume
        ]
        if mounted or "volumeClaimTemplates" in one.get("spec", {}):
            yield from _handed_over(named(one), spec)
        yield from (f"{named(one)}: there is no claim {name}" for name in set(mounted) - claims)


def _handed_over(name: str, spec: Object) -> Iterator[str]:
    security = spec.get("securityContext", {})
    if not security.get("fsGroup") or security.get("fsGroup") != security.get("runAsGroup"):
        yield f"{name}: fsGroup is not the group of the pod"
    if security.get("fsGroupChangePolicy") != "OnRootMismatch":
        yield f"{name}: changes the owner of every file at each start"


def images(objects: list[Object]) -> Iterator[str]:
    """A digest, or the tag of one version."""
    for name, one, _ in containers(objects):
        if not (_DIGEST.match(one["image"]) or _VERSION.match(one["image"])):
            yield f"{name}: {one['image']} may be another image tomorrow"


def digests(objects: list[Object]) -> Iterator[str]:
    """Where it matters, digests alone."""
    for name, one, _ in containers(objects):
        if not _DIGEST.match(one["image"]):
            yield f"{name}: {one['image']} has no digest"


def tokens(objects: list[Object]) -> Iterator[str]:
    """The token of an account is not mounted, and accounts that have rights are those of steps."""
    for name, pod in pods(objects):
        spec = pod["spec"]
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: mounts the token of its account"
        if not any(
            one["kind"] == "ServiceAccount"
            and one["metadata"]["name"] == spec.get("serviceAccountName")
            for one in objects
        ):
            yield f"{name}: has no account of its own"
    for one in objects:
        if one["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{named(one)} reaches beyond the namespace"
        if one["kind"] == "RoleBinding":
            for subject in one["subjects"]:
                if subject["name"] != "nas-steps":
                    yield f"{named(one)} gives rights to {subject['name']}"
        for rule in one["rules"] if one["kind"] == "Role" else []:
            yield from _rights(named(one), rule)


def _rights(role: str, rule: Object) -> Iterator[str]:
    if "*" in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]:
        yield f"{role}: * is too much"
    if {"secrets", "configmaps"} & set(rule["resources"]) and not rule.get("resourceNames"):
        yield f"{role}: may read every one of {rule['resources']}"
    if {"pods/exec", "serviceaccounts/token"} & set(rule["resources"]):
        yield f"{role}: may use {rule['resources']}"


def references(objects: list[Object]) -> Iterator[tuple[str, str, str]]:
    """Container, NAME and KEY of every Secret and ConfigMap that an environment is made of."""
    for name, one, _ in containers(objects):
        assert "envFrom" not in one, f"{name}: a secret as a whole"
        for variable in one.get("env", []):
            for kind in ("secretKeyRef", "configMapKeyRef"):
                reference = variable.get("valueFrom", {}).get(kind)
                if reference:
                    yield name, reference["name"], reference["key"]


def own_maps(objects: list[Object]) -> Iterator[str]:
    """ConfigMaps that are mounted or read are among the objects."""
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    for name, pod in pods(objects):
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{name}: there is no ConfigMap {volume['configMap']['name']}"
    for name, one, _ in containers(objects):
        for variable in one.get("env", []):
            reference = variable.get("valueFrom", {}).get("configMapKeyRef")
            if reference and reference["key"] not in maps.get(reference["name"], {}):
                yield f"{name}: there is no {reference['name']}/{reference['key']}"


RULES: tuple[Callable[[list[Object]], Iterator[str]], ...] = (
    schemas,
    kinds,
    labels,
    restricted,
    resources,
    jobs,
    volumes,
    images,
    tokens,
    policies.selectors,
    policies.sidecars,
    policies.borders,
    policies.ports,
    own_maps,
)
