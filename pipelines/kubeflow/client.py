"""Client of a KFP API server; every call has a time limit and one error message.

It uses `kfp_server_api`, the REST client below `kfp.Client`. `kfp.Client` has no time limit, sends
up to five requests in its constructor, prints on standard output, and takes no pipeline without a
version, which a schedule that follows the latest version needs.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from nascore.errors import InputError
from pipelines.kubeflow.connection import Connection
from pipelines.kubeflow.errors import BUSY, ClusterError, no_kfp, refused, unreachable
from pipelines.kubeflow.responses import read_part

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
"""Final states of a run or a task."""
_PAGE = 100
_PAGE_OF_RUNS = 20  # each run comes with its pipeline of some hundred kilobytes
_TRIES_WHEN_BUSY = 4  # after the first: at once, then 1, 2 and 4 s later
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10  # also if the server asks for more

JsonObject = dict[str, Any]
"""An object of the server, with the field names of its REST API."""
_Taken = TypeVar("_Taken")
Warn = Callable[[str], None]


class Cluster:
    """A KFP API server."""

    def __init__(self, connection: Connection) -> None:
        import kfp_server_api as api
        import urllib3

        self.connection = connection
        settings = api.Configuration(host=connection.host)
        settings.verify_ssl = not connection.insecure
        settings.ssl_ca_cert = str(connection.ca_file) if connection.ca_file else None
        settings.api_key_prefix["authorization"] = "Bearer"
        # A redirect leads to a log-in page, not to another API: it is an error.
        settings.retries = urllib3.Retry(
            total=None,
            connect=0,
            read=0,
            other=0,
            redirect=0,
            raise_on_redirect=False,
            status=_TRIES_WHEN_BUSY,
            status_forcelist=[BUSY],
            allowed_methods=None,
            raise_on_status=False,
            backoff_factor=_PAUSE_S,
            retry_after_max=_LONGEST_PAUSE_S,
        )
        if connection.insecure:  # the command has warned once
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._settings = settings
        self.client = client = api.ApiClient(settings, cookie=connection.cookie)
        self._experiments = api.ExperimentServiceApi(client)
        self._health = api.HealthzServiceApi(client)
        self._runs = api.RunServiceApi(client)
        self._schedules = api.RecurringRunServiceApi(client)
        self._namespace = connection.namespace

    def namespace(self) -> str | None:
        """Return the given namespace, or the pod's if the server has profiles."""
        if self._namespace is None and self.connection.pod_namespace is not None:
            is_shared = self.health().get("multi_user")
            self._namespace = self.connection.pod_namespace if is_shared else ""
        return self._namespace or None

    def pods_namespace(self) -> str:
        """Return the namespace of the pods of runs; `kubeflow` on a server without profiles."""
        return self.namespace() or "kubeflow"

    def health(self) -> JsonObject:
        """Return the version of the server, and whether it has profiles (`multi_user`)."""
        return self.call(self._health.healthz_service_get_healthz)

    def create_run(self, body: JsonObject) -> JsonObject:
        """Start a run, which may take a minute if the server's MLflow plugin is enabled."""
        method, limit_s = self._runs.run_service_create_run, self.connection.create_timeout_s
        return self.call(method, body, _limit_s=limit_s)

    def run(self, run_id: str) -> JsonObject:
        return self.call(self._runs.run_service_get_run, run_id)

    def cancel(self, run_id: str) -> None:
        self.call(self._runs.run_service_terminate_run, run_id)

    def runs(self, experiment_id: str, *, schedule_id: str | None = None) -> Iterator[JsonObject]:
        """Yield the runs of an experiment, or only those of a schedule, newest first.

        Runs come with their pipelines, so pages are large: take no more runs than needed.
        """
        wanted: JsonObject = {"experiment_id": experiment_id, "sort_by": "created_at desc"}
        if schedule_id is not None:
            wanted["filter"] = equal("recurring_run_id", schedule_id)
        method = self._runs.run_service_list_runs
        return self.pages(method, "runs", page_size=_PAGE_OF_RUNS, **wanted)

    def log(self, run_id: str, pod: str) -> str:
        """Return the end of a pod's log; empty if KFP has none."""
        return self.log_from(run_id, pod, 0)[0]

    def log_from(self, run_id: str, pod: str, skip: int) -> tuple[str, int]:
        """Return a pod's log after its first bytes, and its size; only the end of a very long one.

        A log shorter than `skip` is the log of another pod, and returned from its beginning. This
        path of KFP's API is not in its contract, but KFP's pages use it; it cannot skip or follow.
        """
        path = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"

        def request(**options: Any) -> Any:
            parts = {"run_id": run_id, "node_id": pod}
            return self.client.call_api(path, "GET", parts, auth_settings=["Bearer"], **options)

        try:
            return self._read(request, take=partial(read_part, skip=skip))
        except ClusterError as error:
            if error.is_transient:
                raise
            return "", 0

    def experiment(self, name: str, warn: Warn = lambda text: None) -> str:
        """Return the id of the experiment of a name; create it if there is none.

        KFP's databases except PostgreSQL ignore case in names; `warn` then prints the name found.
        """
        method = self._experiments.experiment_service_list_experiments
        answer = self.call(method, filter=equal("display_name", name), **self.in_namespace())
        named = answer.get("experiments", [])
        found = sorted(named, key=lambda one: one.get("display_name") != name)
        if found:
            known = str(found[0].get("display_name") or name)
            if known != name:
                warn(f"the experiment {known!r} is used; Kubeflow takes {name!r} for the same name")
            return str(found[0]["experiment_id"])
        body = {"display_name": name, **self.in_namespace()}
        made = self.call(self._experiments.experiment_service_create_experiment, body)
        return str(made["experiment_id"])

    def create_schedule(self, body: JsonObject) -> JsonObject:
        return self.call(self._schedules.recurring_run_service_create_recurring_run, body)

    def schedules(self) -> list[JsonObject]:
        method = self._schedules.recurring_run_service_list_recurring_runs
        return list(self.pages(method, "recurringRuns", **self.in_namespace()))

    def pause(self, schedule_id: str) -> None:
        self.call(self._schedules.recurring_run_service_disable_recurring_run, schedule_id)

    def resume(self, schedule_id: str) -> None:
        self.call(self._schedules.recurring_run_service_enable_recurring_run, schedule_id)

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule, without runs of it that have started in the meantime.

        By default Kubernetes deletes the dependents of an object with it.
        """
        self.call(
            self._schedules.recurring_run_service_delete_recurring_run,
            schedule_id,
            propagation_policy="ORPHAN",
        )

    def in_namespace(self) -> JsonObject:
        """Return the field of a request that names the namespace, if there is one."""
        namespace = self.namespace()
        return {} if namespace is None else {"namespace": namespace}

    def pages(
        self, method: Callable[..., Any], key: str, *, page_size: int = _PAGE, **arguments: Any
    ) -> Iterator[JsonObject]:
        """Yield what a call lists below a key of its answers, page by page."""
        token = ""
        while True:
            following: JsonObject = {"page_token": token} if token else {}
            answer = self.call(method, page_size=page_size, **following, **arguments)
            yield from answer.get(key, [])
            token = answer.get("next_page_token", "")
            if not token:
                return

    def call(
        self,
        method: Callable[..., Any],
        *arguments: Any,
        _limit_s: float | None = None,
        **options: Any,
    ) -> JsonObject:
        """Return the JSON of an answer; the generated models would read a web page as empty.

        Raises:
            ClusterError: there is no answer, or it is an error.
        """
        body = self._read(partial(method, *arguments, **options), take=_text_of, limit_s=_limit_s)
        try:
            answer = json.loads(body)
        except ValueError:
            raise no_kfp(self.connection) from None
        if not isinstance(answer, dict):
            raise no_kfp(self.connection)
        return answer

    def _read(
        self,
        request: Callable[..., Any],
        *,
        take: Callable[[Any], _Taken],
        limit_s: float | None = None,
    ) -> _Taken:
        """Send a request and return what `take` reads from the answer.

        Args:
            limit_s: longest wait, instead of the connection's.

        Raises:
            ClusterError: there is no answer, or it is an error.
        """
        import kfp_server_api as api
        import urllib3

        limit = limit_s or self.connection.timeout_s
        try:
            token = self.connection.bearer()
            if token is not None:
                self._settings.api_key["authorization"] = token
            response = request(_preload_content=False, _request_timeout=(limit, limit))
            return take(response)
        except api.ApiException as error:
            raise refused(self.connection, error.status, str(error.body)) from None
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self.connection, error, limit) from None
        except UnicodeDecodeError:
            raise no_kfp(self.connection) from None
        except InputError as error:  # the token file has disappeared since it was checked
            raise ClusterError(str(error), exit_status=2) from None


def _text_of(response: Any) -> str:
    return str(response.data.decode())


def equal(key: str, value: str) -> str:
    """Return the filter of a list: a field has a value."""
    same = {"operation": "EQUALS", "key": key, "stringValue": value}
    return json.dumps({"predicates": [same]})
