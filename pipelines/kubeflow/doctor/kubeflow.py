"""The version of Kubeflow Pipelines, and what its workflow controller adds to every workflow."""

from collections.abc import Iterator
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from pipelines.kubeflow.doctor.client import Forbidden, Kube, KubeError, Missing, Resource, Thing
from pipelines.kubeflow.doctor.findings import ClusterFinding, no_right
from pipelines.kubeflow.doctor.target import SERVER, Target

OLDEST = Version("2.17.0")
CONTROLLER = "workflow-controller-configmap"
_HEALTH = "apis/v2beta1/healthz"
_PORT = 8888
_WHY = (
    "before 2.17.0 a schedule loses its service account, fails when it follows the latest version, "
    "and lost pods are not made again"
)


def health(kube: Kube, kubeflow: str) -> Thing | None:
    """Ask KFP's API server through the Kubernetes API, as `kubectl get --raw` does; else None."""
    name = f"{SERVER}:{_PORT}"
    try:
        return kube.get(Resource("v1", "services", kubeflow, name, f"proxy/{_HEALTH}"))
    except KubeError:  # the version is then read from the image
        return None


def is_here(kube: Kube, kubeflow: str) -> bool | None:
    """Return whether KFP is in this cluster; None where that may not be seen. Raises KubeError."""
    try:
        kube.get(Resource("v1", "services", kubeflow, SERVER))
    except Missing:
        return False
    except Forbidden:
        return None
    return True


def check_version(target: Target) -> Iterator[ClusterFinding]:
    """Whether Kubeflow Pipelines is recent enough."""
    said = str((target.health or {}).get("tag_name") or "")
    path = f"/api/v1/namespaces/{target.kubeflow}/services/{SERVER}:{_PORT}/proxy/{_HEALTH}"
    command = target.kube.kubectl("get", "--raw", path)
    if version_of(said) is None:
        command = target.kube.kubectl(
            *("get", "deployment", SERVER, "-o", "jsonpath={..image}"), namespace=target.kubeflow
        )
        try:
            said = _tag(target)
        except Missing:
            yield ClusterFinding(
                "kubeflow",
                "problem",
                f"there is no Deployment {SERVER} in namespace {target.kubeflow}",
                "install Kubeflow Pipelines, or name its namespace with --kubeflow-namespace",
                command,
            )
            return
        except Forbidden as error:
            yield no_right("kubeflow", error)
            return
    yield version_finding(said, command)


def version_finding(said: str, command: str = "") -> ClusterFinding:
    """Judge a version by its tag."""
    version = version_of(said)
    if version is None:
        advice = f"make sure that it is {OLDEST} or later: {_WHY}"
        return ClusterFinding(
            "kubeflow", "warning", f"version {said or 'unknown'}", advice, command
        )
    seen = f"Kubeflow Pipelines {version}"
    if version.release < OLDEST.release:
        advice = f"upgrade it to {OLDEST} or later: {_WHY}"
        return ClusterFinding("kubeflow", "problem", seen, advice, command)
    return ClusterFinding("kubeflow", "ok", seen, command=command)


def version_of(tag: str) -> Version | None:
    """Read the tag of a release; None for a branch or a revision."""
    try:
        return Version(tag)
    except InvalidVersion:
        return None


def _tag(target: Target) -> str:
    """The tag of the API server's image."""
    deployment = target.kube.get(Resource("apps/v1", "deployments", target.kubeflow, SERVER))
    containers = deployment["spec"]["template"]["spec"]["containers"]
    image = next(one for one in containers if one["name"].startswith(SERVER))["image"]
    return str(image.partition("@")[0].rpartition("/")[2].partition(":")[2])


def check_workflow_defaults(target: Target) -> Iterator[ClusterFinding]:
    """Which failures Argo's controller retries by itself, at every level of a pipeline."""
    resource = Resource("v1", "configmaps", target.kubeflow, CONTROLLER)
    command = target.kube.kubectl(
        "get", "configmap", CONTROLLER, "-o", "yaml", namespace=target.kubeflow
    )
    name = "workflow-defaults"
    try:
        defaults = _defaults(target.kube.get(resource).get("data") or {})
    except Missing:
        seen = f"there is no ConfigMap {CONTROLLER} in namespace {target.kubeflow}"
        advice = "make sure that the workflow controller of Argo runs there"
        yield ClusterFinding(name, "warning", seen, advice, command)
        return
    except yaml.YAMLError as error:
        seen = f"ConfigMap {CONTROLLER} is not YAML ({' '.join(str(error).split())[:100]})"
        yield ClusterFinding(name, "problem", seen, "put it right; Argo does not start", command)
        return
    yield _judge_retries(name, defaults, command)


def _judge_retries(name: str, defaults: Any, command: str) -> ClusterFinding:
    templates = (defaults.get("spec") or {}).get("templateDefaults") or {}
    retries = templates.get("retryStrategy")
    if retries is None:
        seen = "templateDefaults has no retryStrategy"
        advice = (
            "a pod that is preempted or deleted is not made again; set templateDefaults."
            "retryStrategy to {limit: '2', retryPolicy: OnError}, as Kubeflow 2.17 ships it"
        )
        return ClusterFinding(name, "warning", seen, advice, command)
    # Argo's default, where a strategy names no policy.
    policy = retries.get("retryPolicy") or ("Always" if retries.get("expression") else "OnFailure")
    seen = f"templateDefaults retries {policy}"
    if policy in ("Always", "OnFailure"):
        advice = (
            "set retryPolicy: OnError: it counts for every level of a pipeline, so wrong input is "
            "tried dozens of times, and finished steps are started again"
        )
        return ClusterFinding(name, "problem", seen, advice, command)
    return ClusterFinding(name, "ok", seen, command=command)


def _defaults(data: Any) -> Any:
    """`workflowDefaults`, which may lie in a key of its own or in the older `config`."""
    text = data.get("workflowDefaults")
    whole = yaml.safe_load(data.get("config") or "") or {}
    found = yaml.safe_load(text) if text else whole.get("workflowDefaults")
    return found or {}
