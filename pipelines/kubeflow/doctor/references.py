"""Secrets, config maps and pull secrets that the compiled pipeline names.

A pod that names one that is not there stays in CreateContainerConfigError, and `nas status` says
no more than that its step is pending.
"""

from collections.abc import Iterator

from pipelines.kubeflow.doctor.client import Forbidden, Missing, Thing
from pipelines.kubeflow.doctor.findings import ClusterFinding, no_right
from pipelines.kubeflow.doctor.target import Target

_PULL_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")
_WAITS = "its pods would wait for it for ever"


def check_secrets(target: Target) -> Iterator[ClusterFinding]:
    """Whether secrets are there, with the keys that steps read; no value is looked at."""
    for name, keys in target.demand.references("secrets").items():
        make = target.kubectl("create", "secret", "generic", name)
        yield _check("secret", target, name, keys, make)


def check_config_maps(target: Target) -> Iterator[ClusterFinding]:
    """Whether config maps are there, with the keys that steps read."""
    for name, keys in target.demand.references("config_maps").items():
        make = target.kubectl("create", "configmap", name)
        yield _check("configmap", target, name, keys, make)


def _check(kind: str, target: Target, name: str, keys: frozenset[str], make: str) -> ClusterFinding:
    # `describe` shows the keys of a secret without the values.
    command = target.kubectl("describe", kind, name)
    wanted = " ".join(f"--from-literal={key}=VALUE" for key in sorted(keys))
    try:
        found = target.kube.get(target.own(f"{kind}s", name))
    except Missing:
        seen = f"there is no {kind} {name} in namespace {target.namespace}; {_WAITS}"
        return ClusterFinding(kind, "problem", seen, f"{make} {wanted}", command)
    except Forbidden as error:
        return no_right(kind, error)
    there = {*(found.get("data") or {}), *(found.get("binaryData") or {})}
    lacking = sorted(keys - there)
    if lacking:
        seen = f"{kind} {name} has no key {', '.join(lacking)}; {_WAITS}"
        advice = f"add it, or correct cluster.{kind if kind == 'secret' else 'config_map'}s"
        return ClusterFinding(kind, "problem", seen, advice, command)
    return ClusterFinding(kind, "ok", f"{name}: {', '.join(sorted(keys))}", command=command)


def check_pull_secrets(target: Target) -> Iterator[ClusterFinding]:
    """Whether the secrets for the registry are there, and are of that kind."""
    for name in {name: None for step in target.demand.steps for name in step.pull_secrets}:
        yield _check_pull_secret(target, name)


def _check_pull_secret(target: Target, name: str) -> ClusterFinding:
    command = target.kubectl("get", "secret", name)
    make = target.kubectl("create", "secret", "docker-registry", name)
    advice = f"{make} --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD"
    try:
        found: Thing = target.kube.get(target.own("secrets", name))
    except Missing:
        seen = f"there is no secret {name}, so that the image is pulled without an account"
        return ClusterFinding("pull-secret", "warning", seen, advice, command)
    except Forbidden as error:
        return no_right("pull-secret", error)
    if found.get("type") not in _PULL_TYPES:
        seen = f"secret {name} is of type {found.get('type')}, which no registry is asked with"
        return ClusterFinding("pull-secret", "problem", seen, advice, command)
    return ClusterFinding("pull-secret", "ok", name, command=command)


def check_artifact_store(target: Target) -> Iterator[ClusterFinding]:
    """Whether Kubeflow's launcher finds the account of its object store."""
    name = "mlpipeline-minio-artifact"
    command = target.kubectl("get", "secret", name)
    try:
        target.kube.get(target.own("secrets", name))
    except Missing:
        seen = f"there is no secret {name} in namespace {target.namespace}"
        advice = (
            "right only where the ConfigMap kfp-launcher names another store; else make the "
            "namespace a profile of Kubeflow, which brings it"
        )
        yield ClusterFinding("artifact-store", "warning", seen, advice, command)
        return
    yield ClusterFinding("artifact-store", "ok", name, command=command)
