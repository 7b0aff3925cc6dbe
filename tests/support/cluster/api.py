"""KFP's API server over the cluster, with the answers that a real one of 2.17 gave.

Wrong input often gets 500 (N6); a run lists Argo's nodes, retry wrappers and drivers too, without
`error` and `parent_task_id` (H4).
"""

import json
import re
import threading
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_http
from kfp_pipelines import Pipelines, check_parameters

from cluster.kubeflow import Cluster
from cluster.nodes import Node, Phase
from cluster.runs import Run
from cluster.spec import Json, Pipeline

_STATES = {
    Phase.PENDING: "PENDING",
    Phase.RUNNING: "RUNNING",
    Phase.SUCCEEDED: "SUCCEEDED",
    Phase.FAILED: "FAILED",
    Phase.ERROR: "FAILED",
    Phase.SKIPPED: "SKIPPED",
}
_ENDED = ("SUCCEEDED", "FAILED")
_NEVER = "0001-01-01T00:00:00Z"
_SOURCES = ("pipeline_spec", "pipeline_version_reference")
_PIPELINES = "/pipelines"


class Refusal(Exception):
    """An answer that is none of 200."""

    def __init__(self, status: int, code: int, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"code": code, "message": message}
        if detail is not None:
            kind = "type.googleapis.com/google.rpc.Status"
            self.body["details"] = [{"@type": kind, "code": code, "message": detail}]


class Api:
    """The server; `url` is its address.

    Attributes:
        schedules: recurring runs by id.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.experiments: list[Json] = []
        self.pipelines = Pipelines()
        self.schedules: dict[str, Json] = {}
        self._requests: dict[str, Json] = {}
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, query: Json, body: Json) -> Json:
        parts = path.strip("/").replace(":", "/").split("/")
        match (method, parts):
            case ("GET", ["healthz"]):
                return {"commit_sha": "unknown", "tag_name": "unknown", "multi_user": False}
            case ("GET", ["experiments"]):
                return {"experiments": [one for one in self.experiments if _fits(one, query)]}
            case ("POST", ["experiments"]):
                return self._add_experiment(body)
            case ("POST", ["runs"]):
                return self._show(self.create(body))
            case ("GET", ["runs"]):
                return self._list(query)
            case ("GET", ["runs", run]):
                return self._show(self._run(run, "Failed to get a run: Failed to fetch run"))
            case ("POST", ["runs", run, "terminate"]):
                return self._terminate(run)
            case (_, ["recurringruns", *rest]):
                return self._schedule(method, rest, body)
        raise Refusal(404, 5, "Not Found")

    # --- runs -------------------------------------------------------------------------------

    def create(self, body: Json, *, schedule: str | None = None) -> Run:
        """Start a run as a request or a schedule asks for it."""
        failed = "Failed to create a new run:"
        if not body.get("display_name"):
            message = (
                "CreateJob(job.ToV2())Failed to create a run due to conversion error: "
                "InternalServerError: Failed to convert a API run detail to its internal "
                "representation: Invalid input error: Run name cannot be empty"
            )
            raise Refusal(500, 13, message, "Internal Server Error")
        experiment = body.get("experiment_id", "")
        if experiment and experiment not in [one["experiment_id"] for one in self.experiments]:
            cause = (
                "Failed to create a run due to invalid experimentId and namespace combination: "
                f"Failed to fetch namespace for experiment {experiment}: Failed to fetch namespace "
                f"from experiment {experiment}: ResourceNotFoundError: "
                f"Experiment {experiment} not found"
            )
            raise Refusal(404, 5, f"{failed} {cause}", f"Experiment {experiment} not found")
        source, spec = self.pipelines.source_of(body)
        pipeline = Pipeline(spec.get("pipeline_spec", spec), spec.get("platform_spec", {}))
        if "pipelineInfo" not in pipeline.spec:
            cause = (
                "InternalServerError: Failed to create a run due to error fetching manifest: Failed"
                " to fetch a template with an invalid pipeline spec manifest: InvalidInputError: "
                "unknown template format: pipeline spec is invalid"
            )
            raise Refusal(500, 13, f"{failed} {cause}", "Internal Server Error")
        check_parameters(spec, body, f"{failed} Failed to generate the ExecutionSpec")
        parameters = body.get("runtime_config", {}).get("parameters", {})
        run = self.cluster.submit(pipeline, parameters, title=body["display_name"])
        known = {"recurring_run_id": schedule} if schedule else {}
        self._requests[run.id] = {**body, **source, **known}
        return run

    def _run(self, run_id: str, failed: str) -> Run:
        found = self.cluster.runs.get(run_id)
        if found is None:
            message = f"{failed} {run_id}: ResourceNotFoundError: Run {run_id} not found"
            raise Refusal(404, 5, message, f"Run {run_id} not found")
        return found

    def _terminate(self, run_id: str) -> Json:
        failed = f"Failed to terminate a run: Failed to terminate run {run_id}"
        cause = "due to error fetching the run: Failed to fetch run"
        run = self._run(run_id, f"{failed} {cause}")
        if run.state in (*_ENDED, "CANCELING"):
            detail = f"Failed to terminate a run {run_id}. Row not found"
            raise Refusal(400, 3, f"{failed}: Invalid input error: {detail}", detail)
        if run.abandoned:  # K: apiserver/resource/resource_manager.go TerminateRun
            run.history.append((datetime.now(UTC), "CANCELING"))
            cause = f'workflows.argoproj.io "{run.info.name}" not found'
            message = f"{failed} due to error terminating its workflow: {cause}"
            raise Refusal(500, 13, message, "Internal Server Error")
        run.cancel()
        return {}

    def _list(self, query: Json) -> Json:
        if (token := query.get("page_token")) and not re.fullmatch(r"[\w+/=]*", token):
            cause = "Invalid page token: illegal base64 data at input byte 0"
            message = f"Failed to create list options: InvalidInputError: {cause}"
            raise Refusal(400, 3, message, cause)
        wanted = query.get("experiment_id")
        runs = [self._show(run, whole=False) for run in list(self.cluster.runs.values())]
        found = [run for run in runs if wanted in (None, run["experiment_id"])]
        found.sort(key=lambda run: str(run["created_at"]), reverse=True)
        return {"runs": found, "total_size": len(found)}

    def _show(self, run: Run, *, whole: bool = True) -> Json:
        asked = self._requests.get(run.id, {})
        kept = (*_SOURCES, "recurring_run_id", "description")
        shown = {
            "experiment_id": asked.get("experiment_id", ""),
            "run_id": run.id,
            "display_name": run.title,
            "storage_state": "AVAILABLE",
            **{key: asked[key] for key in kept if key in asked},
            "runtime_config": asked.get("runtime_config", {}),
            "service_account": asked.get("service_account", "pipeline-runner"),
            "created_at": _time(run.created),
            "scheduled_at": _time(run.created),
            "finished_at": "1970-01-01T00:00:00Z" if run.finished is None else _time(run.finished),
            "state": run.state,
            "state_history": [
                {"update_time": _time(when), "state": state} for when, state in run.history
            ],
        }
        if whole and run.workflow.nodes:
            with run.workflow.lock:
                tasks = [_task(run.id, node) for node in run.workflow.nodes.values()]
            shown["run_details"] = {"task_details": sorted(tasks, key=lambda one: one["task_id"])}
        return shown

    def log(self, run_id: str, pod: str) -> str:
        """By the pod's name; what there is none of is an error in the text of a 200
        (K: apiserver/server/run_log_server.go)."""
        run = self.cluster.runs.get(run_id)
        nodes = [] if run is None else list(run.workflow.nodes.values())
        for node in nodes:
            if node.pod == pod and node.log is not None:
                return node.log.read_text(errors="replace")
        cause = f"Failed to read logs for run {run_id}"
        return json.dumps({"error_message": cause, "error_details": cause})

    # --- experiments and schedules ----------------------------------------------------------

    def _add_experiment(self, body: Json) -> Json:
        made = {"experiment_id": str(uuid.uuid4()), "storage_state": "AVAILABLE", **body}
        self.experiments.append(made)
        return made

    def _schedule(self, method: str, rest: list[str], body: Json) -> Json:
        match (method, rest):
            case ("GET", []):
                found = list(self.schedules.values())
                return {"recurringRuns": found, "total_size": len(found)}
            case ("POST", []):
                status = f"{body.get('mode', 'ENABLE')}D"
                made = {"recurring_run_id": str(uuid.uuid4()), "status": status, **body}
                self.schedules[made["recurring_run_id"]] = {**made, "created_at": _time()}
                return self.schedules[made["recurring_run_id"]]
        if rest[0] not in self.schedules:
            message = f"Failed to fetch a recurring run: ResourceNotFoundError: Job {rest[0]}"
            raise Refusal(404, 5, f"{message} not found", f"Job {rest[0]} not found")
        match (method, rest):
            case ("GET", [one]):
                return self.schedules[one]
            case ("POST", [one, action]):
                self.schedules[one]["status"] = f"{action.upper()}D"
            case ("DELETE", [one]):
                # N7: its workflows are owned by it, and Kubernetes collects them with it.
                del self.schedules[one]
                for run in self.cluster.runs.values():
                    asked = self._requests.get(run.id, {})
                    if asked.get("recurring_run_id") == one and run.state not in _ENDED:
                        run.collect()
        return {}

    def tick(self, schedule: str) -> Run:
        """The time of a schedule has come (M1 for the name)."""
        asked = self.schedules[schedule]
        title = f"{re.sub(r'[^a-z0-9]', '', asked['display_name'].lower())}{schedule[:5]}-1-12345"
        return self.create({**asked, "display_name": title}, schedule=schedule)


def _task(run_id: str, node: Node) -> Json:
    omitted = node.phase is Phase.OMITTED
    history = [
        {"update_time": _stamp(when), "state": _STATES[phase]}
        for when, phase in node.history
        if phase in _STATES
    ]
    shown: Json = {
        "run_id": run_id,
        "task_id": str(uuid.uuid5(uuid.NAMESPACE_OID, node.id)),
        "display_name": node.shown,
        "create_time": _stamp(node.started),
        "start_time": _stamp(node.started),
        "end_time": _NEVER if node.finished is None else _stamp(node.finished),
        # A task that never ran has no state (H4).
        **({} if omitted else {"state": _STATES[node.phase]}),
        "state_history": [{"update_time": _stamp(node.started)}] if omitted else history,
    }
    if node.children:
        shown["child_tasks"] = [{"pod_name": child} for child in node.children]
    return shown


def _fits(thing: Json, query: Json) -> bool:
    """Whether it has the display name that a filter asks for."""
    for one in json.loads(query.get("filter", "{}")).get("predicates", ()):
        if one["key"] == "display_name" and thing["display_name"] != one["stringValue"]:
            return False
    return True


def _stamp(seconds: float) -> str:
    return _time(datetime.fromtimestamp(seconds, UTC))


def _time(when: datetime | None = None) -> str:
    return (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Handler(BaseHTTPRequestHandler):
    api: Api
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query: dict[str, Any] = {key: one[0] for key, one in parse_qs(address.query).items()}
        log = re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", address.path)
        if log is not None:
            self._send(200, self.api.log(log[1], unquote(log[2])).encode(), "text/plain")
            return
        status, answer = 200, {}
        path = unquote(address.path).removeprefix("/apis/v2beta1")
        try:
            if path.startswith(_PIPELINES):
                answer = self._of_pipelines(path.removeprefix(_PIPELINES), query, body)
            else:
                answer = self.api.answer(self.command, path, query, json.loads(body or b"{}"))
        except (Refusal, kfp_http.Refusal) as refusal:
            status, answer = refusal.status, refusal.body
        except ValueError:
            status, answer = 400, {"code": 3, "message": "unexpected EOF"}
        self._send(status, json.dumps(answer).encode(), "application/json")

    do_POST = do_DELETE = do_GET

    def _of_pipelines(self, path: str, query: Json, body: bytes) -> Json:
        is_json = body and self.headers.get_content_type() == "application/json"
        given: Any = json.loads(body) if is_json else body
        request = kfp_http.Request(self.command, path, query, self.headers, given)
        answer = self.api.pipelines.answer(request, path.strip("/").split("/") if path else [])
        if answer is None:
            raise Refusal(404, 5, f"{path} not found")
        return answer

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
