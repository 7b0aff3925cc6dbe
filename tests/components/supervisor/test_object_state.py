"""The state of a supervised step in a real object store: another pod finds it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import s3

from components.ending import End

ROOT = Path(__file__).parents[3]
RUN_ID = "0f82d07e-593c-41dd-9dc7-d0dd25be691d"
BUCKET = "supervised"
INPUT = '{"outputs": {}}'

COUNT = """
import os, pathlib, sys
state = pathlib.Path(os.environ["NAS_STATE_DIR"]) / "search"
state.mkdir(exist_ok=True)
file = state / "checkpoint"
n = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(n))
"""


@pytest.fixture(scope="module")
def store(s3_server: s3.S3Server) -> s3.S3Server:
    s3_server.bucket(BUCKET)
    return s3_server


@pytest.fixture
def pod(store: s3.S3Server, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a supervised step as a pod with an empty disk of its own."""
    count = 0

    def run(child: str, *, step: str = "search", **more: str) -> tuple[int, str]:
        nonlocal count
        count += 1
        disk = tmp_path / f"pod{count}"
        disk.mkdir()
        work = [sys.executable, "-c", COUNT + child]
        code = (
            "import sys; from components.supervisor.supervise import supervise; "
            f"sys.exit(supervise({step!r}, {work!r}, {INPUT!r}))"
        )
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("NAS_", "AWS_"))},
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(disk),
            "NAS_STATE_ROOT": f"s3://{BUCKET}/{tmp_path.name}",
            "NAS_RUN_ID": RUN_ID,
            "NAS_RESTARTS": "1",
            "NAS_RESTART_PAUSE_S": "0",
            "AWS_ENDPOINT_URL": store.url,
            "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
            "AWS_DEFAULT_REGION": s3.REGION,
            **more,
        }
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run


def test_another_pod_resumes_from_what_a_failed_one_had(
    pod: Callable[..., tuple[int, str]],
) -> None:
    status, log = pod("os.kill(os.getpid(), 9)")
    assert status == 1, log
    status, log = pod("print('checkpoint', n)")
    assert status == 0, log
    assert "search resumes from the state in s3://" in log
    assert "checkpoint 3" in log, "two tries of the first pod, and this one"


def test_of_a_step_that_succeeded_only_the_results_are_kept(
    pod: Callable[..., tuple[int, str]], store: s3.S3Server, tmp_path: Path
) -> None:
    outputs = "(state / 'outputs').mkdir(exist_ok=True); (state / 'outputs' / 'a').write_text('1')"
    assert pod(outputs)[0] == 0
    child = "print('files', sorted(path.name for path in state.iterdir()), n)"
    status, log = pod(child)
    assert status == 0, log
    assert "files ['checkpoint', 'outputs'] 1" in log, "the checkpoint is this pod's own"


def test_a_helper_keeps_its_state_in_the_study_alone(
    pod: Callable[..., tuple[int, str]], store: s3.S3Server, tmp_path: Path
) -> None:
    assert pod("pass", step="search_worker")[0] == 0
    listed = store.client().list_objects_v2(Bucket=BUCKET, Prefix=tmp_path.name)
    assert listed["KeyCount"] == 0


def test_the_work_does_not_wait_for_a_store_that_goes_away(
    pod: Callable[..., tuple[int, str]], store: s3.S3Server
) -> None:
    relay = s3.Relay(store.port)
    try:
        # The store answers the two writes of the pull, then fails every request of the push.
        relay.on_request = lambda head: (
            setattr(
                relay, "mode", "errors" if head.startswith(b"PUT") and len(puts) > 1 else relay.mode
            )
            or (puts.append(head) if head.startswith(b"PUT") else None)
        )
        puts: list[bytes] = []
        status, log = pod("pass", AWS_ENDPOINT_URL=relay.url, NAS_STORE_WAIT_S="2")
        assert status == 0, log
        assert "the state is not saved" in log
    finally:
        relay.close()


def test_a_damaged_state_is_reported_and_left_as_it_is(
    pod: Callable[..., tuple[int, str]], store: s3.S3Server, tmp_path: Path
) -> None:
    pod("os.kill(os.getpid(), 9)")
    client = store.client()
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=tmp_path.name)["Contents"]
    (key,) = (one["Key"] for one in listed if "/files/" in one["Key"])
    client.put_object(Bucket=BUCKET, Key=key, Body=b"")
    status, log = pod("pass")
    end = End.parse_last(log)
    assert status == 1
    assert end is not None
    assert end.kind == "input"
    assert "damaged" in end.reason
    assert client.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == 0


def test_the_older_of_two_pods_ends_its_work(
    pod: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was given up may still live: what its pod does counts for nothing."""
    from components.run_state.object_store import StateTaken
    from components.supervisor.children import Stop
    from components.supervisor.state import StateCopy

    class Taken:
        def push(self, *, done: bool) -> None:
            raise StateTaken.of("cluster.state", "s3://bucket", "was taken over by pod b")

    stop, said = Stop(), list[str]()
    copy = StateCopy(Taken(), said.append, on_lost=stop.ask)  # type: ignore[arg-type]
    copy.start()
    copy.finish(done=True, limit_s=60)
    assert stop.asked.is_set()
    assert len(said) == 1
    assert "taken over by pod b" in said[0]


def test_a_state_of_another_configuration_is_reported() -> None:
    import json

    from components.supervisor.state import identity_of

    def identity(config: object, settings: str = "") -> str | None:
        parameters = {"config": json.dumps(config), "settings": settings}
        return identity_of(json.dumps({"inputs": {"parameterValues": parameters}}))

    assert identity({"seed": 1}) != identity({"seed": 2})
    assert identity({"seed": 1}) != identity({"seed": 1}, "seed=2")
    assert identity({"seed": 1, "cluster": {}}) == identity({"seed": 1, "cluster": {"a": 1}})
    assert identity_of("{}") is None


def test_the_end_of_a_first_step_is_tracked_where_its_parameters_say() -> None:
    import json

    from components.supervisor.state import config_of

    given = {"config": '{"seed": 1}', "experiment": "team", "settings": "tracking.uri=http://host"}
    found = config_of(json.dumps({"inputs": {"parameterValues": given}}))
    assert found == {"seed": 1, "tracking": {"experiment": "team", "uri": "http://host"}}
