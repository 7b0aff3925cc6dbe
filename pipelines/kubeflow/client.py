"""The calls to a KFP API server, each with a time limit and one clear message when it fails.

They go through the REST client that `kfp.Client` is built on. `kfp.Client` itself has no time
limit, asks the server up to five times while it is made, prints on standard output, and takes no
pipeline without a version, which is how a schedule follows the latest one.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nascore.errors import InputError
from pipelines.kubeflow.answers import part_of, text_of
from pipelines.kubeflow.connection import Connection
from pipelines.kubeflow.errors import BUSY, ClusterError, no_kfp, refused, unreachable

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
"""States in which a run or a task stays."""
_PAGE = 100
_PAGE_OF_RUNS = 20  # each with its whole pipeline, some hundred kilobytes
_TRIES_WHEN_BUSY = 4  # after the first: at once, then 1, 2 and 4 s later
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10  # whatever the server asks for

Thing = dict[str, Any]
"""What the server sends, with the names of its REST interface."""
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
        # A redirect leads to a log-in page, not to another API; it is told instead of followed.
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
        if connection.insecure:  # told by the command, once, not with every request
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._settings = settings
        client = api.ApiClient(settings, cookie=connection.cookie)
        self._client = client
        self._experiments = api.ExperimentServiceApi(client)
        self._health = api.HealthzServiceApi(client)
        self._pipelines = api.PipelineServiceApi(client)
        self._runs = api.RunServiceApi(client)
        self._schedules = api.RecurringRunServiceApi(client)
        self._uploads = api.PipelineUploadServiceApi(client)
        self._namespace = connection.namespace

    def namespace(self) -> str | None:
        """Of the user: as given, or the pod's where the server has several users."""
        if self._namespace is None and self.connection.pod_namespace is not None:
            is_shared = self.health().get("multi_user")
            self._namespace = self.connection.pod_namespace if is_shared else ""
        return self._namespace or None

    def health(self) -> Thing:
        """What the server says of itself: whether it has several users, and its version."""
        return self._call(self._health.healthz_service_get_healthz)

    # --- runs -------------------------------------------------------------------------------

    def create_run(self, body: Thing) -> Thing:
        """Starts a run; the server may take a minute for it, where its MLflow plugin is on."""
        method, limit_s = self._runs.run_service_create_run, self.connection.create_timeout_s
        return self._call(method, body, _limit_s=limit_s)

    def run(self, run_id: str) -> Thing:
        return self._call(self._runs.run_service_get_run, run_id)

    def cancel(self, run_id: str) -> None:
        self._call(self._runs.run_service_terminate_run, run_id)

    def newest_runs(self, experiment_id: str) -> list[Thing]:
        """The newest hundred runs of an experiment."""
        return list(itertools.islice(self.runs(experiment_id), _PAGE))

    def runs(self, experiment_id: str, *, schedule_id: str | None = None) -> Iterator[Thing]:
        """The runs of an experiment, newest first; those of a schedule alone when it is given.

        An answer holds the pipeline of each run, so that a page is large: take no more than needed.
        """
        wanted: Thing = {"experiment_id": experiment_id, "sort_by": "created_at desc"}
        if schedule_id is not None:
            of_it = {"operation": "EQUALS", "key": "recurring_run_id", "stringValue": schedule_id}
            wanted["filter"] = _filter(of_it)
        method = self._runs.run_service_list_runs
        return self._pages(method, "runs", page_size=_PAGE_OF_RUNS, **wanted)

    def log(self, run_id: str, pod: str) -> str:
        """The end of a pod's log; empty when KFP has none, which it does not tell by the status."""
        return self.log_from(run_id, pod, 0)[0]

    def log_from(self, run_id: str, pod: str, skip: int) -> tuple[str, int]:
        """A pod's log but for its first bytes, and its size; of a very long one the end.

        A log that is shorter than `skip` is another one, and given from its beginning. This way of
        KFP's API is in no contract, but its pages use it, too; it can neither skip nor follow.
        """
        path = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"

        def request(**options: Any) -> Any:
            parts = {"run_id": run_id, "node_id": pod}
            return self._client.call_api(path, "GET", parts, auth_settings=["Bearer"], **options)

        try:
            return self._read(request, take=partial(part_of, skip=skip))
        except ClusterError as error:
            if error.is_transient:
                raise
            return "", 0

    def experiment(self, name: str, warn: Warn = lambda text: None) -> str:
        """The id of the experiment of that name; made when there is none.

        KFP's databases compare names without case, but for PostgreSQL; `warn` is told of it.
        """
        method = self._experiments.experiment_service_list_experiments
        found = self._named(method, "experiments", name)
        if found:
            known = str(found[0].get("display_name") or name)
            if known != name:
                warn(f"the experiment {known!r} is used; Kubeflow takes {name!r} for the same name")
            return str(found[0]["experiment_id"])
        body = {"display_name": name, **self._in_namespace()}
        made = self._call(self._experiments.experiment_service_create_experiment, body)
        return str(made["experiment_id"])

    # --- pipelines --------------------------------------------------------------------------

    def version_spec(self, pipeline_id: str, version_id: str) -> Thing:
        """The compiled pipeline of a version, as a run would hold it."""
        version = self._call(
            self._pipelines.pipeline_service_get_pipeline_version, pipeline_id, version_id
        )
        return dict(version.get("pipeline_spec") or {})

    def pipeline(self, name: str) -> str | None:
        """The id of the pipeline of that name."""
        found = self._named(self._pipelines.pipeline_service_list_pipelines, "pipelines", name)
        return str(found[0]["pipeline_id"]) if found else None

    def upload(self, name: str, version: str, file: Path) -> Thing:
        """Uploads a compiled pipeline as a new version, and makes the pipeline when there is none.

        Returns:
            A reference with `pipeline_id` and `pipeline_version_id`.
        """
        pipeline_id = self.pipeline(name)
        if pipeline_id is not None:
            made = self._call(
                self._uploads.upload_pipeline_version,
                str(file),
                name=version,
                pipelineid=pipeline_id,
            )
            version_id = made["pipeline_version_id"]
        else:
            made = self._call(
                self._uploads.upload_pipeline, str(file), name=name, **self._in_namespace()
            )
            pipeline_id = made["pipeline_id"]
            versions = self._call(
                self._pipelines.pipeline_service_list_pipeline_versions,
                pipeline_id,
                page_size=1,
                sort_by="created_at desc",
            )
            version_id = versions["pipeline_versions"][0]["pipeline_version_id"]
        return {"pipeline_id": pipeline_id, "pipeline_version_id": version_id}

    # --- schedules: KFP's recurring runs ----------------------------------------------------

    def create_schedule(self, body: Thing) -> Thing:
        return self._call(self._schedules.recurring_run_service_create_recurring_run, body)

    def schedules(self) -> list[Thing]:
        method = self._schedules.recurring_run_service_list_recurring_runs
        return list(self._pages(method, "recurringRuns", **self._in_namespace()))

    def pause(self, schedule_id: str) -> None:
        self._call(self._schedules.recurring_run_service_disable_recurring_run, schedule_id)

    def resume(self, schedule_id: str) -> None:
        self._call(self._schedules.recurring_run_service_enable_recurring_run, schedule_id)

    def delete_schedule(self, schedule_id: str) -> None:
        """Deletes a schedule, but not a run that has begun since somebody looked for runs of it:
        Kubernetes deletes with a schedule what belongs to it, unless it is made an orphan."""
        self._call(
            self._schedules.recurring_run_service_delete_recurring_run,
            schedule_id,
            propagation_policy="ORPHAN",
        )

    # --- one request ------------------------------------------------------------------------

    def _in_namespace(self) -> Thing:
        namespace = self.namespace()
        return {} if namespace is None else {"namespace": namespace}

    def _named(self, method: Callable[..., Any], key: str, name: str) -> list[Thing]:
        same_name = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        answer = self._call(method, filter=_filter(same_name), **self._in_namespace())
        return sorted(answer.get(key, []), key=lambda one: one.get("display_name") != name)

    def _pages(
        self, method: Callable[..., Any], key: str, *, page_size: int = _PAGE, **arguments: Any
    ) -> Iterator[Thing]:
        token = ""
        while True:
            following: Thing = {"page_token": token} if token else {}
            answer = self._call(method, page_size=page_size, **following, **arguments)
            yield from answer.get(key, [])
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _call(
        self,
        method: Callable[..., Any],
        *arguments: Any,
        _limit_s: float | None = None,
        **options: Any,
    ) -> Thing:
        """The answer as the server sent it: the generated models would take a web page as empty.

        Raises:
            ClusterError: there is none, or it says no.
        """
        body = self._read(partial(method, *arguments, **options), take=text_of, limit_s=_limit_s)
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
        """What is taken of an answer.

        Args:
            limit_s: longest wait, instead of the connection's.

        Raises:
            ClusterError: there is none, or it says no.
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
        except InputError as error:  # the token's file is gone since it was checked
            raise ClusterError(str(error), exit_status=2) from None


def _filter(*predicates: dict[str, Any]) -> str:
    return json.dumps({"predicates": predicates})
