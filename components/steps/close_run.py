"""The last step, which runs after all others however they ended, and closes what the run left open.

It sends the events that are left in spools, ends the MLflow runs that are RUNNING with the reason,
and returns the trials of the study. The run has ended by then, so an error here must not fail it:
what could not be done is printed, with what closes it later. It loads no torch and takes seconds.
"""

import contextlib
import os
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from components.config.parameter_values import resolve
from components.config.schema import Config
from components.kfp_api import KubeflowRuns
from components.run_identity import run_id, run_key
from components.steps.state import state_folder
from components.tracking import closing
from components.tracking.pipeline_runs import Status
from components.variables import STATE_ROOT
from nascore.errors import InputError, ServiceUnavailable
from nascore.redaction import redact

_SEND_S = 60.0
_EARLIER_RUNS_S = 30.0  # limit for closing earlier runs, at the start of a run
_LATER = "`nas status RUN` or the next run closes it"
_DATABASE_TIMEOUT_S = 10.0  # for a database that is unreachable
_STUDY = "search/study.db"
_ARMS = ("method", "control")
# States of the task that holds all others: Kubeflow gives the names of ML Metadata.
_SUCCEEDED, _CANCELLED = ("COMPLETE", "SUCCEEDED", "CACHED"), ("CANCELED", "CANCELLED")
_FAILED = ("FAILED", "ERROR", "SKIPPED")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the pipeline ended, as a status of MLflow.

    Attributes:
        reason: empty when it succeeded.
    """

    status: Status
    reason: str
    kind: str


def run(*, config: str, parameters: Mapping[str, str], status: str, message: str) -> None:
    """Close what the run has left open.

    Args:
        config: the configuration with which the pipeline was compiled, as JSON.
        parameters: parameters of the run by name, as the first step gets them.
        status: state of the pipeline, from Kubeflow.
        message: why it failed, from Kubeflow; mostly empty.
    """
    key = run_key()
    try:
        settings = resolve(config, parameters)
    except InputError:
        _say("the configuration is refused, so no step has started anything")
        return
    if key is None:
        _say("not a run of Kubeflow: NAS_RUN_ID is not set; nothing is closed")
        return
    state = state_folder()
    _send_unsent(state)
    with _not_failing("MLflow runs"):
        _close(settings, key, _outcome(settings, key, status, message))
    give_back_trials(settings, key, state)


def close_ended_runs(settings: Config) -> None:
    """Close what earlier runs of the experiment have left open and could not close themselves.

    The first step calls this. An error here does not fail it: what could not be done is printed.
    """
    runs = KubeflowRuns.of_pod()
    with _not_failing("MLflow runs of earlier runs"):
        _close_ended(settings, runs)
        if _send_kept(settings, runs):  # of runs that MLflow did not have before
            _close_ended(settings, runs)


def _close_ended(settings: Config, runs: KubeflowRuns) -> None:
    for ended in closing.close_ended_runs(
        settings.tracking.uri,
        settings.tracking.experiment,
        is_over=runs.is_over,
        before=_send_unsent_of,
        except_key=run_key(),
        limit_s=_EARLIER_RUNS_S,
    ):
        count = len(ended.closed.run_ids)
        _say(f"run {ended.kfp_run_id}: {count} open MLflow runs closed: {ended.reason}")
        if ended.is_over:
            give_back_trials(settings, ended.run_key, _state_of(ended.run_key))


# --- events -----------------------------------------------------------------------------------


def _send_unsent(state: Path) -> None:
    from components.tracking.flush import send_left, spools_of

    with _not_failing("events"):
        for unsent in send_left(spools_of(state), limit_s=_SEND_S):
            _say(str(unsent))


def _send_unsent_of(key: str) -> None:
    state = _state_of(key)
    if state is not None:
        _send_unsent(state)


def _send_kept(settings: Config, runs: KubeflowRuns) -> bool:
    """Send what ended runs have kept on the volume of states; return whether there was anything.

    MLflow has no run of them if it was unreachable as long as they worked.
    """
    from components.tracking.flush import send_left, spools_of, store_of
    from components.tracking.lost_runs import is_left

    spools = [
        spool
        for state in _states()
        if state.name != run_id()
        for spool in spools_of(state)
        if store_of(spool) == settings.tracking.uri and is_left(spool) and runs.is_over(state.name)
    ]
    for unsent in send_left(spools, limit_s=_EARLIER_RUNS_S):
        _say(str(unsent))
    return bool(spools)


def _states() -> list[Path]:
    """Return the state folders of all runs, if they are on a volume that is mounted here."""
    root = os.environ.get(STATE_ROOT, "")
    if not root or "://" in root or not Path(root).is_dir():
        return []
    return sorted(Path(root).iterdir())


def _state_of(key: str) -> Path | None:
    """Return the state folder of another run, if it is on a volume that is mounted here."""
    root = os.environ.get(STATE_ROOT, "")
    if not root or "://" in root:
        return None
    with contextlib.suppress(ValueError):  # the key of a run outside Kubeflow
        folder = Path(root) / str(UUID(key))
        return folder if folder.is_dir() else None
    return None


# --- MLflow -----------------------------------------------------------------------------------


def _outcome(settings: Config, key: str, status: str, message: str) -> Outcome:
    """Return how the run ended: Kubeflow reports whether it failed, the steps report why."""
    found = _status_of(settings, key)
    is_known = status in (*_SUCCEEDED, *_CANCELLED, *_FAILED)
    # A task whose pod was lost leaves its group in state RUNNING; then the promotion decides.
    if status in _SUCCEEDED or (not is_known and found is not None and found.status == "FINISHED"):
        return Outcome("FINISHED", "", "")
    if status in _CANCELLED:
        return Outcome("KILLED", message or "the run was cancelled", "stopped")
    if found is not None and found.reason is not None:
        return Outcome("FAILED", found.reason, found.kind or closing.LOST)
    reason = message or (
        f"the run ended ({status or 'no state'}), and no step has said why: a pod was lost, or the "
        "cluster could not start it; `nas status RUN` names the task"
    )
    return Outcome("FAILED", reason, closing.LOST)


def _status_of(settings: Config, key: str) -> closing.TrackedState | None:
    return closing.status_of(
        uri=settings.tracking.uri, run_key=key, experiment=settings.tracking.experiment
    )


def _close(settings: Config, key: str, outcome: Outcome) -> None:
    closed = closing.close_run(
        uri=settings.tracking.uri,
        run_key=key,
        experiment=settings.tracking.experiment,
        status=outcome.status,
        reason=outcome.reason,
        kind=outcome.kind,
    )
    if closed.run_ids:
        reason = f": {outcome.reason}" if outcome.reason else ""
        _say(f"{len(closed.run_ids)} open MLflow runs ended as {outcome.status}{redact(reason)}")
    if closed.refused:
        _say(f"this account may not end the MLflow runs {', '.join(closed.refused)}")
    left = _status_of(settings, key)
    if left is not None and left.open_keys:
        _say(f"still open in MLflow: {', '.join(left.open_keys)}; {_LATER}")


# --- trials -----------------------------------------------------------------------------------


def give_back_trials(settings: Config, key: str, state: Path | None) -> None:
    """Close the trials that an ended run has left RUNNING, and create no study.

    Args:
        settings: configuration of the run.
        key: key of the run.
        state: its state folder, which has the study of searches without a database; None if that
            cannot be reached.
    """
    from nascore.search.database_url import file_url, resolve_url
    from nascore.search.study_identity import study_name  # Optuna and SQLAlchemy: a second

    search = settings.search
    with _not_failing("the trials of the study"):
        if search.storage is not None:
            studies = {f"{key}/{arm}": True for arm in _ARMS}
            if search.study is not None:
                studies |= {study_name(search, key, arm): False for arm in _ARMS}
            _give_back(settings, resolve_url(search.storage), studies)
        elif state is not None and (state / _STUDY).is_file():
            studies = {study_name(search, key, arm): True for arm in _ARMS}
            _give_back(settings, file_url(state / _STUDY), studies)


def _give_back(settings: Config, url: str, studies: Mapping[str, bool]) -> None:
    """Give back the trials of studies; a value says whether a study is the ended run's alone."""
    from nascore.search.give_back import give_back_all

    timeout_s = settings.search.worker_timeout_s
    given = give_back_all(
        url, studies, worker_timeout_s=timeout_s, retry_timeout_s=_DATABASE_TIMEOUT_S
    )
    for name, one in given.items():
        if one.returned or one.completed:
            _say(
                f"study {name}: {len(one.returned)} trials given back, "
                f"{len(one.completed)} closed with their outcome"
            )
        if one.left:
            _say(
                f"study {name}: {len(one.left)} trials belong to workers that were alive "
                f"{timeout_s} s ago; other workers of the study take them when they are not"
            )


# --- output -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _not_failing(what: str) -> Iterator[None]:
    """Print errors of the block instead of raising them: the run has ended before."""
    try:
        yield
    except (InputError, ServiceUnavailable) as error:
        _say(f"{what}: {error}; {_LATER}")
    except Exception as error:
        # Any defect of this code must not turn a run that succeeded into one that failed.
        traceback.print_exc()
        _say(f"{what}: {type(error).__name__}: {redact(str(error))}; {_LATER}")


def _say(text: str) -> None:
    print(f"close_run: {text}", flush=True)
