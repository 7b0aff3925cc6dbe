"""The latest version of a pipeline, as a schedule runs it at each time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.config.parameter_values import naming_parameters
from components.config.parameter_values import resolve as with_parameters
from components.config.parameters import NAMES
from components.config.schema import Config
from nascore.errors import InputError
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.compiled_text import compiled_config, containers, declared, pods_of
from pipelines.kubeflow.pipelines_page import PipelinesPage
from pipelines.kubeflow.run_parameters import all_as_parameters
from pipelines.kubeflow.run_request import Source
from pipelines.kubeflow.versions import OPTION, refuse_foreign


@dataclass(frozen=True, slots=True)
class LatestVersion:
    """The latest version of a pipeline with parameters.

    Attributes:
        pipeline_id: of the pipeline.
        parameters: values of its parameters by name.
        config: what a run of them has for its configuration.
        image: of its steps.
    """

    pipeline_id: str
    parameters: Mapping[str, str]
    config: Config
    image: str

    def request(self) -> JsonObject:
        """Return the part of a request that names only the pipeline: KFP takes the latest."""
        return {
            "pipeline_version_reference": {"pipeline_id": self.pipeline_id},
            "runtime_config": {"parameters": dict(self.parameters)},
        }


def latest_version(cluster: Cluster, source: Source, settings: Iterable[str]) -> LatestVersion:
    """Return the latest version of a pipeline, with settings as its parameters.

    Args:
        cluster: client of the server.
        source: names the pipeline.
        settings: `key.path=value`.

    Raises:
        InputError: there is none, it is not this project's, or it cannot run with these settings.
        ClusterError: the server does not answer.
    """
    page, name = PipelinesPage(cluster), source.name
    pipeline = page.find(name)
    latest = None if pipeline is None else page.latest(str(pipeline["pipeline_id"]))
    if pipeline is None or latest is None:
        message = "has no version; upload one with nas submit, or use --pin"
        raise InputError.of(OPTION, name, message)
    refuse_foreign(latest, kind=source.kind, name=name)
    spec = latest.get("pipeline_spec") or {}
    if not set(NAMES) <= declared(spec).keys():
        message = (
            "its latest version is of an older release and has other parameters; upload a new one "
            "with nas submit, or use --pin"
        )
        raise InputError.of(OPTION, name, message)
    values = all_as_parameters(settings)
    config = with_parameters(compiled_config(spec), values)
    with naming_parameters(values):
        pods_of(spec).division(config)
    image = str(next(containers(spec))["image"])
    return LatestVersion(str(pipeline["pipeline_id"]), values, config, image)
