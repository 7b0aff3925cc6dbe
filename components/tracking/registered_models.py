"""Whether a registered model exists, also where the server hides that from an account.

Imports no mlflow: the client is an argument.
"""

import uuid
from typing import TYPE_CHECKING, Any

from components.tracking.mlflow_errors import kind_of, refuses_account
from nascore.errors import ResourceUnavailable
from nascore.service_errors import ErrorKind

if TYPE_CHECKING:  # mlflow takes seconds to import
    from mlflow import MlflowClient

_NO_RIGHT = (
    "MLflow refuses this account the registered model (403): give the account of the steps "
    "(MLFLOW_TRACKING_USERNAME) the right to read and edit it, or name another model"
)


def is_missing(error: BaseException) -> bool:
    """Return whether the store answers that a model, version, alias, run or file is not there."""
    code = getattr(error, "error_code", None)
    return kind_of(error) is ErrorKind.REQUEST and code in (
        "RESOURCE_DOES_NOT_EXIST",
        "NOT_FOUND",
        "INVALID_PARAMETER_VALUE",  # an alias that is not set, or no name of a model
    )


def find_model(client: "MlflowClient", name: str) -> Any | None:
    """Return a registered model; None if there is none.

    With basic authentication MLflow answers 403 for a model that the account may not read, and
    where accounts have no right by default (`default_permission`) also for one that does not exist.
    The answer for a name that is not in use distinguishes the two.

    Args:
        client: of the registry.
        name: name of the registered model.

    Raises:
        ResourceUnavailable: there is one that the account may not read.
        Exception: of MLflow's client: no answer, or no account.
    """
    try:
        return client.get_registered_model(name)
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        if is_missing(error):
            return None
        if getattr(error, "error_code", None) != "PERMISSION_DENIED":
            raise
        if _hides_missing(client):
            client.search_registered_models(max_results=1)  # raises where everything is refused
            return None
        raise ResourceUnavailable.of("registry.model", name, _NO_RIGHT) from error


def _hides_missing(client: "MlflowClient") -> bool:
    """Return whether the server refuses an account the models that do not exist."""
    try:
        client.get_registered_model(f"nas-check-{uuid.uuid4().hex}")
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        if refuses_account(error):
            return True
        if is_missing(error):
            return False
        raise
    return False
