"""The alias of the champion, the history of champions, and the rollback."""

import contextlib
from collections.abc import Iterator
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.registry import model_registry
from components.tracking.tags import RUN_KEY
from nascore.errors import InputError, ServiceUnavailable
from nascore.redaction import redact

CHAMPION = "champion"
CHALLENGER = "challenger"
_HISTORY = "nas.champions"  # tag of the registered model: versions that were champion, in order
DECISION = "nas.decision"  # tag of a version: the reason for its alias


def set_champion(client: MlflowClient, name: str, version: str) -> None:
    """Make a version champion, and add it to the history."""
    _move(client, name, version, _history(client.get_registered_model(name)))


def roll_back(model_name: str, *, uri: str, to: str | None = None) -> tuple[str | None, str]:
    """Make the previous champion champion again, or another version.

    Args:
        model_name: name of the registered model.
        uri: MLflow store.
        to: the version; the champion before the present one by default.

    Returns:
        The version that was champion, and the one that is now.

    Raises:
        InputError: there is no such model or version, or none to go back to.
        ServiceUnavailable: the registry does not answer as it should.
    """
    model_registry.use(uri)
    with _answering(uri):
        return _roll_back(MlflowClient(tracking_uri=uri), model_name, to)


@contextlib.contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise ServiceUnavailable(
            "model registry",
            f"the registry at {redact(uri)} does not answer as it should: "
            f"{redact(str(error)).splitlines()[0][:300]}",
        ) from error


def _roll_back(client: MlflowClient, model_name: str, to: str | None) -> tuple[str | None, str]:
    try:
        model = client.get_registered_model(model_name)
    except MlflowException as error:
        if not _is_missing(error):
            raise
        raise InputError.of(
            "registry.model", model_name, "is not in the registry of tracking.uri"
        ) from error
    present = model.aliases.get(CHAMPION)
    present = None if present is None else str(present)
    history = _history(model)
    earlier = _before(present, history)
    version = to or (earlier[-1] if earlier else None)
    if version is None:
        raise InputError.of(
            "registry.model",
            model_name,
            f"version {present} is the first champion; name another version with --to",
        )
    _check_version(client, model_name, version)
    _move(client, model_name, version, earlier[:-1] if to is None else history)
    reason = "rolled back to by hand" + (f" from version {present}" if present else "")
    client.set_model_version_tag(model_name, version, DECISION, reason)
    return present, version


def champion_of(model_name: str, *, uri: str) -> Any | None:
    """Return MLflow's version of the champion; None when there is none yet."""
    model_registry.use(uri)
    client = MlflowClient(tracking_uri=uri)
    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if _is_missing(error):
            return None
        raise


def run_key_of(model_name: str, version: str, *, uri: str) -> str | None:
    """Return the key of the run that made a version; None when it names no run.

    Raises:
        ServiceUnavailable: the registry does not answer as it should.
    """
    model_registry.use(uri)
    client = MlflowClient(tracking_uri=uri)
    with _answering(uri):
        run_id = client.get_model_version(model_name, version).run_id
        key: str | None = client.get_run(run_id).data.tags.get(RUN_KEY) if run_id else None
    return key


# --- the alias and its history ----------------------------------------------------------------


def _history(model: Any) -> list[str]:
    return [version for version in model.tags.get(_HISTORY, "").split(",") if version]


def _move(client: MlflowClient, name: str, version: str, history: list[str]) -> None:
    """Write the history, then move the alias: a process that dies in between can be repeated."""
    if history[-1:] != [version]:
        history = [*history, version]
    client.set_registered_model_tag(name, _HISTORY, ",".join(history))
    client.set_registered_model_alias(name, CHAMPION, version)


def _before(present: str | None, history: list[str]) -> list[str]:
    """Return the champions before the present one; a cut-off rollback leaves it without entry."""
    if present not in history:
        return history
    last = len(history) - 1 - history[::-1].index(present)
    return [version for version in history[:last] if version != present]


def _is_missing(error: MlflowException) -> bool:
    """Return whether there is no such model, version or alias, or none can have this name."""
    return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def _check_version(client: MlflowClient, name: str, version: str) -> None:
    try:
        client.get_model_version(name, version)
    except MlflowException as error:
        if not _is_missing(error):
            raise
        raise InputError.of("--to", version, f"{name} has no such version") from error
