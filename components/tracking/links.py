"""Addresses of pages in the MLflow UI."""

from dataclasses import dataclass
from urllib.parse import quote

from mlflow import MlflowClient

from nascore.redaction import redact


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of a run and of a model version; None where the store has no web pages."""

    run: str | None
    model: str | None


def links_of(uri: str, *, run_id: str, model: str, version: str) -> Links:
    """Return the addresses of a run and of a model version.

    Args:
        uri: of the tracking store; a server has its pages at the same address.
        run_id: of the run.
        model: name of the registered model.
        version: of the model.
    """
    if not uri.startswith(("http://", "https://")):
        return Links(None, None)
    experiment = MlflowClient(tracking_uri=uri).get_run(run_id).info.experiment_id
    root = redact(uri).rstrip("/")
    return Links(
        run=f"{root}/#/experiments/{experiment}/runs/{run_id}",
        model=f"{root}/#/models/{quote(model, safe='')}/versions/{version}",
    )
