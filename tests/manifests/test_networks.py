"""Who may reach whom in each way to install, against the labels of Kubeflow's own pods."""

import copy
from collections.abc import Callable

import pytest
from manifest_build import CLOSED, EGRESS, SHARED, WAYS, build, find, namespace
from manifest_labels import (
    ARTIFACT_PROXY,
    DNS,
    KFP_PODS,
    NOTEBOOK,
    PROFILE_LABELS,
    SEAWEEDFS_POLICY,
    Pod,
    step,
)
from manifest_objects import Object, pods
from manifest_traffic import allowed, selecting

ALL = "+state-volume+backup+clean-state"
PUBLIC, PRIVATE, METADATA = "20.61.4.7", "10.1.2.3", "169.254.169.254"


def policies(way: str) -> list[Object]:
    """With Kubeflow's own policy around its object store."""
    return [*build(way), SEAWEEDFS_POLICY]


def ours(way: str, name: str) -> Pod:
    """A pod of our own, by the name of what starts it."""
    objects = build(way)
    [(_, template)] = [each for each in pods(objects) if each[0].endswith(f"/{name}")]
    ports = tuple(
        port["containerPort"]
        for one in template["spec"]["containers"]
        for port in one.get("ports", [])
    )
    of_namespace = {} if way.startswith("single-user") else PROFILE_LABELS
    return Pod(
        template["metadata"]["labels"],
        namespace=namespace(way),
        ports=ports,
        namespace_labels=of_namespace,
    )


# --- what must work -------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("target", "port"),
    [
        ("metadata-grpc-server", 8080),  # every driver and launcher (finding C2)
        ("ml-pipeline", 8887),
        ("ml-pipeline", 8888),
        ("seaweedfs", 8333),
    ],
)
def test_a_step_reaches_kubeflow(way: str, target: str, port: int) -> None:
    assert port in KFP_PODS[target].ports, "policies see the port of the pod"
    assert allowed(policies(way), step(namespace(way)), KFP_PODS[target], port)


@pytest.mark.parametrize("way", WAYS)
def test_a_step_reaches_the_services_and_these_what_they_need(way: str) -> None:
    one, objects = step(namespace(way)), policies(way)
    mlflow, postgres = ours(way, "nas-mlflow"), ours(way, "nas-postgres")
    assert allowed(objects, one, mlflow, 5000)
    assert allowed(objects, one, postgres, 5432)
    assert allowed(objects, mlflow, postgres, 5432)
    assert allowed(objects, mlflow, KFP_PODS["seaweedfs"], 8333)
    # The MLflow plugin of KFP makes a run for each run of a pipeline.
    assert allowed(objects, KFP_PODS["ml-pipeline"], mlflow, 5000)


@pytest.mark.parametrize("way", WAYS)
def test_backup_and_clean_up_reach_what_they_need(way: str) -> None:
    way += ALL if way != "local" else "+backup+clean-state"
    objects, postgres = policies(way), ours(way, "nas-postgres")
    for name in ("nas-postgres-backup", "nas-postgres-restore"):
        assert allowed(objects, ours(way, name), postgres, 5432)
        assert not allowed(objects, ours(way, name), PUBLIC, 443) or way.startswith("prod")
    assert allowed(objects, ours(way, "nas-clean-state"), KFP_PODS["seaweedfs"], 8333)
    assert not allowed(objects, ours(way, "nas-clean-state"), postgres, 5432)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_all_resolve_names(way: str, protocol: str) -> None:
    for one in (step(namespace(way)), ours(way, "nas-mlflow")):
        assert allowed(policies(way), one, DNS["kube-dns"], 53, protocol)


def test_production_reaches_an_object_store_outside() -> None:
    way = "prod+clean-state"
    for one in (step("nas"), ours(way, "nas-mlflow"), ours(way, "nas-clean-state")):
        assert allowed(policies(way), one, PUBLIC, 443)
        assert not allowed(policies(way), one, METADATA, 443)
    assert not allowed(policies("gpu"), step("nas"), PUBLIC, 443)


# --- what must not be touched (finding C5) --------------------------------------------------


@pytest.mark.parametrize("way", SHARED)
def test_no_policy_selects_a_pod_of_kubeflow_or_of_others(way: str) -> None:
    extra = [one for one in EGRESS if one != "egress/cilium"]
    objects = build("+".join([way + ALL, *extra]))
    others = [*KFP_PODS.values(), ARTIFACT_PROXY, NOTEBOOK, step("x", of_ours=False)]
    for pod in others:
        here = Pod(pod.labels, namespace=namespace(way))
        assert list(selecting(objects, here)) == [], pod.labels


@pytest.mark.parametrize("way", CLOSED)
def test_a_closed_namespace_lets_nothing_pass_but_what_is_named(way: str) -> None:
    objects, one = policies(way), step("nas")
    assert not allowed(objects, one, KFP_PODS["mysql"], 3306)
    assert not allowed(objects, one, KFP_PODS["seaweedfs"], 9333)
    assert not allowed(objects, one, PUBLIC, 80)
    assert not allowed(objects, NOTEBOOK, ours(way, "nas-mlflow"), 5000)
    assert not allowed(objects, NOTEBOOK, ours(way, "nas-postgres"), 5432)
    assert not allowed(objects, ours(way, "nas-postgres"), PUBLIC, 443)
    stranger = Pod({"app": "anything"}, namespace="nas")
    assert not allowed(objects, stranger, ours(way, "nas-mlflow"), 5000)
    assert not allowed(objects, stranger, KFP_PODS["ml-pipeline"], 8888)


@pytest.mark.parametrize("way", SHARED)
def test_services_are_closed_in_a_shared_namespace_too(way: str) -> None:
    objects = policies(way)
    for name, port in (("nas-mlflow", 5000), ("nas-postgres", 5432)):
        stranger = Pod({"app": "anything"}, namespace=namespace(way))
        assert not allowed(objects, stranger, ours(way, name), port)
        assert not allowed(objects, ours(way, name), PUBLIC, 443)


# --- egress variants (findings M6, L12) -----------------------------------------------------


@pytest.mark.parametrize(
    ("component", "target", "port", "protocol"),
    [
        ("egress/public-api", PUBLIC, 443, "TCP"),  # AKS
        ("egress/api-ports", "192.168.49.2", 8443, "TCP"),  # minikube
        ("egress/api-ports", "192.168.1.20", 16443, "TCP"),  # MicroK8s
        ("egress/node-local-dns", "169.254.20.10", 53, "UDP"),
        ("egress/node-local-dns", "169.254.20.10", 53, "TCP"),
        ("egress/node-local-dns", "169.254.25.10", 53, "UDP"),  # kubespray
        ("egress/node-local-dns", "10.96.0.10", 53, "UDP"),  # the service's own address
        ("egress/openshift-dns", DNS["openshift-dns"], 5353, "UDP"),
        ("egress/openshift-dns", DNS["openshift-dns"], 5353, "TCP"),
        ("egress/minio", KFP_PODS["minio"], 9000, "TCP"),
    ],
)
def test_a_variant_opens_what_the_cluster_has_and_the_others_keep_it_shut(
    component: str, target: Pod | str, port: int, protocol: str
) -> None:
    one = step("nas")
    assert allowed(build(f"gpu+{component}"), one, target, port, protocol)
    for other in ("", *EGRESS):
        if other != component:
            way = f"gpu+{other}" if other else "gpu"
            assert not allowed(build(way), one, target, port, protocol), way


@pytest.mark.parametrize("api", ["10.0.0.1:443", "172.18.0.2:6443", "192.168.1.20:6443"])
@pytest.mark.parametrize("way", CLOSED)
def test_the_api_of_most_clusters_needs_no_variant(way: str, api: str) -> None:
    address, _, port = api.partition(":")
    assert allowed(build(way), step("nas"), address, int(port))


@pytest.mark.parametrize("way", [*CLOSED, *SHARED])
def test_names_and_object_store_of_the_services_follow_the_variant(way: str) -> None:
    """MLflow resolves names and keeps artifacts, also where steps are not restricted."""
    objects = build(f"{way}+egress/node-local-dns+egress/openshift-dns+egress/minio")
    mlflow = ours(way, "nas-mlflow")
    assert allowed(objects, mlflow, "169.254.20.10", 53, "UDP")
    assert allowed(objects, mlflow, DNS["openshift-dns"], 5353, "UDP")
    assert allowed(objects, mlflow, KFP_PODS["minio"], 9000)
    if way != "prod":
        settings = find(objects, "ConfigMap", "nas-settings")["data"]
        assert settings["AWS_ENDPOINT_URL"] == "http://minio-service.kubeflow.svc:9000"


def test_the_clean_up_follows_the_object_store_too() -> None:
    way = "gpu+clean-state+egress/minio"
    assert allowed(build(way), ours(way, "nas-clean-state"), KFP_PODS["minio"], 9000)


def test_a_public_api_does_not_open_the_cloud_s_metadata() -> None:
    assert not allowed(build("gpu+egress/public-api"), step("nas"), METADATA, 443)


def test_cilium_names_the_entity_for_steps_alone() -> None:
    policy = find(build("gpu+egress/cilium"), "CiliumNetworkPolicy", "nas-steps-kube-api")
    assert policy["metadata"]["namespace"] == "nas"
    steps = find(build("gpu"), "NetworkPolicy", "nas-steps")["spec"]["podSelector"]
    assert policy["spec"]["endpointSelector"] == steps
    [rule] = policy["spec"]["egress"]
    assert rule["toEntities"] == ["kube-apiserver"]
    [ports] = [each["ports"] for each in rule["toPorts"]]
    assert {(each["port"], each["protocol"]) for each in ports} == {
        (port, "TCP") for port in ("443", "6443", "8443", "16443")
    }


# --- the checks see what they are there for -------------------------------------------------


def _metadata_by_app(objects: list[Object]) -> None:
    for rule in find(objects, "NetworkPolicy", "nas-steps")["spec"]["egress"]:
        for peer in rule["to"]:
            labels = peer["podSelector"]["matchLabels"]
            if labels.pop("component", None):
                labels["app"] = "metadata-grpc-server"


def _service_port(objects: list[Object]) -> None:
    policy = find(objects, "NetworkPolicy", "nas-steps-object-store")
    policy["spec"]["egress"][0]["ports"][0]["port"] = 9000


@pytest.mark.parametrize(
    ("plant", "target", "port"),
    [(_metadata_by_app, "metadata-grpc-server", 8080), (_service_port, "seaweedfs", 8333)],
)
def test_a_policy_that_names_what_no_pod_has_is_seen(
    plant: Callable[[list[Object]], None], target: str, port: int
) -> None:
    objects = copy.deepcopy(policies("gpu"))
    assert allowed(objects, step("nas"), KFP_PODS[target], port)
    plant(objects)
    assert not allowed(objects, step("nas"), KFP_PODS[target], port)


def test_a_policy_for_all_pods_would_cut_kubeflow_off() -> None:
    objects = [{**one} for one in build("single-user")]
    deny = copy.deepcopy(find(build("gpu"), "NetworkPolicy", "nas-deny-all"))
    deny["metadata"]["namespace"] = "kubeflow"
    assert [*selecting([*objects, deny], KFP_PODS["mysql"])] == [deny]
