"""Secrets, config maps and pull secrets that the compiled pipeline names.

A pod that names a missing one stays in CreateContainerConfigError, and `nas status` shows only that
its step is pending.
"""

from collections.abc import Iterator

from pipelines.kubeflow.doctor.client import Forbidden, JsonObject, Missing
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, no_right
from pipelines.kubeflow.doctor.target import Target

_PULL_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")
_WAITS = "its pods would wait for it for ever"


def check_secrets(target: Target) -> Iterator[ClusterFinding]:
    """Check that secrets exist with the keys that steps read; values are not read."""
    for name, keys in target.demand.references("secrets").items():
        make = target.kubectl("create", "secret", "generic", name)
        yield _check("secret", target, name, keys, make)


def check_config_maps(target: Target) -> Iterator[ClusterFinding]:
    """Check that config maps exist with the keys that steps read."""
    for name, keys in target.demand.references("config_maps").items():
        make = target.kubectl("create", "configmap", name)
        yield _check("configmap", target, name, keys, make)


def _check(kind: str, target: Target, name: str, keys: frozenset[str], make: str) -> ClusterFinding:
    # `describe` shows the keys of a secret without the values.
    report = Reporter(kind, target.kubectl("describe", kind, name))
    wanted = " ".join(f"--from-literal={key}=VALUE" for key in sorted(keys))
    try:
        found = target.kube.get(target.own(f"{kind}s", name))
    except Missing:
        seen = f"there is no {kind} {name} in namespace {target.namespace}; {_WAITS}"
        return report.problem(seen, f"{make} {wanted}")
    except Forbidden as error:
        return no_right(kind, error)
    lacking = sorted(keys - {*(found.get("data") or {}), *(found.get("binaryData") or {})})
    if lacking:
        advice = f"add it, or correct cluster.{kind if kind == 'secret' else 'config_map'}s"
        return report.problem(f"{kind} {name} has no key {', '.join(lacking)}; {_WAITS}", advice)
    return report.ok(f"{name}: {', '.join(sorted(keys))}")


def check_pull_secrets(target: Target) -> Iterator[ClusterFinding]:
    """Check that the secrets for the registry exist and are of the right type."""
    for name in {name: None for step in target.demand.steps for name in step.pull_secrets}:
        yield _check_pull_secret(target, name)


def _check_pull_secret(target: Target, name: str) -> ClusterFinding:
    report = Reporter("pull-secret", target.kubectl("get", "secret", name))
    make = target.kubectl("create", "secret", "docker-registry", name)
    advice = f"{make} --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD"
    try:
        found: JsonObject = target.kube.get(target.own("secrets", name))
    except Missing:
        seen = f"there is no secret {name}, so that the image is pulled without an account"
        return report.warning(seen, advice)
    except Forbidden as error:
        return no_right("pull-secret", error)
    if found.get("type") not in _PULL_TYPES:
        seen = f"secret {name} is of type {found.get('type')}, which is not one of a registry"
        return report.problem(seen, advice)
    return report.ok(name)


def check_artifact_store(target: Target) -> Iterator[ClusterFinding]:
    """Check that Kubeflow's launcher finds the account of its object store."""
    name = "mlpipeline-minio-artifact"
    report = Reporter("artifact-store", target.kubectl("get", "secret", name))
    if target.kube.has(target.own("secrets", name)):
        yield report.ok(name)
        return
    yield report.warning(
        f"there is no secret {name} in namespace {target.namespace}",
        "right only where the ConfigMap kfp-launcher names another store; else make the "
        "namespace a profile of Kubeflow, which brings it",
    )
