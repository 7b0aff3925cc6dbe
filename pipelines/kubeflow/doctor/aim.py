"""Construction of a target: the namespace, and the compiled pipeline."""

from collections.abc import Mapping
from typing import Any

from components.config.schema import Config
from nascore.errors import InputError
from pipelines.definitions.kinds import Kind
from pipelines.kubeflow.doctor.client import Kube
from pipelines.kubeflow.doctor.demand import demand_of
from pipelines.kubeflow.doctor.target import Target


def aim(
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
