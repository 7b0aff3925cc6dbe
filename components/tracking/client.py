"""MLflow's client as it is called here: it answers or fails within seconds, and prints nothing."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

if TYPE_CHECKING:  # mlflow takes two seconds to import
    from mlflow import MlflowClient

Result = TypeVar("Result")

SQLITE = "sqlite:///"

SETTINGS = {
    # The defaults retry for minutes in one call; `mlflow_errors.call_mlflow` retries where wanted.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables that MLflow reads at each call."""

_IGNORED = {
    "MLFLOW_TRACKING_URI": "tracking.uri",
    "MLFLOW_REGISTRY_URI": "tracking.uri",
    "MLFLOW_EXPERIMENT_NAME": "tracking.experiment",
    "MLFLOW_EXPERIMENT_ID": "tracking.experiment",
    "MLFLOW_RUN_ID": "",  # of another program: outside of Kubeflow, each run has one of its own
}


def ignored_variables(uri: str) -> list[str]:
    """Return a sentence about the variables of MLflow in place of which settings count, if any.

    Args:
        uri: MLflow store; a variable that names the same is not mentioned.
    """
    found = [name for name in _IGNORED if os.environ.get(name, "").rstrip("/") not in ("", uri)]
    if not found:
        return []
    settings = dict.fromkeys(_IGNORED[name] for name in found if _IGNORED[name])
    advice = f"; set {' and '.join(settings)}" if settings else ""
    return [f"ignored: {', '.join(found)}{advice}"]


def ignore_variables(uri: str) -> list[str]:
    """Remove variables in place of which settings count; return a sentence about them, if any."""
    sentences = ignored_variables(uri)
    for name in _IGNORED:
        os.environ.pop(name, None)
    return sentences


@contextlib.contextmanager
def quick_settings(**changed: object) -> Iterator[None]:
    """Apply `SETTINGS` in the block, except where a variable is set already.

    Args:
        changed: values for this block, whatever is set.
    """
    values = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    values |= {name: str(value) for name, value in changed.items()}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def within(limit_s: float, call: Callable[[], Result]) -> Result:
    """Return what `call` returns, or give up waiting for it.

    An unreachable database keeps MLflow's client for an hour, and no setting shortens that. So the
    call is made in a thread, which ends with the process at the latest.

    Raises:
        TimeoutError: the call took longer than `limit_s`.
        Exception: what the call raises.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # it is raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, name="mlflow call", daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {limit_s:.0f} s")
    return results[0]


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of a `sqlite:///` URI; None for any other.

    As SQLAlchemy reads it: after `?` there are options, and `%20` is a space.
    """
    if not uri.startswith(SQLITE):
        return None
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0]))


def sqlite_uri(path: Path) -> str:
    """Return the URI of a database file, whose path may have `%` and `?` in it.

    Nothing else is quoted: MLflow makes the folder of a path without reading the quotes.
    """
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def open_client(uri: str) -> "MlflowClient":
    """Return a client of a store; a SQLite file that is not there yet is made."""
    from mlflow import MlflowClient

    make_store(uri)
    # MLFLOW_REGISTRY_URI may name another store; models are registered in this one.
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def make_store(uri: str) -> None:
    """Make the SQLite file of a store that is not there yet; it appears whole or not at all.

    MLflow makes its tables in dozens of steps, which take seconds. A process that is killed between
    two of them would leave a file that no later one can use.
    """
    path = sqlite_path(uri)
    if path is None or path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        MlflowClient(tracking_uri=sqlite_uri(made)).search_experiments(max_results=1)
        try:
            os.link(made, path)
        except FileExistsError:  # another process was quicker
            return
        except OSError:  # no hard links, as on exFAT and CIFS; two at the same moment are rare
            if not path.exists():
                os.replace(made, path)
