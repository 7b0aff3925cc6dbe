"""All MLflow runs of one pipeline run: found by their keys, read, and ended.

The pipeline's run has the key KEY, those of its steps KEY.STEP and those of children
KEY.STEP.child-N. mlflow is imported by the calls, not by this module.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from components.ending import TAG_KIND, TAG_REASON
from components.tracking.client import open_client, quick_settings, sqlite_path, within
from components.tracking.mlflow_errors import brief, kind_of, refuses_account, remedy_of
from components.tracking.notes import warn
from components.tracking.store_checks import reach_database
from components.tracking.tags import ADOPTED, MAX_TAG, RUN_KEY
from nascore.errors import ResourceUnavailable
from nascore.redaction import redact
from nascore.service_errors import ErrorKind

if TYPE_CHECKING:
    from mlflow import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]
RUNNING, FINISHED = "RUNNING", "FINISHED"

_KEY = re.compile(r"[\w:/-]{1,200}")
_AT_ONCE = 1000  # runs or experiments in one answer
_RECALL_LIMIT_S = 20.0
_UNKNOWN = "earlier tries of this step are not known"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Closed:
    """The MLflow runs of a pipeline run that were ended, and those that could not be.

    Attributes:
        run_ids: ids of the runs that were RUNNING and are ended now.
        refused: ids of runs that this account may not write.
    """

    run_ids: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def ask_store(uri: str, limit_s: float, ask: Callable[["MlflowClient"], _Result]) -> _Result | None:
    """Return what a question to a store gives; None when there is no store yet.

    Args:
        uri: MLflow store.
        limit_s: time limit of the whole question.
        ask: gets a client.

    Raises:
        ResourceUnavailable: the store does not answer, or refuses access.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return None
    try:
        reach_database(uri)
        with quick_settings():
            return within(limit_s, lambda: ask(open_client(uri)))
    except Exception as error:  # whatever a store can raise: the question is of no use without it
        advice = "bring it back; `nas status RUN` or the next run will close what is left open"
        if kind_of(error) is ErrorKind.SETUP:
            advice = remedy_of(error)
        raise ResourceUnavailable.of(
            "tracking.uri",
            uri,
            f"the store did not do what was asked ({brief(error)}); {advice}",
        ) from error


def tag_of_run(uri: str, key: str, tag: str, *, unknown: str = _UNKNOWN) -> str | None:
    """Return a tag of the run of a key; None when there is no such run or tag.

    A store that cannot be asked is no reason to wait: the work is done again, with a warning.

    Args:
        uri: MLflow store.
        key: value of the tag `nas.run_key`.
        tag: name of the tag.
        unknown: text of the warning where the store cannot be asked; the cause follows.
    """

    def read(client: "MlflowClient") -> str | None:
        experiments = [one.experiment_id for one in client.search_experiments()]
        runs = client.search_runs(experiments, f"tags.`{RUN_KEY}` = '{key}'", max_results=1)
        return runs[0].data.tags.get(tag) if runs else None

    try:
        return ask_store(uri, _RECALL_LIMIT_S, read)
    except ResourceUnavailable as error:
        warn(f"{unknown} ({brief(error.__cause__ or error)})")
        return None


def key_of(run: Any) -> str:
    """Return the key of an MLflow run; empty for a run of another program."""
    return str(run.data.tags.get(RUN_KEY, ""))


def runs_of(client: "MlflowClient", run_key: str, experiment: str | None) -> list[Any]:
    """Return all runs of a pipeline run, the earliest first.

    Args:
        experiment: name of one that is looked at in any case; all others that the account may read
            are, since Kubeflow's MLflow plugin has an experiment of its own.
    """
    if not _KEY.fullmatch(run_key):
        raise ValueError(f"{run_key!r} is no key of a pipeline run")
    ids = [one.experiment_id for one in client.search_experiments(max_results=_AT_ONCE)]
    named = None if experiment is None else client.get_experiment_by_name(experiment)
    if named is not None and named.experiment_id not in ids:
        ids.append(named.experiment_id)  # there are more than one answer holds
    own = search(client, ids, f"tags.`{RUN_KEY}` = '{run_key}'")
    below = search(client, ids, f"tags.`{RUN_KEY}` LIKE '{run_key}.%'")
    # LIKE takes _ for any character.
    return own + [run for run in below if key_of(run).startswith(f"{run_key}.")]


def search(client: "MlflowClient", experiment_ids: list[str], where: str) -> list[Any]:
    """Return all runs that a filter finds, the earliest first."""
    runs: list[Any] = []
    token: str | None = None
    while token != "":
        page = client.search_runs(
            experiment_ids,
            where,
            max_results=_AT_ONCE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs += page
        token = page.token or ""
    return runs


def end_runs(
    client: "MlflowClient",
    runs: Sequence[Any],
    *,
    status: Status,
    reason: str,
    kind: str,
) -> Closed:
    """End those runs that are RUNNING, from the children up, and write the reason.

    Where this is cut off, the pipeline's run is still open and found again. Kubeflow's runs keep
    their status. A run that has failed without a reason is given it, if it is the
    pipeline's or Kubeflow's.
    """
    tags = {TAG_REASON: redact(reason)[:MAX_TAG], TAG_KIND: kind} if reason else {}
    ended: list[str] = []
    refused: list[str] = []
    for run in sorted(runs, key=lambda run: -key_of(run).count(".")):
        is_kubeflows = ADOPTED in run.data.tags
        is_open = run.info.status == RUNNING and not is_kubeflows
        is_bad = FINISHED not in (run.info.status, status)
        wants_reason = is_open or (is_bad and (is_kubeflows or "." not in key_of(run)))
        try:
            if wants_reason and TAG_REASON not in run.data.tags:  # its own word is better
                for name, value in tags.items():
                    client.set_tag(run.info.run_id, name, value)
            if is_open:
                now_ms = int(time.time() * 1000)
                client.set_terminated(run.info.run_id, status, end_time=now_ms)
                ended.append(run.info.run_id)
        except Exception as error:  # MLflow's classes are not imported here
            if not refuses_account(error):
                raise
            refused.append(run.info.run_id)
    return Closed(tuple(ended), tuple(refused))
