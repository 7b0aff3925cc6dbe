"""Labels of the namespace that affect pods: Istio's sidecars and pod security."""

from collections.abc import Iterator
from typing import Any

from pipelines.kubeflow.doctor.client import Missing, Resource
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter
from pipelines.kubeflow.doctor.target import Target

_INJECT = "sidecar.istio.io/inject"
_ENFORCE = "pod-security.kubernetes.io/enforce"
_PROFILE = ("app.kubernetes.io/part-of", "kubeflow-profile")
_SERVICES = (("deployments", "nas-mlflow"), ("statefulsets", "nas-postgres"))


def labels_of_namespace(target: Target) -> dict[str, str]:
    """Return the labels of the namespace. Raises KubeError."""
    found = target.kube.get(Resource("v1", "namespaces", None, target.namespace))
    return dict(found["metadata"].get("labels") or {})


def check_namespace(target: Target) -> Iterator[ClusterFinding]:
    """Check that the namespace exists and that Kubeflow runs pipelines in it."""
    name = target.namespace
    report = Reporter("namespace", _show_labels(target))
    try:
        labels = labels_of_namespace(target)
    except Missing:
        make = target.kube.kubectl("create", "namespace", name)
        advice = f"give yours with --namespace; or make it: a profile of Kubeflow, or {make}"
        yield report.problem(f"there is no namespace {name}", advice)
        return
    key, value = _PROFILE
    if target.is_multi_user and labels.get(key) != value:
        seen = f"{name} has no label {key}={value}"
        advice = "Kubeflow's object store lets in no other namespaces; make it a profile"
        yield report.warning(seen, advice)
        return
    if target.is_multi_user is False and name != target.kubeflow:
        seen = f"without profiles pipelines run in {target.kubeflow}, not in {name}"
        advice = f"leave out --namespace, or give --namespace {target.kubeflow}"
        yield report.warning(seen, advice)
        return
    yield report.ok(name)


def _show_labels(target: Target) -> str:
    return target.kube.kubectl("get", "namespace", target.namespace, "--show-labels")


def check_istio(target: Target) -> Iterator[ClusterFinding]:
    """Check that MLflow and PostgreSQL get no sidecar, which refuses unencrypted requests."""
    labels = labels_of_namespace(target)
    report = Reporter("istio", _show_labels(target))
    injects = labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels
    if not injects:
        yield report.ok("no sidecars are injected")
        return
    with_sidecar = [name for plural, name in _SERVICES if _gets_sidecar(target, plural, name)]
    if not with_sidecar:
        yield report.ok(
            "sidecars are injected, but not into MLflow and PostgreSQL of manifests/base"
        )
        return
    seen = (
        f"{', '.join(with_sidecar)} get a sidecar: it refuses steps, which have none, and does not "
        "start under a restricted pod security"
    )
    advice = f'label their pod templates {_INJECT}: "false", as manifests/base does'
    show = target.kubectl("get", "deployment,statefulset", "-o", "yaml")
    yield Reporter("istio", show).problem(seen, advice)


def _gets_sidecar(target: Target, plural: str, name: str) -> bool:
    try:
        found = target.kube.get(target.own(plural, name, group="apps/v1"))
    except Missing:
        return False  # it runs in another place
    metadata: Any = found["spec"]["template"].get("metadata") or {}
    marks = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return str(marks.get(_INJECT, "true")).lower() != "false"


def check_pod_security(target: Target) -> Iterator[ClusterFinding]:
    """Check that the pods of the steps satisfy the profile that the namespace enforces."""
    level = labels_of_namespace(target).get(_ENFORCE, "privileged")
    command = target.kube.kubectl("get", "namespace", target.namespace, "-o", "yaml")
    report = Reporter("pod-security", command)
    rootful = [step.name for step in target.demand.steps if step.user is None]
    if level == "restricted" and rootful:
        seen = f"{_ENFORCE}=restricted refuses the pods of {', '.join(rootful)}"
        advice = "set cluster.run_as_user=10001, the user of the image: Kubeflow sets none itself"
        yield report.problem(seen, advice)
        return
    yield report.ok(f"enforced: {level}")
