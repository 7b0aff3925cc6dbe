"""Addresses of pages in the MLflow UI."""

from dataclasses import dataclass
from urllib.parse import quote

from nascore.redaction import redact


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of a run and of a model version; None where it is not known."""

    run: str | None
    model: str | None


def links_of(
    uri: str, *, run_id: str, experiment_id: str | None, model: str, version: str
) -> Links:
    """Return the addresses of a run and of a model version.

    Args:
        uri: of the tracking store; a server has its pages at the same address.
        run_id: of the run.
        experiment_id: of the run; None if it is not known.
        model: name of the registered model.
        version: of the model.
    """
    if not uri.startswith(("http://", "https://")):
        return Links(None, None)
    root = f"{redact(uri).rstrip('/')}/#"
    run = None if experiment_id is None else f"{root}/experiments/{experiment_id}/runs/{run_id}"
    return Links(run, f"{root}/models/{quote(model, safe='')}/versions/{version}")
