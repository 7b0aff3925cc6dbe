"""The check of the champion before anything is trained. Imports no torch."""

from collections.abc import Callable
from typing import TypeVar

from components.config.schema import Config
from components.registry.champion_check import Fault, Task, find_fault, is_replaced, remedy
from components.registry.lookup import names_of_task, open_registry
from components.registry.task_schema import model_name, schema_hash
from components.tracking.client import quick_settings, sqlite_path, within
from components.tracking.mlflow_errors import (
    brief,
    call_mlflow,
    is_of_program,
    is_transient,
    report,
)
from components.tracking.registered_models import find_model
from nascore.data.findings import join_first
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError, ResourceUnavailable, ServiceUnavailable
from nascore.redaction import redact

REPLACED = "the new model replaces it if it passes the other gates"
_TIMEOUT_S = 5
_LIMIT_S = 12.0  # of the whole check, before a search
_WAIT_S = 120.0  # for the registry, before a retraining

Answer = TypeVar("Answer")


def check_champion(
    config: Config, info: DatasetInfo, *, retrains: bool = False, say: Callable[[str], None]
) -> None:
    """Check in the first step whether a new model can be compared with the champion.

    A registry that does not answer is no error: later steps check again.

    Args:
        config: with the name of the registered model.
        info: of the prepared data.
        retrains: whether this is the retraining pipeline.
        say: gets one sentence if the registry does not answer, or if the champion is replaced.

    Raises:
        InputError: the champion cannot be used, and `registry.unusable_champion` stops the run.
        ResourceUnavailable: the registry refuses the account.
    """
    fault = fault_of(config, Task.of_data(info), say=say)
    if fault is not None:
        refuse_unless_replaced(config, fault, retrains=retrains)
        say(f"{fault}; {REPLACED}")


def fault_of(config: Config, task: Task | None, *, say: Callable[[str], None]) -> Fault | None:
    """Return what is wrong with the champion; None if it can be used, or there is none.

    Args:
        config: with the name of the registered model.
        task: of the new model; None if it is not known yet.
        say: gets one sentence if the registry does not answer.

    Raises:
        ResourceUnavailable: the registry refuses the account.
    """
    name, uri = model_name(config), config.tracking.uri
    return _ask(config, lambda: find_fault(name, uri=uri, task=task), say=say)


def check_default_name(config: Config, info: DatasetInfo, *, say: Callable[[str], None]) -> None:
    """Check before a retraining that the default name is not one of a file with new data only.

    The default name has the name of the data set in it: `march.npz` and `april.npz` of the same
    task have two names, and April's retraining would not find March's champion.

    Args:
        config: with the default name of the registered model.
        info: of the prepared data.
        say: gets one sentence if the registry does not answer.

    Raises:
        InputError: no model has this name, but others have the same task.
        ResourceUnavailable: the registry refuses the account.
    """
    name, uri = model_name(config), config.tracking.uri
    names = _ask(config, lambda: names_of_task(open_registry(uri), schema_hash(info)), say=say)
    if not names or name in names:
        return
    raise InputError.of(
        "registry.model",
        "null",
        f"there is no model {name}, which is the default name for these data, but "
        f"{join_first(names)} of the same classes and input: name the one to retrain, or {name} "
        f"for a new one, with --model NAME",
    )


def warn_of_new_name(config: Config, info: DatasetInfo, *, say: Callable[[str], None]) -> None:
    """Warn before a retraining that no model has the name of the settings, but others may be meant.

    Args:
        config: with the name that the user has set.
        info: of the prepared data.
        say: gets one sentence that names the models of the same task, or if the registry does not
            answer.

    Raises:
        ResourceUnavailable: the registry refuses the account.
    """
    name, uri = model_name(config), config.tracking.uri

    def others() -> list[str]:
        client = open_registry(uri)
        return [] if find_model(client, name) else names_of_task(client, schema_hash(info))

    if names := _ask(config, others, say=say):
        say(
            f"warning: there is no model {name} to retrain, and the run begins a new one; "
            f"{join_first(names)} of the same classes and input: if that was meant, end the run "
            "and name it with --model NAME"
        )


def _ask(
    config: Config, call: Callable[[], Answer], *, say: Callable[[str], None]
) -> Answer | None:
    """Return the answer of the registry within seconds; None if it does not answer, or is new."""
    uri = config.tracking.uri
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return None
    try:
        import mlflow.artifacts  # noqa: F401  # before the limit: the import takes seconds

        # One retry, at once: a connection that rested may have been closed by the server.
        with quick_settings(
            MLFLOW_HTTP_REQUEST_TIMEOUT=_TIMEOUT_S, MLFLOW_HTTP_REQUEST_MAX_RETRIES=1
        ):
            return within(_LIMIT_S, call)
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        if is_of_program(error) or isinstance(error, InputError):
            raise
        if not is_transient(error):
            raise ResourceUnavailable.of("tracking.uri", redact(uri), report(error)) from error
        say(
            f"the model registry does not answer ({brief(error)}); the champion is checked when "
            "the new model is registered"
        )
        return None


def refuse_unless_replaced(config: Config, fault: Fault, *, retrains: bool) -> None:
    """Raise an InputError if `registry.unusable_champion` does not let a new model take over.

    Args:
        config: with the name of the registered model.
        fault: what is wrong with the champion.
        retrains: whether this is the retraining pipeline.
    """
    if is_replaced(fault, config.registry.unusable_champion, retrains=retrains):
        return
    name = model_name(config)
    raise InputError.of("registry.model", name, f"{fault}; {remedy(fault, name)}")


def call_registry(
    config: Config, call: Callable[[], Answer], *, say: Callable[[str], None]
) -> Answer:
    """Return the answer of the registry before a retraining, and retry while it does not answer.

    Args:
        config: of the run.
        call: reads the registry.
        say: gets one sentence when it does not answer.

    Raises:
        ResourceUnavailable: it refuses the account.
        ServiceUnavailable: it does not answer in time.
    """
    try:
        return call_mlflow(call, timeout_s=_WAIT_S, on_outage=say)
    except TimeoutError as error:
        raise ServiceUnavailable(
            "model registry",
            f"{error} at {redact(config.tracking.uri)}, and a retraining needs the champion; "
            "nothing was trained: bring the registry back and run the step again",
        ) from error
