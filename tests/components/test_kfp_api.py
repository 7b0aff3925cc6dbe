"""Whether a run of Kubeflow is over, asked of a server that answers as KFP's does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.kfp_api import KubeflowRuns

RUN = "8fb52f17-7078-4bd4-8f80-cd75000fa15b"


class Kubeflow:
    """Answers every request with `status` and `body`; remembers paths and tokens."""

    def __init__(self) -> None:
        self.status, self.body = 200, '{"state": "RUNNING"}'
        self.location = ""
        self.asked: list[tuple[str, str | None]] = []
        kubeflow = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kubeflow.asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(kubeflow.status)
                if kubeflow.location:
                    self.send_header("Location", kubeflow.location)
                self.end_headers()
                self.wfile.write(kubeflow.body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.host = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    server = Kubeflow()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.mark.parametrize(
    ("state", "over"),
    [
        ("SUCCEEDED", True),
        ("FAILED", True),
        ("CANCELED", True),
        ("SKIPPED", True),
        ("RUNNING", False),
        ("PENDING", False),
        ("CANCELING", False),
        ("RUNTIME_STATE_UNSPECIFIED", None),
    ],
)
def test_the_state_says_whether_a_run_is_over(
    kubeflow: Kubeflow, state: str, over: bool | None
) -> None:
    kubeflow.body = json.dumps({"run_id": RUN, "state": state})
    assert KubeflowRuns(kubeflow.host).is_over(RUN) is over
    assert kubeflow.asked == [(f"/apis/v2beta1/runs/{RUN}", None)]


def test_a_run_that_is_not_known_may_be_of_another_cluster(kubeflow: Kubeflow) -> None:
    kubeflow.status, kubeflow.body = 404, '{"code": 5, "message": "Run not found"}'
    runs = KubeflowRuns(kubeflow.host)
    assert runs.is_over(RUN) is None
    kubeflow.status, kubeflow.body = 200, '{"state": "FAILED"}'
    assert runs.is_over(RUN) is True, "others are still asked for"


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, ""), (403, "RBAC: access denied"), (500, ""), (200, "<html>"), (200, "[]")],
)
def test_a_server_that_does_not_tell_is_asked_once(
    kubeflow: Kubeflow, status: int, body: str
) -> None:
    kubeflow.status, kubeflow.body = status, body
    runs = KubeflowRuns(kubeflow.host)
    assert [runs.is_over(RUN), runs.is_over(RUN)] == [None, None]
    assert len(kubeflow.asked) == 1


def test_one_that_cannot_be_reached_tells_nothing(kubeflow: Kubeflow) -> None:
    kubeflow.http.server_close()
    assert KubeflowRuns(kubeflow.host).is_over(RUN) is None
    assert KubeflowRuns("http://not a host").is_over(RUN) is None
    assert KubeflowRuns(None).is_over(RUN) is None


def test_no_token_goes_over_the_wire_in_clear_nor_to_another_server(
    kubeflow: Kubeflow, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    runs = KubeflowRuns(kubeflow.host, token)
    runs.is_over(RUN)
    kubeflow.status, kubeflow.location = 302, f"{kubeflow.host}/login"
    assert runs.is_over(RUN) is None
    assert kubeflow.asked == [(f"/apis/v2beta1/runs/{RUN}", None)] * 2, "no redirect is followed"


def test_within_the_cluster_the_token_of_the_pod_is_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    runs = KubeflowRuns.of_pod({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    runs._token = token
    request = runs._request(RUN)
    assert request.full_url == (
        f"http://ml-pipeline.kubeflow.svc.cluster.local:8888/apis/v2beta1/runs/{RUN}"
    )
    assert request.get_header("Authorization") == "Bearer secret"


def test_the_server_is_found_as_kfp_finds_it() -> None:
    assert KubeflowRuns.of_pod({})._host is None
    named = KubeflowRuns.of_pod(
        {"KF_PIPELINES_ENDPOINT": "https://kf/", "KUBERNETES_SERVICE_HOST": "x"}
    )
    assert named._host == "https://kf"
