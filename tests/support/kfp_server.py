"""Stands in for a KFP API server, which cannot be had without a cluster.

Every request is checked against KFP's own contract: method, path, query, headers and body, with no
field that the contract does not name. What does not fit is refused and kept in `violations`.
Answers are checked alike before they are sent. What the contract does not say, such as how a run
ends, is as KFP 2.17 was seen to do it.
"""

import json
import ssl
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kfp_contract import Contract
from kfp_http import Fault, Handler, Refusal, Request
from kfp_nodes import Nodes, Part, cancelled
from kfp_pipelines import Pipelines, check_parameters

PREFIX = "/apis/v2beta1"
NOW = f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
NEVER = "1970-01-01T00:00:00Z"
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


@dataclass(frozen=True)
class Look:
    """What a run is at one look.

    Attributes:
        parts: of its pipeline; the list stays as it was where there are none.
        age_s: how long ago the list changed last.
    """

    state: str
    parts: tuple[Part, ...] = ()
    age_s: float = 0


class KfpServer:
    """A small server that remembers what it was told, as KFP would.

    Attributes:
        requests: all that fitted the contract.
        violations: what did not.
        fault: answered instead of the real thing.
        plans: for each run that will be created, what it is at each look, the last for ever.
        logs: of the last try of a step, by the name of the task; else there is none.
        pod_logs: of nodes, by their id.
        wraps: whether the cluster retries every template, as KFP 2.17 ships it.
        before: is called with each request before it is answered.
        ignores_case: whether names are compared without case, as MySQL does.
        stops: whether a run that is cancelled ends.
        token: wanted in the header of every request.
    """

    def __init__(self, swagger: Path, *, tls: ssl.SSLContext | None = None) -> None:
        self.contract = Contract(swagger)
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.fault: Fault | None = None
        self.plans: list[list[Look]] = []
        self.logs: dict[str, str] = {}
        self.pod_logs: dict[str, str] = {}
        self.wraps = True
        self.ignores_case = False
        self.stops = True
        self.before: Callable[[Request], object] = lambda request: None
        self.token: str | None = None
        self.experiments: list[dict[str, Any]] = []
        self.page_of_pipelines = Pipelines()
        self.runs: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.page = 100
        self.multi_user = False
        self._plans: dict[str, list[Look]] = {}
        self._nodes: dict[str, Nodes] = {}
        self._shown: dict[str, Look] = {}
        self._collected: set[str] = set()  # runs whose workflow Kubernetes has deleted
        handler = type("OneHandler", (Handler,), {"kfp": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def pipelines(self) -> list[dict[str, Any]]:
        return self.page_of_pipelines.pipelines

    @property
    def versions(self) -> list[dict[str, Any]]:
        return self.page_of_pipelines.versions

    def spec_of(self, run_id: str) -> Any:
        """The compiled pipeline of a run, whichever way it names it."""
        return self.page_of_pipelines.source_of(self.runs[run_id])[1]

    def sent(self, method: str, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and r.path == PREFIX + path]

    def plan(self, run_id: str, *looks: Look) -> None:
        """From now on the run is so, look by look."""
        self._plans[run_id] = list(looks)

    def keep(self, run: dict[str, Any]) -> str:
        """A run is as it was recorded."""
        self.runs[run["run_id"]], self._plans[run["run_id"]] = run, []
        return str(run["run_id"])

    def pods_of(self, run_id: str) -> dict[str, list[str]]:
        """Ids of the nodes that do the work of a run, by the names of the tasks."""
        return self._nodes[run_id].pods

    def fire(self, schedule_id: str, *looks: Look) -> str:
        """The clock starts a run of a schedule."""
        schedule = self.schedules[schedule_id]
        kept = ("experiment_id", "pipeline_spec", "pipeline_version_reference", "runtime_config")
        run = {name: schedule[name] for name in kept if name in schedule}
        run |= self.page_of_pipelines.source_of(run)[0]
        run["display_name"] = f"{schedule['display_name']}-{len(self.runs) + 1}"
        self.plans.insert(0, list(looks))
        return str(self._start({**run, "recurring_run_id": schedule_id})["run_id"])

    def collect(self, run_id: str) -> None:
        """Kubernetes deletes the workflow of a run: KFP's knowledge of it stands still."""
        self._look(run_id)
        self._collected.add(run_id)

    # --- what KFP does ----------------------------------------------------------------------

    def answer(self, request: Request) -> Any:
        path, body = request.path.removeprefix(PREFIX), request.body
        match (request.method, path.strip("/").replace(":", "/").split("/")):
            case ("GET", ["healthz"]):
                return {"multi_user": self.multi_user}
            case ("GET", ["experiments"]):
                return {"experiments": self._named(self.experiments, request)}
            case ("POST", ["experiments"]):
                return self._add(self.experiments, {"experiment_id": _id(), **body})
            case (_, ["pipelines", *rest]):
                return self.page_of_pipelines.answer(request, rest)
            case ("GET", ["runs"]):
                return self._page_of_runs(request)
            case ("POST", ["runs"]):
                self._check_run(body)
                source, spec = self.page_of_pipelines.source_of(body)
                failed = "Failed to create a new run: Failed to generate the ExecutionSpec"
                check_parameters(spec, body, f"{failed}: invalid pipeline job inputs")
                return self._start({**body, **source})
            case ("GET", ["runs", run_id]) if run_id in self.runs:
                return self._look(run_id)
            case ("POST", ["runs", run_id, "terminate"]) if run_id in self.runs:
                return self._terminate(run_id)
            case ("GET", ["recurringruns"]):
                return self._page("recurringRuns", list(self.schedules.values()), request)
            case ("POST", ["recurringruns"]):
                return self._add_schedule(body)
            case ("POST", ["recurringruns", one, action]) if one in self.schedules:
                self.schedules[one]["status"] = f"{action.upper()}D"
                return {}
            case ("DELETE", ["recurringruns", one]) if one in self.schedules:
                return self._delete_schedule(one, request.query.get("propagation_policy"))
        return None

    # --- runs -------------------------------------------------------------------------------

    def _check_run(self, body: dict[str, Any]) -> None:
        """KFP wraps what is wrong with a run into an internal error, but for the experiment."""
        if not body.get("display_name"):
            raise _internal("conversion error", "Invalid input error: Run name cannot be empty")
        known = {each["experiment_id"] for each in self.experiments}
        if known and body.get("experiment_id") not in known:
            message = f"ResourceNotFoundError: Experiment {body.get('experiment_id')} not found"
            raise Refusal(404, 5, f"Failed to create a new run: {message}")
        spec = body.get("pipeline_spec")
        if spec is None and not body.get("pipeline_version_reference"):
            raise _internal("error fetching manifest", "InvalidInputError: empty manifest")
        if spec is not None and "pipelineInfo" not in (spec.get("pipeline_spec") or spec):
            raise _internal("its manifest", "InvalidInputError: unknown template format")

    def _start(self, body: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC) + timedelta(seconds=len(self.runs))  # no two at once
        created = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        run = {
            "run_id": _id(),
            "state": "PENDING",
            "storage_state": "AVAILABLE",
            "created_at": created,
            "scheduled_at": created,
            "finished_at": NEVER,
            "service_account": "pipeline-runner",
            "state_history": [{"update_time": created, "state": "PENDING"}],
            **body,
        }
        self._plans[run["run_id"]] = self.plans.pop(0) if self.plans else []
        return self.runs.setdefault(run["run_id"], run)

    def _look(self, run_id: str) -> dict[str, Any]:
        run, plan = self.runs[run_id], self._plans[run_id]
        if plan and run_id not in self._collected:
            self._set(run, plan.pop(0) if len(plan) > 1 else plan[0])
        return run

    def _set(self, run: dict[str, Any], look: Look) -> None:
        if run["state_history"][-1]["state"] != look.state:
            run["state_history"].append({"update_time": NOW, "state": look.state})
        run["state"] = look.state
        run["finished_at"] = NOW if look.state in ENDED else NEVER
        if look.parts and self._shown.get(run["run_id"]) is not look:  # else its times stay
            self._shown[run["run_id"]] = look
            nodes = Nodes(
                f"nas-{run['run_id'][:5]}", run["run_id"], look.parts, self.wraps, look.age_s
            )
            self._nodes[run["run_id"]] = nodes
            run["run_details"] = {"task_details": nodes.tasks}

    def _terminate(self, run_id: str) -> dict[str, Any]:
        run = self.runs[run_id]
        if run["state"] in (*ENDED, "CANCELING"):
            message = f"Invalid input error: Failed to terminate a run {run_id}. Row not found"
            raise Refusal(400, 3, f"Failed to terminate a run: {message}")
        run["state"] = "CANCELING"
        parts = self._nodes[run_id].parts if run_id in self._nodes else ()
        ends = [Look("FAILED", cancelled(parts))] if self.stops else []
        self._plans[run_id] = [Look("CANCELING"), *ends]
        if run_id in self._collected:
            message = "error terminating its workflow: workflows.argoproj.io not found"
            raise Refusal(
                500, 13, f"InternalServerError: Failed to terminate a run due to {message}"
            )
        return {}

    def log(self, run_id: str, pod: str) -> str:
        """KFP answers 200 before it has looked; the error follows in the text."""
        nodes = self._nodes.get(run_id)
        for node, text in self.pod_logs.items():
            if pod in _pods(node):
                return text
        for name, ids in nodes.pods.items() if nodes else ():
            if pod in _pods(ids[-1]) and name in self.logs:
                return self.logs[name]
        return json.dumps({"error_message": f"Failed to read logs for run {run_id}"})

    def _page_of_runs(self, request: Request) -> dict[str, Any]:
        query = request.query
        assert query["sort_by"] == "created_at desc"
        found = [r for r in self.runs.values() if r["experiment_id"] == query["experiment_id"]]
        for run in found:
            if len(self._plans[run["run_id"]]) == 1:  # else it changes when it is looked at
                self._look(run["run_id"])
        for same in json.loads(query.get("filter", "{}")).get("predicates", []):
            assert same["operation"] == "EQUALS"
            found = [run for run in found if run.get(same["key"]) == same["stringValue"]]
        found.sort(key=lambda run: str(run.get("created_at")), reverse=True)
        return self._page("runs", found, request)

    # --- the rest ---------------------------------------------------------------------------

    def _add_schedule(self, body: dict[str, Any]) -> dict[str, Any]:
        _, spec = self.page_of_pipelines.source_of(body)
        failed = "Failed to create a recurring run: Failed to create a recurring run during"
        check_parameters(spec, body, f"{failed} scheduled workflow creation")
        made = {"recurring_run_id": _id(), "created_at": NOW, "status": f"{body['mode']}D", **body}
        return self.schedules.setdefault(made["recurring_run_id"], made)

    def _delete_schedule(self, schedule_id: str, policy: str | None) -> dict[str, Any]:
        """Kubernetes collects the workflows that belong to it, unless they are made orphans."""
        del self.schedules[schedule_id]
        if policy != "ORPHAN":
            runs = [r for r in self.runs.values() if r.get("recurring_run_id") == schedule_id]
            for run in runs:
                if run["state"] not in ENDED:
                    self.collect(run["run_id"])
        return {}

    def _page(self, key: str, things: list[Any], request: Request) -> dict[str, Any]:
        first = int(request.query.get("page_token", "0"))
        following = first + min(self.page, int(request.query["page_size"]))
        more = {"next_page_token": str(following)} if following < len(things) else {}
        return {key: things[first:following], "total_size": len(things), **more}

    def _named(self, things: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
        (same,) = json.loads(request.query["filter"])["predicates"]
        assert (same["operation"], same["key"]) == ("EQUALS", "display_name")
        fold = str.casefold if self.ignores_case else str
        wanted = fold(same["stringValue"])
        return [thing for thing in things if fold(thing["display_name"]) == wanted]

    @staticmethod
    def _add(things: list[dict[str, Any]], thing: dict[str, Any]) -> dict[str, Any]:
        things.append(thing)
        return thing


def _pods(node: str) -> tuple[str, str]:
    workflow, _, number = node.rpartition("-")
    return node, f"{workflow}-retry-system-container-impl-{number}"


def _internal(where: str, message: str) -> Refusal:
    whole = (
        f"Failed to create a new run: InternalServerError: Failed to create a run due to {where}"
    )
    return Refusal(500, 13, f"{whole}: {message}")


def _id() -> str:
    return str(uuid.uuid4())
