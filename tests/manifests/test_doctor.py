"""`nas doctor --cluster`, the last command of every way to install, on what the way has made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kube_api import KubeApi
from kube_cluster import DEFAULTS, HEALTH, add_node
from manifest_build import WAYS, build, find, namespace
from manifest_cluster import compiled, fill, settings, target
from manifest_labels import PROFILE_LABELS

from pipelines.kubeflow.doctor.examine import examine
from pipelines.kubeflow.doctor.findings import ClusterFinding
from pipelines.kubeflow.doctor.target import Target

# What secrets.sh makes (test_scripts), and the profile controller of KFP.
SECRETS = {
    "nas-study": ["url"],
    "nas-mlflow": ["username", "password"],
    "nas-s3": ["access-key-id", "secret-access-key"],
    "mlpipeline-minio-artifact": ["accesskey", "secretkey"],
}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    api = KubeApi()
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield api
    api.close()


def install(api: KubeApi, way: str) -> Target:
    """Kubeflow 2.17 as the way expects it, and all objects of the way."""
    config, demand = compiled(settings(way))
    fill(api, way, demand)
    objects, where = build(way), namespace(way)
    labels: dict[str, str] = {} if where == "kubeflow" else dict(PROFILE_LABELS)
    for one in objects:
        name, kind = one["metadata"]["name"], one["kind"]
        if kind == "Namespace":
            labels |= one["metadata"]["labels"]
        elif kind == "ConfigMap":
            api.put(kind, name, where, data=one["data"])
        elif kind in ("ServiceAccount", "Service", "Deployment", "StatefulSet"):
            api.put(kind, name, where, spec=one.get("spec"))
        elif kind == "PersistentVolumeClaim":
            modes = one["spec"]["accessModes"]
            status = {"phase": "Bound", "accessModes": modes}
            api.put(kind, name, where, spec=one["spec"], status=status)
    api.put("Namespace", where, metadata={"labels": labels})
    rules = find(objects, "Role", "nas-steps")["rules"]
    [subject] = find(objects, "RoleBinding", "nas-steps")["subjects"]
    api.granted[f"{subject['namespace']}/{subject['name']}"] = {
        (verb, what) for rule in rules for verb in rule["verbs"] for what in rule["resources"]
    }
    for name, keys in SECRETS.items():
        api.put("Secret", name, where, type="Opaque", data=dict.fromkeys(keys, "eA=="))
    _kubeflow(api, multi_user=where != "kubeflow")
    add_node(api, "small-1")
    if way not in ("local", "single-user"):
        taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        add_node(api, "gpu-1", gpus=8, taints=[taint])
    return target(way, config, demand, api.raw[HEALTH])


def _kubeflow(api: KubeApi, *, multi_user: bool) -> None:
    if multi_user:
        api.put("Namespace", "kubeflow", metadata={"labels": {}})
    api.put("Service", "ml-pipeline", "kubeflow", spec={"ports": [{"port": 8888}]})
    data = {"workflowDefaults": DEFAULTS, "executor": "imagePullPolicy: IfNotPresent\n"}
    api.put("ConfigMap", "workflow-controller-configmap", "kubeflow", data=data)
    api.raw[HEALTH] = {"tag_name": "2.17.0", "multi_user": multi_user, "pipeline_store": "database"}


def wrong(one: Target) -> list[ClusterFinding]:
    return [finding for finding in examine(one) if finding.state != "ok"]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_missing_after_an_installation(api: KubeApi, way: str) -> None:
    found = wrong(install(api, way))
    # A volume of one node is right on a machine that is one node.
    assert [one for one in found if (way, one.name) != ("local", "claim")] == []
    assert all(one.state != "problem" for one in found)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_missing_is_seen(api: KubeApi, way: str) -> None:
    one = install(api, way)
    api.drop("Secret", "nas-study", namespace(way))
    api.drop("ServiceAccount", "nas-steps", namespace(way))
    problems = {finding.name for finding in wrong(one) if finding.state == "problem"}
    assert {"secret", "service-account"} <= problems
