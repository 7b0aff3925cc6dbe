"""Target of the checks: a compiled pipeline, and the place and account of its run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.config.schema import Config
from nascore.errors import InputError
from pipelines.definitions.kinds import Kind
from pipelines.kubeflow.doctor.client import Kube, Resource
from pipelines.kubeflow.doctor.demand import Demand, demand_of

KUBEFLOW = "kubeflow"
"""Default namespace of Kubeflow Pipelines."""
SERVER = "ml-pipeline"
"""Service and Deployment of KFP's API server."""


@dataclass(frozen=True, slots=True)
class Target:
    """A pipeline and a place for it.

    Attributes:
        namespace: namespace of its pods.
        kubeflow: namespace of Kubeflow Pipelines.
        account: requested service account; None for Kubeflow's default.
        health: health of KFP's API server; None if it was not reached.
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
        """Whether KFP has profiles; None if that is unknown."""
        return None if self.health is None else bool(self.health.get("multi_user"))

    def own(self, plural: str, name: str = "", *, group: str = "v1") -> Resource:
        """Return the resource of objects in the namespace of the pods."""
        return Resource(group, plural, self.namespace, name)

    def kubectl(self, *words: str) -> str:
        """Return a command line for the namespace of the pods."""
        return self.kube.kubectl(*words, namespace=self.namespace)


def make_target(
    config: Config,
    kube: Kube,
    *,
    kind: Kind,
    image: str,
    namespace: str | None,
    kubeflow: str,
    account: str | None,
    health: Mapping[str, Any] | None,
) -> Target:
    """Compile the pipeline and choose where it would run.

    Args:
        config: configuration of the run.
        kube: the cluster.
        kind: which pipeline.
        image: image of its steps.
        namespace: requested namespace; by default Kubeflow's if it has no profiles, else that of
            the kubeconfig or pod.
        kubeflow: namespace of Kubeflow Pipelines.
        account: requested service account.
        health: health of KFP's API server, if it was reached.

    Raises:
        InputError: the pipeline cannot be compiled for a cluster, or no namespace is known.
    """
    demand = demand_of(config, kind=kind, image=image)
    has_profiles = None if health is None else bool(health.get("multi_user"))
    if namespace is None and has_profiles is not False:
        namespace = kube.namespace
    if namespace is None and has_profiles:
        message = "is missing; Kubeflow has profiles here, so name the namespace of yours"
        raise InputError.of("--namespace", None, message)
    return Target(kube, config, demand, namespace or kubeflow, kubeflow, account, health)
