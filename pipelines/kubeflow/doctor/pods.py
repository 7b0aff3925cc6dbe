"""Complete pod of a step: its container, and those that Kubeflow and Argo add.

Names and amounts are those of Kubeflow Pipelines 2.17 (`backend/src/v2/compiler/argocompiler`) and
Argo Workflows 4 (`workflow/controller/workflowpod.go`).
"""

from typing import Any

import yaml

from pipelines.kubeflow.doctor.client import KubeError, Resource
from pipelines.kubeflow.doctor.demand import Step
from pipelines.kubeflow.doctor.kubeflow import CONTROLLER
from pipelines.kubeflow.doctor.quantities import Container, PodDemand
from pipelines.kubeflow.doctor.target import Target

_LAUNCHER = {"requests": {"cpu": "0.1"}, "limits": {"cpu": "0.5", "memory": "256Mi"}}


def demand_of_step(target: Target, step: Step) -> PodDemand:
    """Return the requests of the pod of a step, without the defaults of limit ranges."""
    executor = _executor(target)
    before = (Container.of("init", executor), Container.of("kfp-launcher", _LAUNCHER))
    return PodDemand((step.container, Container.of("wait", executor)), before)


def _executor(target: Target) -> Any:
    """Return the resources of Argo's containers; None unless an administrator has set them."""
    resource = Resource("v1", "configmaps", target.kubeflow, CONTROLLER)
    try:
        data = target.kube.get(resource).get("data") or {}
        executor = yaml.safe_load(data.get("executor") or "") or {}
    except (KubeError, yaml.YAMLError):  # the check of the workflow defaults reports it
        return None
    return executor.get("resources") if isinstance(executor, dict) else None
