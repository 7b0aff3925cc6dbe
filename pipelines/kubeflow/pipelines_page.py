"""Pipelines and versions on KFP's Pipelines page, as its API server has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.kubeflow.client import Cluster, JsonObject, equal
from pipelines.kubeflow.errors import ClusterError


class PipelinesPage:
    """The pipelines of a namespace, or of a server without profiles.

    A name is that of one pipeline in its namespace, and of one version in its pipeline; display
    names may be equal (kubeflow/pipelines 2.17.0, backend/src/apiserver/model/pipeline.go and
    pipeline_version.go, unique indexes `namespace_name` and `idx_pipelineid_name`).
    """

    def __init__(self, cluster: Cluster) -> None:
        import kfp_server_api as api

        self.cluster = cluster
        self._pipelines = api.PipelineServiceApi(cluster.client)
        self._uploads = api.PipelineUploadServiceApi(cluster.client)

    def find(self, name: str) -> JsonObject | None:
        """Return the pipeline of a name; None if there is none."""
        list_ = self._pipelines.pipeline_service_list_pipelines
        filtered = {"filter": equal("name", name), **self.cluster.in_namespace()}
        return next(self.cluster.pages(list_, "pipelines", **filtered), None)

    def create(self, name: str, description: str) -> JsonObject:
        """Create a pipeline without versions."""
        body = {"name": name, "display_name": name, "description": description}
        create = self._pipelines.pipeline_service_create_pipeline
        return self.cluster.call(create, {**body, **self.cluster.in_namespace()})

    def name_of(self, pipeline_id: str) -> str | None:
        """Return the name that the page shows for a pipeline; None if it has been deleted."""
        try:
            found = self.cluster.call(self._pipelines.pipeline_service_get_pipeline, pipeline_id)
        except ClusterError as error:
            if not error.is_missing:
                raise
            return None
        return str(found.get("display_name") or found.get("name") or pipeline_id)

    def version(self, pipeline_id: str, name: str) -> JsonObject | None:
        """Return the version of a name; None if there is none."""
        list_ = self._pipelines.pipeline_service_list_pipeline_versions
        named = self.cluster.pages(
            list_, "pipeline_versions", pipeline_id=pipeline_id, filter=equal("name", name)
        )
        return next(named, None)

    def latest(self, pipeline_id: str) -> JsonObject | None:
        """Return the version that a schedule of the latest one runs; None without versions."""
        list_ = self._pipelines.pipeline_service_list_pipeline_versions
        newest_first = self.cluster.pages(
            list_,
            "pipeline_versions",
            page_size=1,
            pipeline_id=pipeline_id,
            sort_by="created_at desc",
        )
        return next(newest_first, None)

    def upload(self, pipeline_id: str, file: Path, *, name: str, description: str) -> JsonObject:
        """Upload a compiled pipeline as a new version."""
        return self.cluster.call(
            self._uploads.upload_pipeline_version,
            str(file),
            pipelineid=pipeline_id,
            name=name,
            display_name=name,
            description=description,
        )

    def spec_of(self, reference: Mapping[str, Any]) -> JsonObject:
        """Return the compiled pipeline of the version that a run names.

        Raises:
            ClusterError: the server does not answer, or no longer has the version.
        """
        get = self._pipelines.pipeline_service_get_pipeline_version
        ids = (reference["pipeline_id"], reference["pipeline_version_id"])
        return dict(self.cluster.call(get, *ids).get("pipeline_spec") or {})
