"""Version of Kubeflow Pipelines, and defaults that its workflow controller adds to workflows."""

from collections.abc import Iterator
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from pipelines.kubeflow.doctor.client import (
    Forbidden,
    JsonObject,
    Kube,
    KubeError,
    Missing,
    Resource,
)
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, no_right
from pipelines.kubeflow.doctor.target import SERVER, Target

OLDEST = Version("2.17.0")
CONTROLLER = "workflow-controller-configmap"
_HEALTH = "apis/v2beta1/healthz"
_PORT = 8888
_WHY = (
    "before 2.17.0 a schedule loses its service account, fails when it follows the latest version, "
    "and lost pods are not recreated"
)


def health(kube: Kube, kubeflow: str) -> JsonObject | None:
    """Return the health of KFP's API server, by the Kubernetes API; None without an answer."""
    name = f"{SERVER}:{_PORT}"
    try:
        return kube.get(Resource("v1", "services", kubeflow, name, f"proxy/{_HEALTH}"))
    except KubeError:  # the version is then read from the image
        return None


def is_here(kube: Kube, kubeflow: str) -> bool | None:
    """Return whether KFP is in this cluster; None without the right to see it. Raises KubeError."""
    try:
        return kube.has(Resource("v1", "services", kubeflow, SERVER))
    except Forbidden:
        return None


def check_version(target: Target) -> Iterator[ClusterFinding]:
    """Check that Kubeflow Pipelines is recent enough."""
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
            yield Reporter("kubeflow", command).problem(
                f"there is no Deployment {SERVER} in namespace {target.kubeflow}",
                "install Kubeflow Pipelines, or name its namespace with --kubeflow-namespace",
            )
            return
        except Forbidden as error:
            yield no_right("kubeflow", error)
            return
    yield version_finding(said, command)


def version_finding(said: str, command: str = "") -> ClusterFinding:
    """Return the finding for the tag of a version."""
    version, report = version_of(said), Reporter("kubeflow", command)
    if version is None:
        advice = f"make sure that it is {OLDEST} or later: {_WHY}"
        return report.warning(f"version {said or 'unknown'}", advice)
    seen = f"Kubeflow Pipelines {version}"
    if version.release < OLDEST.release:
        return report.problem(seen, f"upgrade it to {OLDEST} or later: {_WHY}")
    return report.ok(seen)


def version_of(tag: str) -> Version | None:
    """Return the version of a release tag; None for a branch or a revision."""
    try:
        return Version(tag)
    except InvalidVersion:
        return None


def _tag(target: Target) -> str:
    """Return the tag of the API server's image."""
    deployment = target.kube.get(Resource("apps/v1", "deployments", target.kubeflow, SERVER))
    containers = deployment["spec"]["template"]["spec"]["containers"]
    image = next(one for one in containers if one["name"].startswith(SERVER))["image"]
    return str(image.partition("@")[0].rpartition("/")[2].partition(":")[2])


def check_workflow_defaults(target: Target) -> Iterator[ClusterFinding]:
    """Check which failures Argo's controller retries by itself, at every level of a pipeline."""
    resource = Resource("v1", "configmaps", target.kubeflow, CONTROLLER)
    command = target.kube.kubectl(
        "get", "configmap", CONTROLLER, "-o", "yaml", namespace=target.kubeflow
    )
    report = Reporter("workflow-defaults", command)
    try:
        defaults = _defaults(target.kube.get(resource).get("data") or {})
    except Missing:
        seen = f"there is no ConfigMap {CONTROLLER} in namespace {target.kubeflow}"
        advice = "make sure that the workflow controller of Argo runs there"
        yield report.warning(seen, advice)
        return
    except yaml.YAMLError as error:
        seen = f"ConfigMap {CONTROLLER} is not YAML ({' '.join(str(error).split())[:100]})"
        yield report.problem(seen, "correct it; Argo does not start")
        return
    yield _check_retries(defaults, report)


def _check_retries(defaults: Any, report: Reporter) -> ClusterFinding:
    templates = (defaults.get("spec") or {}).get("templateDefaults") or {}
    retries = templates.get("retryStrategy")
    if retries is None:
        seen = "templateDefaults has no retryStrategy"
        advice = (
            "a pod that is preempted or deleted is not recreated; set templateDefaults."
            "retryStrategy to {limit: '2', retryPolicy: OnError}, as Kubeflow 2.17 ships it"
        )
        return report.warning(seen, advice)
    # Argo's default for a strategy without a policy.
    policy = retries.get("retryPolicy") or ("Always" if retries.get("expression") else "OnFailure")
    seen = f"templateDefaults retries {policy}"
    if policy in ("Always", "OnFailure"):
        advice = (
            "set retryPolicy: OnError: it counts for every level of a pipeline, so wrong input is "
            "tried dozens of times, and finished steps are started again"
        )
        return report.problem(seen, advice)
    return report.ok(seen)


def _defaults(data: Any) -> Any:
    """Return `workflowDefaults`, a key of the ConfigMap or of the older key `config`."""
    text = data.get("workflowDefaults")
    whole = yaml.safe_load(data.get("config") or "") or {}
    found = yaml.safe_load(text) if text else whole.get("workflowDefaults")
    return found or {}
