"""The alias of the champion, the history of champions, and the rollback."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.registry.champion_check import missing_files
from components.registry.lookup import (
    CHAMPION,
    HISTORY,
    champions_before,
    history_of,
    open_registry,
    run_is_gone,
)
from components.registry.model_metadata import APPROVED, VALIDATION
from components.tracking.registered_models import find_model, is_missing
from components.tracking.tags import RUN_KEY
from nascore.data.findings import join_first
from nascore.errors import InputError, ServiceUnavailable
from nascore.redaction import redact

CHALLENGER = "challenger"
DECISION = "nas.decision"
"""Tag of a version: the reason for its alias."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback has changed.

    Attributes:
        before: version that was champion; None without one.
        now: version that is champion now.
        skipped: why earlier champions were passed over, by their version.
    """

    before: str | None
    now: str
    skipped: Mapping[str, str] = field(default_factory=dict)


def set_champion(client: MlflowClient, name: str, version: str) -> None:
    """Make a version champion, and add it to the history."""
    _move(client, name, version, history_of(client.get_registered_model(name)))


def roll_back(model_name: str, *, uri: str, to: str | None = None) -> Rollback:
    """Make the previous champion champion again, or another version.

    Args:
        model_name: name of the registered model.
        uri: MLflow store.
        to: the version; the last champion before the present one that can be served by default.

    Returns:
        What was changed.

    Raises:
        InputError: there is no such model or version, or none to go back to.
        ServiceUnavailable: the registry does not answer as it should.
    """
    if to is not None:
        _check_number(to)
    with _answering(uri):
        return _roll_back(open_registry(uri), model_name, to, uri)


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


def _roll_back(client: MlflowClient, model_name: str, to: str | None, uri: str) -> Rollback:
    model = find_model(client, model_name)
    if model is None:
        raise InputError.of("registry.model", model_name, "is not in the registry of tracking.uri")
    present = model.aliases.get(CHAMPION)
    present = None if present is None else str(present)
    history = history_of(model)
    earlier = champions_before(present, history)
    skipped: dict[str, str] = {}
    if to is not None:
        _check_known(client, model_name, to, history)
        fault = missing_files(client, model_name, to, uri=uri)
        if fault is not None:
            raise InputError.of("--to", to, f"version {to} of {model_name} {fault}")
        _approve(client, model, to)
        _move(client, model_name, to, history)
    else:
        while earlier and (fault := missing_files(client, model_name, earlier[-1], uri=uri)):
            skipped[earlier.pop()] = fault
        if not earlier:
            message = _no_earlier(present, list(skipped))
            raise InputError.of("registry.model", model_name, message)
        _approve(client, model, earlier[-1])
        _move(client, model_name, earlier[-1], earlier[:-1])
    version = to or earlier[-1]
    reason = "rolled back to by hand" + (f" from version {present}" if present else "")
    client.set_model_version_tag(model_name, version, DECISION, reason)
    return Rollback(present, version, skipped)


def _check_known(client: MlflowClient, name: str, version: str, history: list[str]) -> None:
    """Check that the registry had a version at some time; the numbers of versions only rise."""
    found = client.search_model_versions(f"name='{name}'")
    numbers = sorted(int(one.version) for one in found)
    if version in history or (numbers and int(version) <= numbers[-1]):
        return
    there = join_first([str(number) for number in numbers]) if numbers else "none"
    raise InputError.of("--to", version, f"{name} has no version {version}; it has {there}")


def _approve(client: MlflowClient, model: Any, version: str) -> None:
    """Mark a version as a champion's, before the alias moves: a cut-off rollback can be repeated.

    A challenger was rejected; whoever rolls back to it overrules that.
    """
    client.set_model_version_tag(model.name, version, VALIDATION, APPROVED)
    if str(model.aliases.get(CHALLENGER)) == version:
        client.delete_registered_model_alias(model.name, CHALLENGER)


def _no_earlier(present: str | None, gone: list[str]) -> str:
    """Return why there is no champion to go back to, and what to do."""
    name_one = "name another version with --to"
    if gone:
        versions = ", ".join(sorted(gone, key=int))
        return f"its earlier champions (version {versions}) or their files are gone; {name_one}"
    if present is None:
        return f"has had no champion; {name_one}"
    return f"version {present} is the first champion; {name_one}"


def champion_of(model_name: str, *, uri: str) -> Any | None:
    """Return MLflow's version of the champion; None when there is none yet."""
    client = open_registry(uri)
    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if is_missing(error) or find_model(client, model_name) is None:
            return None
        raise


def run_key_of(model_name: str, version: str, *, uri: str) -> str | None:
    """Return the key of the run that made a version; None when it names no run, or it is gone.

    Raises:
        ServiceUnavailable: the registry does not answer as it should.
    """
    client = open_registry(uri)
    with _answering(uri):
        found = client.get_model_version(model_name, version)
        if not found.run_id:
            return None
        try:
            key: str | None = client.get_run(found.run_id).data.tags.get(RUN_KEY)
        except MlflowException as error:
            if run_is_gone(client, found, error):
                return None
            raise
    return key


# --- the alias and its history ----------------------------------------------------------------


def _move(client: MlflowClient, name: str, version: str, history: list[str]) -> None:
    """Write the history, then move the alias: a process that dies in between can be repeated."""
    if history[-1:] != [version]:
        history = [*history, version]
    client.set_registered_model_tag(name, HISTORY, ",".join(history))
    client.set_registered_model_alias(name, CHAMPION, version)


def _check_number(version: str) -> None:
    """Check that a version is written as the registry writes it: another spelling gets lost."""
    if re.fullmatch(r"[1-9][0-9]*", version):
        return
    number = re.fullmatch(r"\s*[vV]?0*([1-9][0-9]*)\s*", version)
    if not version.strip():
        message = "is empty; give the number of a version, or leave --to out"
    elif number:
        message = f"is no number of a version; write --to {number[1]}"
    else:
        message = "is no number of a version; write a number such as --to 3"
    raise InputError.of("--to", version, message)
