"""Origin of a run on Kubeflow: its pipeline, its configuration, and the run that it continues.

A run that `nas retry` has started names the first run of its chain in an environment variable of
its steps: all runs of a chain share one state and one MLflow run.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.run_identity import RETRY_OF, key_of
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.compiled_text import config_of_run, containers, our_name, variables
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.pipelines_page import PipelinesPage


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was started with.

    Attributes:
        pipeline: compiled pipeline in the form of a request.
        first: id of the first run of the chain of retries; the run's own id if it is no retry.
        is_ours: whether this project has compiled the pipeline.
        config: complete configuration including the parameters; empty if it cannot be read.
    """

    pipeline: JsonObject
    first: str
    is_ours: bool
    config: Mapping[str, Any]

    @property
    def run_key(self) -> str:
        """Key of the MLflow run of the chain."""
        return key_of(self.first)

    def setting(self, *path: str) -> Any:
        """Return a value of the configuration; None if it is not set."""
        value: Any = self.config
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def origin_of(cluster: Cluster, run: JsonObject) -> Origin:
    """Return the origin of a run; request the pipeline from the server if the run only names it.

    Raises:
        ClusterError: the server does not answer, or no longer has the version of the pipeline.
    """
    pipeline = run.get("pipeline_spec")
    if pipeline is None:
        named = run.get("pipeline_version_reference") or {}
        pipeline = PipelinesPage(cluster).spec_of(named) if named.get("pipeline_version_id") else {}
    return Origin(
        pipeline=pipeline,
        first=first_of(run),
        is_ours=bool(our_name(pipeline)),
        config=config_of_run(pipeline, (run.get("runtime_config") or {}).get("parameters") or {}),
    )


def known_origin(cluster: Cluster, run: JsonObject) -> Origin:
    """Return the origin of a run, or one of unknown content if its pipeline has been deleted.

    Raises:
        ClusterError: the server does not answer.
    """
    try:
        return origin_of(cluster, run)
    except ClusterError as error:
        if error.is_transient:
            raise
        return Origin(pipeline={}, first=run["run_id"], is_ours=False, config={})


def first_of(run: JsonObject) -> str:
    """Return the id of the run that a run continues, or its own.

    A run that only names its pipeline is not a retry: a retry sends a changed pipeline.
    """
    for name, value in variables(run.get("pipeline_spec") or {}):
        if name == RETRY_OF:
            return value
    return str(run["run_id"])


def continuing(pipeline: JsonObject, first: str) -> JsonObject:
    """Return a pipeline whose steps continue the run `first`."""
    changed = copy.deepcopy(pipeline)
    for container in containers(changed):
        others = [each for each in container.get("env") or [] if each.get("name") != RETRY_OF]
        container["env"] = [*others, {"name": RETRY_OF, "value": first}]
    return changed
