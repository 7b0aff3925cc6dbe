"""What is known to be wrong before a run is made, with a cluster to look at and without one."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from kfp_http import Fault
from kfp_server import KfpServer
from kube_api import KubeApi
from kube_cluster import ACCOUNT, IMAGE, NAMESPACE, SETTINGS

from components.config.schema import parse
from nascore.errors import InputError, Problem
from pipelines.kubeflow.before_submit import _kubeflow, offline_problems, refuse_impossible_run
from pipelines.kubeflow.connection import connect
from pipelines.kubeflow.doctor.kubeconfig import CONTEXT
from pipelines.kubeflow.errors import ClusterError


class Checked:
    """What a check came to."""

    def __init__(
        self, settings: dict[str, Any], host: str, timeout_s: float = 15, **options: Any
    ) -> None:
        self.warnings: list[str] = []
        self.problems: list[Problem] = []
        namespace = options.pop("namespace", NAMESPACE)
        try:
            refuse_impossible_run(
                parse(settings),
                IMAGE,
                connection=connect(host, namespace=namespace, timeout_s=timeout_s),
                warn=self.warnings.append,
                **{"service_account": ACCOUNT, **options},
            )
        except InputError as error:
            self.problems = list(error.problems)

    def only(self) -> Problem:
        (problem,) = self.problems
        return problem


@pytest.fixture
def kubeflow(kfp: KfpServer) -> str:
    version(kfp, "2.17.0")
    return kfp.url


def version(kfp: KfpServer, tag: str, *, multi_user: bool = True) -> None:
    body = json.dumps({"tag_name": tag, "multi_user": multi_user})
    kfp.fault = Fault(body=body, where="healthz")


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    for name in ("KUBERNETES_SERVICE_HOST", CONTEXT):
        monkeypatch.delenv(name, raising=False)


# --- what needs no cluster ------------------------------------------------------------------


def offline(**settings: Any) -> list[Problem]:
    return list(offline_problems(parse({**SETTINGS, **settings})))


@pytest.mark.parametrize("source", ["nonsense", "imagenet", "npz:", "digits:here", "s3://b/x.npz"])
def test_a_source_of_no_known_kind(source: str) -> None:
    (problem,) = offline(data={"source": source})
    assert (problem.key, problem.value) == ("data.source", source)


@pytest.mark.parametrize(
    "source", ["digits", "cifar10", "npz:s3://bucket/x.npz", "imagefolder:s3://bucket/y"]
)
def test_sources_that_may_be_right(source: str) -> None:
    assert offline(data={"source": source}) == []


def test_a_variable_that_no_step_has() -> None:
    (problem,) = offline(search={"storage": "env:NAS_OTHER_URL"})
    assert problem.key == "search.storage"
    assert "--set cluster.secrets.NAS_OTHER_URL=SECRET/KEY" in problem.message


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("postgresql://localhost/studies", "finds itself there"),
        ("mysqlite://host/studies", "is no URL of a database"),
        ("postgresql://nas-postgres:5432/studies", ""),
    ],
)
def test_addresses_of_databases(storage: str, told: str) -> None:
    found = offline(search={"storage": storage})
    assert [told in problem.message for problem in found] == ([True] if told else [])


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1", "[::1]:5000"])
def test_a_tracking_server_on_this_machine(host: str) -> None:
    (problem,) = offline(tracking={"uri": f"http://{host}"})
    assert problem.key == "tracking.uri"


@pytest.mark.parametrize(
    ("source", "is_refused"),
    [
        ("npz:photos.npz", True),
        ("imagefolder:/home/me/photos", True),
        ("imagefolder:/var/lib/nas/photos", False),
        ("npz:s3://bucket/photos.npz", False),
        ("digits", False),
    ],
)
def test_paths_of_this_machine_are_refused(source: str, is_refused: bool) -> None:
    problems = list(offline_problems(parse({**SETTINGS, "data": {"source": source}})))
    assert [problem.key for problem in problems] == ["data.source"] * is_refused
    assert all("--no-check" in problem.message for problem in problems)


@pytest.mark.usefixtures("no_cluster")
def test_without_a_cluster_nothing_is_said_of_one(kubeflow: str) -> None:
    started = time.monotonic()
    checked = Checked(SETTINGS, kubeflow)
    assert checked.problems == []
    assert checked.warnings == []
    assert time.monotonic() - started < 15
    wrong = Checked({**SETTINGS, "data": {"source": "nonsense"}}, kubeflow)
    assert wrong.only().key == "data.source"


@pytest.mark.usefixtures("no_cluster")
def test_an_old_kubeflow_is_known_without_a_cluster(kfp: KfpServer) -> None:
    version(kfp, "2.16.1")
    problem = Checked(SETTINGS, kfp.url).only()
    assert (problem.key, problem.value) == ("kubeflow", "2.16.1")
    assert "upgrade it to 2.17.0 or later" in problem.message


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("status", [200, 401, 404])
def test_a_kubeflow_that_does_not_say_its_version(kfp: KfpServer, status: int) -> None:
    kfp.fault = Fault(status=status, body="<html>", where="healthz")
    assert Checked(SETTINGS, kfp.url).problems == []


@pytest.mark.usefixtures("no_cluster")
def test_a_kubeflow_that_is_away_is_waited_for_once(kfp: KfpServer) -> None:
    kfp.fault = Fault(hang_s=1, where="healthz")
    with pytest.raises(ClusterError, match="did not answer within"):
        Checked(SETTINGS, kfp.url, timeout_s=0.2)


# --- with a cluster -------------------------------------------------------------------------


def test_a_sound_cluster(api: KubeApi, kubeflow: str) -> None:
    checked = Checked(SETTINGS, kubeflow)
    assert checked.problems == []
    assert checked.warnings == []
    assert "create" not in {one.verb for one in api.asked if not one.kind.endswith("Review")}


def test_a_run_that_can_never_start_is_refused_with_the_reason_and_what_mends_it(
    api: KubeApi, kubeflow: str
) -> None:
    api.put("ResourceQuota", "nas", NAMESPACE, spec={"hard": {"requests.nvidia.com/gpu": "0"}})
    api.drop("Secret", "nas-study", NAMESPACE)
    checked = Checked(SETTINGS, kubeflow)
    told = {problem.key: problem.message for problem in checked.problems}
    assert set(told) == {"quota", "secret"}
    assert "--set cluster.steps.search.gpus=0" in told["quota"]
    assert "kubectl -n nas describe resourcequota nas" in told["quota"]
    assert (
        "kubectl -n nas create secret generic nas-study --from-literal=url=VALUE" in told["secret"]
    )
    assert any("--no-check" in warning for warning in checked.warnings)


def test_the_same_of_a_retraining(api: KubeApi, kubeflow: str) -> None:
    api.put("ResourceQuota", "nas", NAMESPACE, spec={"hard": {"requests.memory": "7G"}})
    assert "review" in Checked(SETTINGS, kubeflow, kind="retrain").only().message


def test_a_namespace_that_is_not_there(api: KubeApi, kubeflow: str) -> None:
    problem = Checked(SETTINGS, kubeflow, namespace="team-x").only()
    assert problem.key == "namespace"
    assert "there is no namespace team-x" in problem.message


def test_without_profiles_the_namespace_is_that_of_kubeflow(api: KubeApi, kfp: KfpServer) -> None:
    version(kfp, "2.17.0", multi_user=False)
    checked = Checked(SETTINGS, kfp.url, namespace=None, service_account=None)
    told = {problem.key: problem.message for problem in checked.problems}
    assert (
        "there is no service account pipeline-runner in namespace kubeflow"
        in (told["service-account"])
    )
    assert "in namespace kubeflow" in told["claim"]


def test_an_old_kubeflow_is_told_once(api: KubeApi, kfp: KfpServer) -> None:
    version(kfp, "2.5.0")
    assert Checked(SETTINGS, kfp.url).only().key == "kubeflow"


def test_what_is_no_reason_to_refuse_is_a_warning(api: KubeApi, kubeflow: str) -> None:
    hard = {"requests.cpu": "12"}
    api.put("ResourceQuota", "nas", NAMESPACE, spec={"hard": hard})
    api.denied = {("list", "nodes"), ("get", "secrets")}
    data = {"workflowDefaults": "spec: {templateDefaults: {retryStrategy: {retryPolicy: Always}}}"}
    api.put("ConfigMap", "workflow-controller-configmap", "kubeflow", data=data)
    checked = Checked(SETTINGS, kubeflow)
    assert checked.problems == []
    assert [warning.partition(":")[0] for warning in checked.warnings] == [
        "quota",
        "not checked, for lack of rights",
    ]
    assert "secret, pull-secret, nodes, driver-nodes" in checked.warnings[1]


def test_a_kubeconfig_of_another_cluster_is_not_looked_at(api: KubeApi, kubeflow: str) -> None:
    api.drop("Service", "ml-pipeline", "kubeflow")
    api.drop("Secret", "nas-study", NAMESPACE)
    checked = Checked(SETTINGS, kubeflow)
    assert checked.problems == []
    assert checked.warnings == []


def test_a_cluster_whose_kubeflow_may_not_be_seen_counts_if_the_namespace_is_there(
    api: KubeApi, kubeflow: str
) -> None:
    api.denied = {("get", "services", "kubeflow")}
    api.drop("Secret", "nas-study", NAMESPACE)
    assert Checked(SETTINGS, kubeflow).only().key == "secret"
    checked = Checked(SETTINGS, kubeflow, namespace="team-x")
    assert checked.problems == []
    assert "has no namespace team-x, so it was not checked" in checked.warnings[0]


@pytest.mark.parametrize(
    ("host", "named", "namespace"),
    [
        ("http://ml-pipeline.kfp.svc.cluster.local:8888", None, "kfp"),
        ("http://ml-pipeline.kfp.svc:8888", "other", "other"),
        ("https://ml-pipeline.example.org/pipeline", None, "kubeflow"),
        ("http://127.0.0.1:8888", None, "kubeflow"),
    ],
)
def test_the_namespace_of_kubeflow(host: str, named: str | None, namespace: str) -> None:
    environment = {} if named is None else {"NAS_KUBEFLOW_NAMESPACE": named}
    assert _kubeflow(connect(host), environment) == namespace


def test_a_context_that_is_named_counts(
    api: KubeApi, kubeflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.drop("Service", "ml-pipeline", "kubeflow")
    api.drop("Secret", "nas-study", NAMESPACE)
    monkeypatch.setenv(CONTEXT, "stand-in")
    assert "kubectl --context stand-in -n nas" in Checked(SETTINGS, kubeflow).only().message
    monkeypatch.setenv(CONTEXT, "nowhere")
    problem = Checked(SETTINGS, kubeflow).only()
    assert (problem.key, problem.value) == ("--kube-context", "nowhere")


@pytest.mark.parametrize("how", ["away", "away though named", "broken", "unknown"])
def test_a_cluster_that_does_not_answer_keeps_nobody_from_submitting(
    api: KubeApi, kubeflow: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how.startswith("away"):
        api.close()
        monkeypatch.setenv(CONTEXT, "stand-in" if "named" in how else "")
    elif how == "broken":
        (tmp_path / "other").write_text("contexts: 5")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "other"))
    else:
        api.token = "another"
    checked = Checked(SETTINGS, kubeflow)
    assert checked.problems == []
    (warning,) = checked.warnings
    assert warning.startswith("the cluster was not checked: ")
