"""A sound cluster in the stand-in for the Kubernetes API, which each test spoils in one way."""

import json
from functools import cache
from typing import Any

from kube_api import KubeApi

from components.config.schema import parse
from pipelines.kubeflow.doctor import kubeconfig, kubeflow
from pipelines.kubeflow.doctor.demand import Demand, demand_of
from pipelines.kubeflow.doctor.examine import examine
from pipelines.kubeflow.doctor.findings import ClusterFinding
from pipelines.kubeflow.doctor.target import Target

IMAGE = "repo/nas:1.2"
NAMESPACE, ACCOUNT = "nas", "nas-steps"
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SETTINGS: dict[str, Any] = {
    "search": {"workers": 3, "storage": "env:NAS_STUDY_URL"},
    "tracking": {"uri": "http://nas-mlflow:5000"},
    "cluster": {
        "state": "pvc:nas-state",
        "secrets": {
            "NAS_STUDY_URL": "nas-study/url",
            "MLFLOW_TRACKING_USERNAME": "nas-mlflow/username",
            "MLFLOW_TRACKING_PASSWORD": "nas-mlflow/password",
        },
        "config_maps": {"AWS_ENDPOINT_URL": "nas-settings/AWS_ENDPOINT_URL"},
        "image_pull_secrets": ["registry"],
    },
}
HEALTH = "/api/v1/namespaces/kubeflow/services/ml-pipeline:8888/proxy/apis/v2beta1/healthz"
# The end of KFP 2.17.0's own workflow-controller-configmap.
DEFAULTS = """spec:
  ttlStrategy:
    secondsAfterCompletion: 3600
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""
RIGHTS = {
    ("create", "workflowtaskresults"),
    ("patch", "workflowtaskresults"),
    ("get", "pods"),
    ("get", "configmaps"),
}
QUOTA = {
    "requests.cpu": "128",
    "requests.memory": "512Gi",
    "limits.memory": "640Gi",
    "requests.nvidia.com/gpu": "8",
    "pods": "150",
}
LIMITS = {
    "type": "Container",
    "defaultRequest": {"cpu": "50m", "memory": "64Mi"},
    "default": {"memory": "512Mi"},
}


def add_node(api: KubeApi, name: str, *, gpus: int = 0, arch: str = "amd64", **spec: Any) -> None:
    labels = {"kubernetes.io/arch": arch, "kubernetes.io/os": "linux"}
    size = {"cpu": "63770m", "memory": "263847280Ki", "pods": "110"}
    if gpus:
        labels["nvidia.com/gpu.product"] = "NVIDIA-A100-SXM4-80GB"
        size["nvidia.com/gpu"] = str(gpus)
    api.put(
        "Node",
        name,
        metadata={"labels": labels},
        spec=spec,
        status={
            "allocatable": size,
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True"},
            ],
        },
    )


def fill(api: KubeApi) -> None:
    """A profile in a Kubeflow 2.17.0 with a GPU node, as the GPU overlay of the manifests wants."""
    api.put("Namespace", "kubeflow", metadata={"labels": {}})
    api.put("Service", "ml-pipeline", "kubeflow", spec={"ports": [{"port": 8888}]})
    containers = [{"name": "ml-pipeline-api-server", "image": "ghcr.io/kfp-api-server:2.17.0"}]
    api.put(
        "Deployment",
        "ml-pipeline",
        "kubeflow",
        spec={"template": {"spec": {"containers": containers}}},
    )
    data = {"workflowDefaults": DEFAULTS, "executor": "imagePullPolicy: IfNotPresent\n"}
    api.put("ConfigMap", "workflow-controller-configmap", "kubeflow", data=data)
    api.raw[HEALTH] = {"tag_name": "2.17.0", "multi_user": True, "pipeline_store": "database"}
    labels = {
        "app.kubernetes.io/part-of": "kubeflow-profile",
        "pod-security.kubernetes.io/enforce": "restricted",
    }
    api.put("Namespace", NAMESPACE, metadata={"labels": labels})
    api.put("ServiceAccount", ACCOUNT, NAMESPACE)
    api.granted[f"{NAMESPACE}/{ACCOUNT}"] = set(RIGHTS)
    for name, keys in {
        "nas-study": ["url"],
        "nas-mlflow": ["username", "password"],
        "mlpipeline-minio-artifact": ["accesskey", "secretkey"],
    }.items():
        values = dict.fromkeys(keys, "aHVudGVyMg==")
        api.put("Secret", name, NAMESPACE, type="Opaque", data=values)
    docker = {".dockerconfigjson": "e30="}
    api.put("Secret", "registry", NAMESPACE, type="kubernetes.io/dockerconfigjson", data=docker)
    api.put("ConfigMap", "nas-settings", NAMESPACE, data={"AWS_ENDPOINT_URL": "http://s3:8333"})
    api.put(
        "PersistentVolumeClaim",
        "nas-state",
        NAMESPACE,
        spec={"accessModes": ["ReadWriteMany"], "storageClassName": "nfs"},
        status={"phase": "Bound", "accessModes": ["ReadWriteMany"]},
    )
    api.put("ResourceQuota", "nas", NAMESPACE, spec={"hard": dict(QUOTA)})
    limits = {name: dict(v) if isinstance(v, dict) else v for name, v in LIMITS.items()}
    api.put("LimitRange", "nas", NAMESPACE, spec={"limits": [limits]})
    add_node(api, "gpu-1", gpus=8, taints=[GPU_TAINT])
    add_node(api, "small-1")


@cache
def _compiled(text: str, kind: Any) -> Demand:
    return demand_of(parse(json.loads(text)), kind=kind, image=IMAGE)


def demand(settings: dict[str, Any], kind: Any = "search") -> Demand:
    """Compiled once for the same settings: it takes most of the time of a test."""
    return _compiled(json.dumps(settings), kind)


def target(
    settings: dict[str, Any] = SETTINGS,
    *,
    kind: Any = "search",
    namespace: str = NAMESPACE,
    account: str | None = ACCOUNT,
) -> Target:
    kube = kubeconfig.connect()
    assert kube is not None
    return Target(
        kube,
        parse(settings),
        demand(settings, kind),
        namespace,
        "kubeflow",
        account,
        kubeflow.health(kube, "kubeflow"),
    )


def findings(which: Target | None = None) -> list[ClusterFinding]:
    return list(examine(which or target()))


def wrong(which: Target | None = None) -> list[ClusterFinding]:
    return [finding for finding in findings(which) if finding.state != "ok"]


def only(which: Target | None = None) -> ClusterFinding:
    """The one finding that is not ok."""
    (finding,) = wrong(which)
    return finding
