"""Nodes and volumes that pods could not use."""

from typing import Any

import pytest
from kube_api import KubeApi
from kube_cluster import GPU_TAINT, NAMESPACE, SETTINGS, add_node, only, target, wrong

LONELY = {**SETTINGS, "search": {"storage": "env:NAS_STUDY_URL"}}


def cluster(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, "cluster": {**SETTINGS["cluster"], **changes}}


def node(api: KubeApi, name: str) -> Any:
    return api.find("Node", name)


# --- nodes ----------------------------------------------------------------------------------


def test_no_node_with_gpus(api: KubeApi) -> None:
    del node(api, "gpu-1")["status"]["allocatable"]["nvidia.com/gpu"]
    found = only()
    assert (found.name, found.state) == ("nodes", "problem")
    assert found.seen.endswith("train_final, train_references: none offers nvidia.com/gpu")
    assert "--set cluster.steps.train_final.gpus=0" in found.advice
    assert "allocatable.nvidia\\.com/gpu" in found.command


def test_more_gpus_than_any_node_has(api: KubeApi) -> None:
    found = next(
        one
        for one in wrong(target(cluster(steps={"train_final": {"gpus": 9}})))
        if one.name == "nodes"
    )
    assert found.seen == "no node can take train_final: none has 9 nvidia.com/gpu, but 8 at most"


def test_a_gpu_resource_of_another_name(api: KubeApi) -> None:
    found = only(target(cluster(gpu_type="nvidia.com/mig-1g.10gb")))
    assert "none offers nvidia.com/mig-1g.10gb" in found.seen
    assert "correct cluster.gpu_type" in found.advice


@pytest.mark.parametrize(
    ("tolerations", "fits"),
    [
        ([], False),
        ([{"key": "nvidia.com/gpu"}], True),
        ([{}], True),
        ([{"key": "nvidia.com/gpu", "effect": "NoExecute"}], False),
        ([{"key": "nvidia.com/gpu", "operator": "Equal", "value": "present"}], True),
        ([{"key": "nvidia.com/gpu", "operator": "Equal", "value": "true"}], False),
        ([{"key": "nvidia.com/gpu", "operator": "Equal"}], False),
    ],
)
def test_taints_of_gpu_nodes(api: KubeApi, tolerations: list[Any], fits: bool) -> None:
    found = wrong(target(cluster(gpu_tolerations=tolerations)))
    assert [one.name for one in found] == ([] if fits else ["nodes"])
    if not fits:
        assert found[0].seen.endswith("tolerate: nvidia.com/gpu=present:NoSchedule")
        assert "cluster.gpu_tolerations" in found[0].advice
        assert found[0].command.endswith("TAINTS:.spec.taints")


def test_a_taint_that_only_advises_keeps_nobody_out(api: KubeApi) -> None:
    for name in ("gpu-1", "small-1"):
        node(api, name)["spec"]["taints"] = [{**GPU_TAINT, "effect": "PreferNoSchedule"}]
    assert wrong(target(cluster(gpu_tolerations=[]))) == []


def test_labels_that_no_node_has(api: KubeApi) -> None:
    product = {"nvidia.com/gpu.product": "NVIDIA-H100"}
    found = only(target(cluster(gpu_node_selector=product)))
    assert "nvidia.com/gpu.product=NVIDIA-H100 (there: NVIDIA-A100-SXM4-80GB)" in found.seen
    found = only(target(cluster(node_selector={"disk": "ssd"})))
    assert "none has the label disk=ssd" in found.seen
    assert found.command == "kubectl get nodes -L disk"


def test_nodes_that_are_too_small(api: KubeApi) -> None:
    for name in ("gpu-1", "small-1"):
        node(api, name)["status"]["allocatable"]["memory"] = "15Gi"
    assert wrong(target(LONELY)) == [], "16 GB are less"
    for name in ("gpu-1", "small-1"):
        node(api, name)["status"]["allocatable"]["memory"] = "14Gi"
    found = only(target(LONELY))
    assert found.seen.endswith("14.9Gi memory are asked for, and the largest offers 14Gi")
    assert "--set cluster.steps.search.memory=SIZE" in found.advice


def test_nodes_that_take_no_pods(api: KubeApi) -> None:
    node(api, "gpu-1")["spec"]["unschedulable"] = True
    assert "none offers nvidia.com/gpu" in only().seen
    del node(api, "gpu-1")["spec"]["unschedulable"]
    node(api, "gpu-1")["status"]["conditions"][1]["status"] = "Unknown"
    assert "none offers nvidia.com/gpu" in only().seen
    for name in ("gpu-1", "small-1"):
        del node(api, name)["status"]  # new nodes
    found = {one.name: one for one in wrong()}
    assert "none of 2 nodes is ready" in found["nodes"].seen
    assert "none of 0 nodes takes Kubeflow's driver pods" in found["driver-nodes"].seen


def test_drivers_need_a_node_without_taints(api: KubeApi) -> None:
    node(api, "small-1")["spec"]["taints"] = [{"key": "pool", "effect": "NoExecute"}]
    pool = [{"key": "pool"}]
    found = only(target(cluster(tolerations=pool)))
    assert (found.name, found.state) == ("driver-nodes", "problem")
    assert "keep a small node without taints" in found.advice


def test_nodes_of_other_architectures(api: KubeApi) -> None:
    add_node(api, "arm-1", arch="arm64")
    found = only()
    assert (found.name, found.state) == ("architecture", "warning")
    assert found.advice == "--set 'cluster.node_selector={kubernetes.io/arch: amd64}'"
    assert wrong(target(cluster(node_selector={"kubernetes.io/arch": "amd64"}))) == []
    for name in ("gpu-1", "small-1"):
        api.drop("Node", name)
    assert "all are of arm64, and the image is built for amd64" in wrong()[0].seen
    assert wrong()[0].state == "problem"


def test_windows_nodes_do_not_count(api: KubeApi) -> None:
    for name in ("gpu-1", "small-1"):
        node(api, name)["metadata"]["labels"]["kubernetes.io/os"] = "windows"
    assert {one.name for one in wrong()} == {"nodes", "driver-nodes"}


@pytest.mark.parametrize("how", ["cluster-autoscaler", "karpenter"])
def test_where_nodes_are_made_when_pods_wait_it_is_a_warning(api: KubeApi, how: str) -> None:
    api.drop("Node", "gpu-1")
    assert only().state == "problem"
    if how == "karpenter":
        node(api, "small-1")["metadata"]["labels"]["karpenter.sh/nodepool"] = "default"
    else:
        api.put("ConfigMap", "cluster-autoscaler-status", "kube-system", data={"status": "ok"})
    found = only()
    assert (found.name, found.state) == ("nodes", "warning")
    assert "right only where new nodes" in found.advice


# --- the claim ------------------------------------------------------------------------------


def claim(api: KubeApi, *modes: str, phase: str | None = "Bound", **spec: Any) -> None:
    status = {} if phase is None else {"status": {"phase": phase}}
    content = {"spec": {"accessModes": list(modes), **spec}, **status}
    api.put("PersistentVolumeClaim", "nas-state", NAMESPACE, **content)


def test_a_claim_that_is_not_there(api: KubeApi) -> None:
    api.drop("PersistentVolumeClaim", "nas-state", NAMESPACE)
    found = only()
    assert (found.name, found.state) == ("claim", "problem")
    assert found.command == "kubectl -n nas get pvc nas-state"
    assert "manifests/state-volume" in found.advice


@pytest.mark.parametrize(
    ("modes", "state", "told"),
    [
        (["ReadWriteOnce"], "problem", "3 pods on several nodes write at the same time"),
        (["ReadWriteOncePod"], "problem", "3 pods write at the same time"),
        (["ReadOnlyMany"], "problem", "no step can write"),
        ([], "problem", "access mode none"),
    ],
)
def test_access_modes_for_search_and_workers(
    api: KubeApi, modes: list[str], state: str, told: str
) -> None:
    claim(api, *modes)
    found = only()
    assert (found.name, found.state) == ("claim", state)
    assert told in found.seen
    assert "ReadWriteMany" in found.advice


def test_a_volume_of_one_node_does_for_one_pod_and_for_one_node(api: KubeApi) -> None:
    claim(api, "ReadWriteOnce")
    assert only(target(LONELY)).state == "warning"
    api.drop("Node", "small-1")
    node(api, "gpu-1")["spec"]["taints"] = []
    found = only()
    assert found.state == "warning"
    assert "which one node alone allows" in found.seen
    api.denied = {("list", "nodes")}
    claims = [one for one in wrong() if one.name == "claim"]
    assert [one.state for one in claims] == ["problem"], "several nodes, as far as one can know"


@pytest.mark.parametrize("phase", ["Pending", None])
def test_a_claim_that_is_bound_by_the_first_pod(api: KubeApi, phase: str | None) -> None:
    claim(api, "ReadWriteMany", phase=phase, storageClassName="nfs")
    found = only()
    assert found.state == "problem"
    assert 'storageclasses.storage.k8s.io "nfs" not found' in found.seen
    api.put("StorageClass", "nfs", volumeBindingMode="WaitForFirstConsumer")
    assert wrong() == []
    api.put("StorageClass", "nfs")  # bound at once, which has not been done
    assert only().state == "problem"
    assert "describe pvc nas-state" in only().advice
    api.denied = {("get", "storageclasses")}
    assert only().state == "warning"


def test_a_claim_of_the_default_class(api: KubeApi) -> None:
    claim(api, "ReadWriteMany", phase="Pending")
    assert only().state == "problem"
    assert "names no StorageClass, and none is the default" in only().seen
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    waits = "WaitForFirstConsumer"
    api.put("StorageClass", "standard", metadata=default, volumeBindingMode=waits)
    assert wrong() == []
    claim(api, "ReadWriteMany", phase="Pending", storageClassName="")
    assert only().state == "warning", "somebody gives it a volume"


def test_a_claim_whose_volume_is_gone(api: KubeApi) -> None:
    claim(api, "ReadWriteMany", phase="Lost")
    found = only()
    assert found.state == "problem"
    assert "its volume is gone" in found.advice


def test_no_claim_without_one_in_the_configuration(api: KubeApi) -> None:
    api.drop("PersistentVolumeClaim", "nas-state", NAMESPACE)
    assert wrong(target(cluster(state="s3://states/nas"))) == []
