"""Retry of a run on Kubeflow: a new run that continues the state of one that has ended.

KFP's own Retry never recreates the nodes of a loop, so that such a run stays RUNNING for ever. A
new run has all its nodes, and its steps find finished work in the state.
"""

import re
from dataclasses import dataclass

from nascore.errors import InputError
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.run_origin import Origin, continuing, first_of
from pipelines.kubeflow.status.run_end import Failure, deciding
from pipelines.kubeflow.status.run_state import is_ended, run_state, state_of
from pipelines.kubeflow.status.run_status import status_of

_STATE = ("state", "state_volume")  # the second is the name in older versions
_NUMBER = re.compile(r"\s*\(retry (\d+)\)$")


@dataclass(frozen=True, slots=True)
class Chain:
    """A run and its retries, from a given run on.

    Attributes:
        first: id of the first run of the chain.
        runs: newest first.
    """

    first: str
    runs: tuple[JsonObject, ...]

    def going_on(self) -> JsonObject | None:
        """Return the run of the chain that has not ended, if any."""
        return next((run for run in self.runs if not is_ended(run)), None)

    def succeeded(self) -> JsonObject | None:
        """Return the run of the chain that has succeeded, if any."""
        return next((run for run in self.runs if run.get("state") == "SUCCEEDED"), None)

    def is_newest(self, run: JsonObject) -> bool:
        """Return whether no run of the chain was started after this one."""
        return bool(self.runs[0]["run_id"] == run["run_id"])


def chain_of(cluster: Cluster, run: JsonObject, first: str) -> Chain:
    """Return a run with the later runs of its chain."""
    found = []
    for other in cluster.runs(run.get("experiment_id", "")):
        if str(other.get("created_at")) < str(run.get("created_at")):
            break
        if other["run_id"] != run["run_id"] and first_of(other) == first:
            found.append(other)
    return Chain(first, (*found, run))


def is_lost(cluster: Cluster, run: JsonObject) -> bool:
    """Return whether nothing is left of a cancelled run, which KFP never shows as ended.

    Raises:
        ClusterError: the server does not answer.
    """
    return state_of(run) == "CANCELING" and status_of(cluster, run).signs.is_lost


def check(run: JsonObject, origin: Origin, chain: Chain, *, is_lost: bool = False) -> None:
    """Check that a run may be retried.

    Args:
        is_lost: nothing of the run is left, whatever state KFP shows.

    Raises:
        InputError: it or a retry of it is running or has succeeded, or its pipeline is not ours.
    """
    run_id = run["run_id"]
    if not is_ended(run) and not is_lost:
        message = f"is still going on ({run_state(run)}); stop it with nas cancel {run_id}"
        raise InputError.of("RUN", run_id, message)
    if not origin.is_ours:
        message = "its pipeline was not compiled by this project; retry it in Kubeflow's pages"
        raise InputError.of("RUN", run_id, message)
    if run.get("state") == "SUCCEEDED":
        raise InputError.of("RUN", run_id, "has succeeded; start another with nas submit")
    going_on, succeeded = chain.going_on(), chain.succeeded()
    if going_on is not None and going_on["run_id"] != run_id:
        message = (
            f"its retry {going_on['run_id']} is still going on, and two runs would write one "
            f"state; follow it with nas status --wait {going_on['run_id']}"
        )
        raise InputError.of("RUN", run_id, message)
    if succeeded is not None:
        message = f"its retry {succeeded['run_id']} has succeeded; start another with nas submit"
        raise InputError.of("RUN", run_id, message)


def check_input(run: JsonObject, found: list[Failure]) -> None:
    """Check that a run did not fail for its input.

    Raises:
        InputError: it did, and the same input would be refused again.
    """
    failure = deciding(found)
    if failure is not None and failure.kind == "input":
        message = (
            f"was refused for its input ({failure.name}: {failure.reason}); correct that and "
            "start it with nas submit, or give --force if what was wrong lay outside the input"
        )
        raise InputError.of("RUN", run["run_id"], message)


def request(run: JsonObject, origin: Origin, chain: Chain) -> JsonObject:
    """Return the request that repeats a run, with steps that continue the state of the chain."""
    body = {
        "display_name": _name(run, chain),
        "description": f"Continues run {run['run_id']}",
        "experiment_id": run.get("experiment_id", ""),
        "pipeline_spec": continuing(origin.pipeline, origin.first),
        "runtime_config": run.get("runtime_config") or {},
    }
    others = {name: run[name] for name in ("service_account", "plugins_input") if run.get(name)}
    return {**body, **others}


def losses(origin: Origin) -> str:
    """Return a warning that finished steps are repeated, if `cluster.state` is not set."""
    if not origin.config or any(origin.setting("cluster", key) for key in _STATE):
        return ""
    study = "; the study in the database is resumed" if origin.setting("search", "storage") else ""
    return (
        "cluster.state is not set in the configuration of this run: steps that were finished are "
        f"done again{study}"
    )


def _name(run: JsonObject, chain: Chain) -> str:
    names = [str(each.get("display_name", "")) for each in chain.runs]
    numbers = [int(match.group(1)) for name in names if (match := _NUMBER.search(name))]
    base = _NUMBER.sub("", str(run.get("display_name", "")))
    return f"{base} (retry {max(numbers, default=0) + 1})"
