"""Starting a run or creating a schedule exactly once, even if the answer is lost.

KFP's API server may take longer than a client or a gateway waits, as when its MLflow plugin asks a
slow server. The run is created nevertheless, so it is searched for.
"""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from pipelines.kubeflow import clock
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.errors import ClusterError

_LOOK_S = 60.0
"""Time after the expected answer in which the run may still appear."""
_PAUSE_S = 3.0
_SKEW = timedelta(minutes=1)  # between our clock and the server's
_MARK = "Started by nas, request "

Say = Callable[[str], None]


def start_run(cluster: Cluster, body: JsonObject, say: Say) -> JsonObject:
    """Start a run; find it if the answer is lost.

    Args:
        body: request in the form of the API.
        say: prints that the run is searched for.

    Raises:
        ClusterError: the server refuses, or it is not known whether the run was started.
    """
    body = {**body, "description": f"{_MARK}{uuid.uuid4().hex[:12]}"}
    begun = clock.now()
    return made_or_found(
        lambda: cluster.create_run(body),
        lambda: next(_runs_like(cluster, body, begun), None),
        what=f"the run {str(body['display_name'])!r}",
        where=_page(cluster, body),
        say=say,
    )


def make_schedule(cluster: Cluster, body: JsonObject, say: Say) -> JsonObject:
    """Create a schedule with a free name; find it if the answer is lost.

    Args:
        body: request in the form of the API.
        say: prints that the schedule is searched for.

    Raises:
        ClusterError: the server refuses, or it is not known whether the schedule was created.
    """
    name = str(body["display_name"])
    return made_or_found(
        lambda: cluster.create_schedule(body),
        lambda: next((one for one in cluster.schedules() if one.get("display_name") == name), None),
        what=f"the schedule {name!r}",
        where=_page(cluster, body),
        say=say,
    )


def made_or_found(
    make: Callable[[], JsonObject],
    find: Callable[[], JsonObject | None],
    *,
    what: str,
    where: str,
    say: Say,
) -> JsonObject:
    """Make an object by one request, and find it if the answer is lost.

    Args:
        make: sends the request.
        find: returns the object if the server has it.
        what: what it is, such as `the run 'x'`.
        where: page on which to look for it, or an empty text.
        say: prints that it is searched for.

    Raises:
        ClusterError: the server refuses, or it is not known whether the object was made.
    """
    try:
        return make()
    except ClusterError as error:
        if not error.may_be_done:
            raise
        say(f"{_what(error)}; checking whether {what} was made")
        found = look_for(find, error)
        if found is None:
            raise _unknown(error, what, where) from None
        say("It was.")
        return found


def look_for(find: Callable[[], JsonObject | None], error: ClusterError) -> JsonObject | None:
    """Return what is found, which may appear only after a while; None when there is nothing.

    Raises:
        ClusterError: the server refuses.
    """

    def once() -> JsonObject | None:
        try:
            return find()
        except ClusterError as refusal:
            if not refusal.is_transient:
                raise
            return None

    retrying = Retrying(
        retry=retry_if_result(lambda found: found is None),
        wait=wait_fixed(_PAUSE_S),
        stop=stop_after_delay(0 if error.is_answered else _LOOK_S),
        retry_error_callback=lambda state: None,
    )
    return retrying(once)


def _runs_like(cluster: Cluster, body: JsonObject, begun: datetime) -> Iterator[JsonObject]:
    """Yield runs that the request may have started; its own, if the description was kept."""
    for run in cluster.runs(str(body["experiment_id"])):
        created = datetime.fromisoformat(str(run.get("created_at") or begun.isoformat()))
        if created < begun - _SKEW:
            return
        described = str(run.get("description") or "")
        is_other = described.startswith(_MARK) and described != body["description"]
        if run.get("display_name") == body["display_name"] and not is_other:
            yield run


def _unknown(error: ClusterError, what: str, where: str) -> ClusterError:
    page = f" ({where})" if where else ""
    return ClusterError(
        f"{_what(error)}. {what[0].upper()}{what[1:]} was not found, but may come up yet: look for "
        f"it in Kubeflow's pages{page} before you start it again",
        exit_status=error.exit_status,
        is_transient=error.is_transient,
    )


def _page(cluster: Cluster, body: JsonObject) -> str:
    ui = cluster.connection.ui
    return "" if ui is None else f"{ui}/#/experiments/details/{body.get('experiment_id')}"


def _what(error: ClusterError) -> str:
    """Return the error message without the advice to try again."""
    return str(error).partition("; ")[0]
