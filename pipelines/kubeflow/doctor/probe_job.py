"""Job of the probe: one pod like those that Kubeflow creates for steps."""

import json
import uuid
from typing import Any

from components.config.schema import Config
from pipelines.doctor.pod_checks import REACH
from pipelines.kubeflow.doctor.client import JsonObject, KubeError, Resource
from pipelines.kubeflow.doctor.demand import Step
from pipelines.kubeflow.doctor.target import Target

LABELS = {"app.kubernetes.io/name": "nas-doctor"}
_SIZE = {
    "requests": {"cpu": "250m", "memory": "1Gi"},
    "limits": {"cpu": "1", "memory": "2Gi"},
}
_KEPT_S = 300
_STORES = ("seaweedfs", "minio-service")
"""Names of the service of Kubeflow's object store, by version."""


def job_of(target: Target, name: str, account: str, *, limit_s: float) -> JsonObject:
    """Return a Job that runs `nas doctor` once; the cluster removes it some time after its end.

    Args:
        target: target of the checks.
        name: name of the Job.
        account: service account of its pod.
        limit_s: time after which the cluster ends it.
    """
    step = next(one for one in target.demand.steps if one.name == "prepare_data")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(limit_s),
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": {
                # Network policies select the pods of steps by the label of the run.
                "metadata": {
                    "labels": {**LABELS, "pipeline/runid": str(uuid.uuid4())},
                    "annotations": {"sidecar.istio.io/inject": "false"},
                },
                "spec": _pod(target, step, account),
            },
        },
    }


def _pod(target: Target, step: Step, account: str) -> JsonObject:
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in step.claims]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": dict(step.node_selector),
        "tolerations": [dict(one) for one in step.tolerations],
        "imagePullSecrets": [{"name": name} for name in step.pull_secrets],
        "volumes": claims,
        "containers": [_container(target, step)],
    }


def _container(target: Target, step: Step) -> JsonObject:
    reach = {"name": REACH, "value": " ".join(servers(target))}
    user: JsonObject = {}
    if step.user is not None:
        user = {"runAsUser": step.user, "runAsGroup": step.user, "runAsNonRoot": True}
    return {
        "name": "main",
        "image": target.demand.image,
        "command": ["nas", "doctor", "--json"],
        "args": [word for setting in settings(target.config) for word in ("--set", setting)],
        "env": [*step.environment, reach],
        "resources": _SIZE,
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in step.claims.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            **user,
        },
    }


def settings(config: Config) -> list[str]:
    """Return the settings of `nas doctor` in the pod; no device, since the pod has no GPU."""
    given: dict[str, Any] = {
        "method": config.method,
        "data": config.data.model_dump(mode="json", exclude_unset=True),
        "tracking.uri": config.tracking.uri,
        "search.storage": config.search.storage,
        "promote.export_to": config.promote.export_to,
        "registry.model": config.registry.model,
    }
    # JSON is YAML, which is what values of settings are read as.
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def servers(target: Target) -> list[str]:
    """Return the servers to which Kubeflow's containers in the pod of a step connect."""
    place = target.kubeflow
    store = next((name for name in _STORES if _is_there(target, name)), _STORES[0])
    return [
        f"ml-pipeline.{place}:8887",
        f"metadata-grpc-service.{place}:8080",
        f"{store}.{place}:9000",
        "kubernetes.default.svc:443",
    ]


def _is_there(target: Target, service: str) -> bool:
    try:
        return target.kube.has(Resource("v1", "services", target.kubeflow, service))
    except KubeError:  # no right to see it, so the usual one is tried
        return service == _STORES[0]
