"""Look-ups in the registry that may find nothing, and the history of champions.

Imports no torch; mlflow is imported by the functions.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from components.registry.task_schema import TAG as SCHEMA
from components.tracking.client import make_store
from components.tracking.mlflow_errors import refuses_account
from components.tracking.registered_models import find_model, is_missing
from nascore.errors import ResourceUnavailable

if TYPE_CHECKING:  # mlflow takes seconds to import
    from mlflow import MlflowClient

CHAMPION = "champion"
HISTORY = "nas.champions"
"""Tag of the registered model: versions that were champion, in order, separated by commas."""
Result = TypeVar("Result")
_NO_ALIASES = (
    "the registry has no aliases, by which the champion is found: it is a server older than MLflow "
    "2.3, or a registry of another kind; update the server, or name another one"
)


def open_registry(uri: str) -> "MlflowClient":
    """Return a client whose registry is the tracking store; a SQLite file is made if missing."""
    from mlflow import MlflowClient

    make_store(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def answer_of(call: Callable[[], Result]) -> Result | None:
    """Return what `call` returns; None where the store answers that this is not there.

    Raises:
        Exception: of MLflow's client: no answer, or no right.
    """
    try:
        return call()
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        if is_missing(error):
            return None
        raise


def run_is_gone(client: "MlflowClient", version: Any, error: BaseException) -> bool:
    """Return whether an error about the run of a version says that the run is gone.

    With basic authentication MLflow answers 403 for a run that does not exist, too. Rights belong
    to experiments, so the run is gone if the account may read the model that the run has logged.

    Args:
        client: of the registry.
        version: MLflow's version of a registered model.
        error: raised by MLflow's client for the run of that version.
    """
    if is_missing(error):
        return True
    model_id = str(version.source).partition("models:/")[2]  # empty before MLflow 3
    if not model_id or getattr(error, "error_code", None) != "PERMISSION_DENIED":
        return False
    try:
        client.get_logged_model(model_id)
    except Exception as other:  # MLflow, requests and boto3 have no common class of errors
        if is_missing(other) or refuses_account(other):
            return False
        raise
    return True


def check_aliases(client: "MlflowClient", name: str) -> None:
    """Check that the registry has aliases, before anything is written to it.

    Args:
        client: of the registry.
        name: name of the registered model, which may not exist yet.

    Raises:
        ResourceUnavailable: it has none.
    """
    try:
        client.get_model_version_by_alias(name, CHAMPION)
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        if getattr(error, "error_code", None) == "ENDPOINT_NOT_FOUND":
            raise ResourceUnavailable.of("tracking.uri", None, _NO_ALIASES) from error
        if not is_missing(error) and find_model(client, name) is not None:
            raise


def names_of_task(client: "MlflowClient", schema: str) -> list[str]:
    """Return the registered models with versions of a task, by the hash of its schema."""
    versions = client.search_model_versions(f"tags.`{SCHEMA}` = '{schema}'")
    return sorted({version.name for version in versions})


def history_of(model: Any) -> list[str]:
    """Return the versions that were champion, in order."""
    return [version for version in model.tags.get(HISTORY, "").split(",") if version]


def champions_before(present: str | None, history: list[str]) -> list[str]:
    """Return the champions before the present one; a cut-off rollback leaves it without entry."""
    if present not in history:
        return history
    last = len(history) - 1 - history[::-1].index(present)
    return [version for version in history[:last] if version != present]


def existing(client: "MlflowClient", name: str, versions: Sequence[str]) -> list[str]:
    """Return the versions that were not deleted."""

    def is_there(version: str) -> bool:
        return answer_of(lambda: client.get_model_version(name, version)) is not None

    return [version for version in versions if is_there(version)]
