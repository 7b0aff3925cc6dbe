"""Nodes of the cluster: readiness, labels, taints, sizes, and whether nodes are added."""

from collections.abc import Mapping
from decimal import Decimal

from pipelines.kubeflow.doctor.client import JsonObject, Kube, KubeError, Resource
from pipelines.kubeflow.doctor.quantities import amounts

ARCH, _OS = "kubernetes.io/arch", "kubernetes.io/os"
ARCHITECTURE = "amd64"
"""Architecture of the image of the steps."""
NODES = Resource("v1", "nodes")
TAINTS = ("get", "nodes", "-o", "custom-columns=NAME:.metadata.name,TAINTS:.spec.taints")
"""Words of the command that shows the taints."""
_KEEPS_OUT = ("NoSchedule", "NoExecute")
_STATUS = Resource("v1", "configmaps", "kube-system", "cluster-autoscaler-status")
_POOL = "karpenter.sh/nodepool"


def labels_of(node: JsonObject) -> Mapping[str, str]:
    """Return the labels of a node."""
    return node["metadata"].get("labels") or {}


def architecture_of(node: JsonObject) -> str:
    """Return the architecture of a node."""
    return labels_of(node).get(ARCH, ARCHITECTURE)


def usable_nodes(kube: Kube) -> list[JsonObject]:
    """Return the nodes that accept pods: Linux, ready, not cordoned. Raises KubeError."""
    return [node for node in kube.items(NODES) if takes_pods(node)]


def takes_pods(node: JsonObject) -> bool:
    """Return whether a node runs Linux, is ready, and is not cordoned."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    is_cordoned = bool((node.get("spec") or {}).get("unschedulable"))
    return is_ready and not is_cordoned and labels_of(node).get(_OS, "linux") == "linux"


def untolerated(node: JsonObject, tolerations: tuple[Mapping[str, str], ...]) -> list[JsonObject]:
    """Return the taints of a node that keep a pod with these tolerations out."""
    taints = (node.get("spec") or {}).get("taints") or ()
    return [
        taint
        for taint in taints
        if taint["effect"] in _KEEPS_OUT and not any(_tolerates(one, taint) for one in tolerations)
    ]


def _tolerates(toleration: Mapping[str, str], taint: JsonObject) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def may_grow(kube: Kube, nodes: list[JsonObject]) -> bool:
    """Return whether an autoscaler adds nodes when pods wait, as far as that is visible."""
    if any(_POOL in labels_of(node) for node in nodes):
        return True
    try:
        kube.get(_STATUS)
    except KubeError:
        return False
    return True


def allocatable(node: JsonObject, resource: str) -> Decimal:
    """Return the amount of a resource that a node offers to pods; a new node has no status."""
    return amounts((node.get("status") or {}).get("allocatable")).get(resource, Decimal(0))
