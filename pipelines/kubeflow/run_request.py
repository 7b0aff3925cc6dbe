"""Parts that the request for a run and the request for a schedule have in common."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.config.schema import Config
from nascore.errors import InputError
from pipelines.definitions.kinds import Kind
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.run_parameters import RunSettings
from pipelines.kubeflow.starting import Say
from pipelines.kubeflow.versions import INLINE, OPTION, pipeline_name, put_on_page


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pipeline of a run comes from.

    Attributes:
        kind: of the pipeline.
        image: of all steps; None for the default one.
        pipeline: name of the pipeline on the Pipelines page, if given.
        is_inline: whether the compiled pipeline is sent with the run, and nothing is uploaded.
    """

    kind: Kind
    image: str | None = None
    pipeline: str | None = None
    is_inline: bool = False

    def __post_init__(self) -> None:
        if self.is_inline and self.pipeline is not None:
            message = f"contradicts {INLINE}, which uploads nothing; give one of them"
            raise InputError.of(OPTION, self.pipeline, message)

    @property
    def name(self) -> str:
        """Name of the pipeline on the Pipelines page."""
        return pipeline_name(self.kind, self.pipeline)


def what_runs(cluster: Cluster, source: Source, settings: RunSettings, say: Say) -> JsonObject:
    """Return the part of a request with the pipeline and its parameters.

    The pipeline is a version on the Pipelines page, which is uploaded if it is new, or the compiled
    text itself.
    """
    from components.image import IMAGE
    from pipelines.definitions.kinds import compile_pipeline
    from pipelines.kubeflow.runs import spec_of, without_caching

    config = settings.compiled
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(source.kind, config, file, image=source.image or IMAGE)
        without_caching(file)
        if source.is_inline:
            pipeline = {"pipeline_spec": spec_of(file)}
        else:
            version = put_on_page(
                cluster, file, config, kind=source.kind, name=source.name, say=say
            )
            pipeline = {"pipeline_version_reference": version}
    return {**pipeline, "runtime_config": {"parameters": dict(settings.parameters)}}


def plugins(config: Config) -> JsonObject:
    """Return the part of a request that turns off Kubeflow's MLflow plugin."""
    return {} if config.tracking.kfp_plugin else {"plugins_input": {"mlflow": {"disabled": True}}}
