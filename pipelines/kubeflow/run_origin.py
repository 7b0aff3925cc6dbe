"""Origin of a run on Kubeflow: its pipeline, its configuration, and the run that it continues.

A run that `nas retry` has started names the first run of its chain in an environment variable of
its steps: all runs of a chain share one state and one MLflow run.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.config.merge import apply_overrides, read_mapping
from components.run_identity import RETRY_OF, key_of
from nascore.errors import InputError
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.errors import ClusterError

_OURS = "NAS_PIPELINE"  # a variable of the steps of every pipeline that we compile


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was started with.

    Attributes:
        pipeline: compiled pipeline in the form of a request.
        first: id of the first run of the chain of retries; the run's own id if it is no retry.
        is_ours: whether this project has compiled the pipeline.
        config: complete configuration including overrides; empty if it cannot be read.
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
        pipeline = {}
        if named.get("pipeline_version_id"):
            pipeline = cluster.version_spec(named["pipeline_id"], named["pipeline_version_id"])
    return Origin(
        pipeline=pipeline,
        first=first_of(run),
        is_ours=any(name == _OURS for name, _ in _variables(pipeline)),
        config=_config(run, pipeline),
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
    for name, value in _variables(run.get("pipeline_spec") or {}):
        if name == RETRY_OF:
            return value
    return str(run["run_id"])


def continuing(pipeline: JsonObject, first: str) -> JsonObject:
    """Return a pipeline whose steps continue the run `first`."""
    changed = copy.deepcopy(pipeline)
    for container in _containers(changed):
        others = [each for each in container.get("env") or [] if each.get("name") != RETRY_OF]
        container["env"] = [*others, {"name": RETRY_OF, "value": first}]
    return changed


def _inner(pipeline: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a pipeline without its platform settings, which a request may put around it."""
    inner: Mapping[str, Any] = pipeline.get("pipeline_spec") or pipeline
    return inner


def _containers(pipeline: Mapping[str, Any]) -> Iterator[JsonObject]:
    executors = (_inner(pipeline).get("deploymentSpec") or {}).get("executors") or {}
    for executor in executors.values():
        if "container" in executor:
            yield executor["container"]


def _variables(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for container in _containers(pipeline):
        for variable in container.get("env") or []:
            yield str(variable.get("name")), str(variable.get("value"))


def _config(run: JsonObject, pipeline: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration unchecked: it may be wrong or of an older version."""
    given = (run.get("runtime_config") or {}).get("parameters") or {}
    root = _inner(pipeline).get("root") or {}
    declared = (root.get("inputDefinitions") or {}).get("parameters") or {}
    text = given.get("config") or (declared.get("config") or {}).get("defaultValue") or ""
    try:
        config = read_mapping(str(text), "config")
        return apply_overrides(config, str(given.get("overrides") or ""))
    except InputError:
        return {}
