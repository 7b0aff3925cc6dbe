"""Check of the PersistentVolumeClaim of `cluster.state`."""

from collections.abc import Iterator
from dataclasses import replace

from pipelines.kubeflow.doctor.client import JsonObject, KubeError, Missing, Resource
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter
from pipelines.kubeflow.doctor.nodes import usable_nodes
from pipelines.kubeflow.doctor.target import Target

_MANY, _ONE, _ONE_POD, _READ = (
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
    "ReadOnlyMany",
)
_WAITING = "WaitForFirstConsumer"
NAME = "claim"


def check_claim(target: Target) -> Iterator[ClusterFinding]:
    """Check that the claim exists, is bound, and can be used by all pods that use it."""
    for name in {name: None for step in target.demand.steps for name in step.claims}:
        yield _check(target, name)


def _check(target: Target, name: str) -> ClusterFinding:
    report = Reporter(NAME, target.kubectl("get", "pvc", name))
    try:
        claim = target.kube.get(target.own("persistentvolumeclaims", name))
    except Missing:
        seen = f"there is no PersistentVolumeClaim {name} in namespace {target.namespace}"
        advice = (
            "make it: put your namespace into manifests/state-volume, then kubectl apply -k "
            "manifests/state-volume; or correct cluster.state"
        )
        return report.problem(seen, advice)
    spec, status = claim.get("spec") or {}, claim.get("status") or {}  # a new one has no status
    modes = tuple(spec.get("accessModes") or ())
    wrong = _mode_finding(target, name, modes, report)
    if wrong is not None and wrong.state == "problem":
        return wrong
    phase = status.get("phase") or "Pending"
    unbound = None if phase == "Bound" else _unbound(target, name, phase, spec, report)
    if unbound is not None:
        return unbound
    return wrong or report.ok(f"{name}: {phase}, {', '.join(modes)}")


def _mode_finding(
    target: Target, name: str, modes: tuple[str, ...], report: Reporter
) -> ClusterFinding | None:
    if _MANY in modes:
        return None
    seen = f"{name} has access mode {', '.join(modes) or 'none'}"
    make = (
        f"make a claim with {_MANY} (an access mode cannot be changed) on a class of storage that "
        "lets several nodes write, or set cluster.state=s3://BUCKET/PREFIX"
    )
    num_pods = sum(step.copies for step in target.demand.at_once() if name in step.claims)
    if _ONE not in modes and _ONE_POD not in modes:
        return report.problem(f"{seen}: no step can write", make)
    if num_pods <= 1:
        reason = "a second run at the same time would wait for the first"
    elif _ONE not in modes:
        return report.problem(f"{seen}, but {num_pods} pods write at the same time", make)
    elif _num_nodes(target) == 1:
        reason = f"{num_pods} pods write at the same time, which one node alone allows"
    else:
        seen += f", but {num_pods} pods on several nodes write at the same time"
        return report.problem(seen, f"{make}; or set search.workers=1")
    return report.warning(f"{seen}: {reason}", make)


def _num_nodes(target: Target) -> int | None:
    """Return the number of nodes that pods may run on; None without the right to see them."""
    try:
        return len(usable_nodes(target.kube))
    except KubeError:
        return None


def _unbound(
    target: Target, name: str, phase: str, spec: JsonObject, report: Reporter
) -> ClusterFinding | None:
    seen = f"{name} is {phase}, not Bound"
    if phase == "Lost":
        return report.problem(seen, "its volume is gone; delete the claim and make it again")
    try:
        mode = _binding_mode(target, spec.get("storageClassName"))
    except Missing as error:
        storage = target.kube.kubectl("get", "storageclass")
        advice = f"make the claim again with a storageClassName that {storage} shows"
        return report.problem(f"{seen}: {error}", advice)
    except KubeError:
        mode = None  # no right to see the class of storage; the first pod may bind the claim
    if mode == _WAITING:
        return report.ok(f"{name} is bound when the first pod uses it ({_WAITING})")
    describe = target.kubectl("describe", "pvc", name)
    advice = f"pods wait until it is bound; {describe} says what it waits for"
    return report.warning(seen, advice) if mode is None else report.problem(seen, advice)


def _binding_mode(target: Target, class_name: str | None) -> str | None:
    """Return when volumes of a class are bound; None for a claim with a volume given by hand.

    Raises:
        Missing: there is no such class, or no default one.
        KubeError: it cannot be read.
    """
    if class_name == "":
        return None
    classes = Resource("storage.k8s.io/v1", "storageclasses")
    if class_name is not None:
        found = target.kube.get(replace(classes, name=class_name))
    else:
        defaults = [one for one in target.kube.items(classes) if _is_default(one)]
        if not defaults:
            raise Missing("it names no StorageClass, and none is the default")
        found = defaults[0]
    return str(found.get("volumeBindingMode") or "Immediate")


def _is_default(storage_class: JsonObject) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return bool(annotations.get("storageclass.kubernetes.io/is-default-class") == "true")
