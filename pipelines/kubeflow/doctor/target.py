"""What is examined: a compiled pipeline, and where and as whom it would run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.config.schema import Config
from pipelines.kubeflow.doctor.client import Kube, Resource
from pipelines.kubeflow.doctor.demand import Demand

KUBEFLOW = "kubeflow"
"""Namespace of Kubeflow Pipelines, unless another one is named."""
SERVER = "ml-pipeline"
"""Service and Deployment of KFP's API server."""


@dataclass(frozen=True, slots=True)
class Target:
    """A pipeline and a place for it.

    Attributes:
        namespace: in which its pods would be.
        kubeflow: namespace of Kubeflow Pipelines.
        account: service account that was asked for; None for the one that Kubeflow takes.
        health: what KFP's API server says of itself; None when it was not reached.
    """

    kube: Kube
    config: Config
    demand: Demand
    namespace: str
    kubeflow: str
    account: str | None
    health: Mapping[str, Any] | None

    @property
    def is_multi_user(self) -> bool | None:
        """Whether KFP has profiles; None when that is not known."""
        return None if self.health is None else bool(self.health.get("multi_user"))

    def own(self, plural: str, name: str = "", *, group: str = "v1") -> Resource:
        """Name objects in the namespace of the pods."""
        return Resource(group, plural, self.namespace, name)

    def kubectl(self, *words: str) -> str:
        """Return a command line for the namespace of the pods."""
        return self.kube.kubectl(*words, namespace=self.namespace)
