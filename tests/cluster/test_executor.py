"""The executor is as unkind as what it copies: small pipelines that tell what befell them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import Cluster, Fault, Run
from cluster.nodes import KFP_2_16, RetryStrategy
from cluster.spec import Pipeline
from cluster.store import Gate
from kfp import compiler, dsl, kubernetes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

Make = Callable[..., Cluster]
PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
told = json.loads(sys.argv[1])
path = lambda one: Path('/' + one['artifacts'][0]['uri'].replace('://', '/'))
given = path(told['inputs']['artifacts']['given']) if told['inputs'].get('artifacts') else None
thing = path(told['outputs']['artifacts']['thing'])
word = Path(told['outputs']['parameters']['word']['outputFile'])
metadata = Path(told['outputs']['outputFile'])
word.write_text('said')
exec(told['inputs']['parameterValues']['code'])
"""


@dsl.container_component
def act(code: str, thing: dsl.Output[dsl.Artifact], word: dsl.OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(
        image="IMAGE:1", command=["python3", "-I", "-S", "-c", PRELUDE], args=["{{$}}"]
    )


@dsl.container_component
def use(
    code: str,
    given: dsl.Input[dsl.Artifact],
    thing: dsl.Output[dsl.Artifact],
    word: dsl.OutputPath(str),  # type: ignore
):
    return dsl.ContainerSpec(
        image="IMAGE:1", command=["python3", "-I", "-S", "-c", PRELUDE], args=["{{$}}"]
    )


Change = Callable[[dsl.PipelineTask], Any]


@pytest.fixture
def compiled(tmp_path: Path, image: str) -> Callable[[Any], Pipeline]:
    def compile_(pipeline: Any) -> Pipeline:
        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        path.write_text(path.read_text().replace("IMAGE:1", image))
        return Pipeline.load(path)

    return compile_


@pytest.fixture
def run_two(compiled: Callable[[Any], Pipeline]) -> Callable[..., Run]:
    """Runs two tasks, the second on the first one's output; returns the ended run."""

    def run(cluster: Cluster, first: str, second: str = "", *, change: Change | None = None) -> Run:
        @dsl.pipeline(name="two")
        def two(first: str, second: str) -> None:
            one = act(code=first)
            other = use(code=second, given=one.outputs["thing"])
            for task in (one, other):
                task.set_caching_options(False)
                if change is not None:
                    change(task)

        made = cluster.submit(compiled(two), {"first": first, "second": second})
        made.wait(90)
        return made

    return run


def states(run: Run) -> dict[str, str]:
    """Phase of the last node of each name."""
    return {node.shown: str(node.phase) for node in run.workflow.nodes.values()}


def tries(run: Run, task: str) -> int:
    return sum(pod.task == task for pod in run.pods)


# --- the launcher: files only -----------------------------------------------------------------


def test_a_folder_arrives_but_an_empty_one_is_an_absent_path(
    make_cluster: Make, run_two: Any
) -> None:
    """C1."""
    cluster = make_cluster()
    full = run_two(
        cluster,
        "(thing / 'below').mkdir(parents=True); (thing / 'below' / 'x').write_text('1')",
        "assert (given / 'below' / 'x').read_text() == '1'; print('arrived')",
    )
    assert full.state == "SUCCEEDED", full.tell()
    assert "arrived" in full.pods[-1].text()
    empty = run_two(
        cluster, "(thing / 'below').mkdir(parents=True)", "print('there:', given.exists())"
    )
    assert empty.state == "SUCCEEDED", empty.tell()
    assert "there: False" in empty.pods[-1].text()


def test_what_a_step_is_told_has_the_recorded_shape(make_cluster: Make, run_two: Any) -> None:
    cluster = make_cluster()
    run = run_two(cluster, "thing.write_text('1')", "print('TOLD', json.dumps(told))")
    (line,) = (one for one in run.pods[-1].text().splitlines() if one.startswith("TOLD"))
    told = json.loads(line.removeprefix("TOLD"))
    (given,) = told["inputs"]["artifacts"]["given"]["artifacts"]
    assert set(given) == {"name", "type", "uri", "metadata"}
    session = json.loads(given["metadata"]["store_session_info"])
    assert session["Params"]["endpoint"] == cluster.store.endpoint
    assert given["uri"].startswith(f"minio://mlpipeline/v2/artifacts/two/{run.id}/act/")
    (thing,) = told["outputs"]["artifacts"]["thing"]["artifacts"]
    assert "metadata" not in thing
    assert told["outputs"]["outputFile"].startswith("/minio/mlpipeline/v2/artifacts/two/")
    assert told["outputs"]["parameters"] == {"word": {"outputFile": "/tmp/kfp/outputs/word"}}


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_number_that_is_not_finite_breaks_a_task_that_has_ended_well(
    make_cluster: Make, run_two: Any, number: str
) -> None:
    """L6."""
    said = json.dumps({"artifacts": {"thing": {"artifacts": [{"metadata": {"x": float(number)}}]}}})
    run = run_two(make_cluster(), f"metadata.write_text('{said}')")
    assert run.state == "FAILED"
    assert "failed to unmarshall ExecutorOutput" in run.pods[0].text()


def test_an_output_parameter_without_its_file_breaks_the_task(
    make_cluster: Make, run_two: Any
) -> None:
    run = run_two(make_cluster(), "word.unlink()")
    assert run.state == "FAILED"
    assert "failed to read output parameter word" in run.pods[0].text()


def test_a_store_that_refuses_for_11_s_at_the_end_fails_the_run_for_good(
    make_cluster: Make, run_two: Any, gate: Gate
) -> None:
    """N9."""
    cluster = make_cluster()
    cluster.faults.append(Fault("act", lambda pod: gate.shut(), at="ended"))
    start = time.monotonic()
    run = run_two(cluster, "thing.write_text('1')", change=lambda task: task.set_retry(3))
    assert run.state == "FAILED"
    assert tries(run, "act") == 1
    assert 11 < time.monotonic() - start < 30
    gate.open()
    assert run_two(cluster, "thing.write_text('1')").state == "SUCCEEDED"


# --- the pod ----------------------------------------------------------------------------------


def test_a_pod_is_another_user_with_a_read_only_root_and_no_rights(
    make_cluster: Make, run_two: Any
) -> None:
    code = (
        "print('user', os.getuid(), os.getgid()); Path('/tmp/x').write_text('1')\n"
        "try: Path('/opt/x').write_text('1')\n"
        "except OSError as error: print('root', error.strerror)\n"
        "print(*(one for one in Path('/proc/self/status').read_text().splitlines()"
        " if one.startswith(('CapEff', 'NoNewPrivs'))))"
    )
    for options, user in (({}, "10001 10001"), ({"user": "1000660000:0"}, "1000660000 0")):
        run = run_two(make_cluster(**options), code)
        said = run.pods[0].text()
        assert f"user {user}" in said, said
        assert "root Read-only file system" in said
        assert "CapEff:\t0000000000000000 NoNewPrivs:\t1" in said


def test_a_volume_comes_root_owned(make_cluster: Make, run_two: Any) -> None:
    """H1."""
    run = run_two(
        make_cluster(),
        "Path('/state/x').mkdir()",
        change=lambda task: kubernetes.mount_pvc(task, "nas-state", "/state"),
    )
    assert run.state == "FAILED"
    assert "PermissionError" in run.pods[0].text()


def test_environment_labels_and_shared_memory_are_those_of_the_platform_document(
    make_cluster: Make, run_two: Any
) -> None:
    cluster = make_cluster()
    cluster.namespace.secrets["nas-study"] = {"url": "postgresql://x"}
    cluster.namespace.config_maps["nas-settings"] = {"PLACE": "here"}

    def change(task: dsl.PipelineTask) -> None:
        kubernetes.use_secret_as_env(task, "nas-study", {"url": "STUDY"})
        kubernetes.use_config_map_as_env(task, "nas-settings", {"PLACE": "PLACE"})
        kubernetes.use_field_path_as_env(task, "RUN", "metadata.labels['pipeline/runid']")
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit="1Mi")

    code = (
        "print(*(os.environ[one] for one in ('STUDY', 'PLACE', 'RUN')))\n"
        "try: Path('/dev/shm/x').write_bytes(bytes(1 << 21))\n"
        "except OSError as error: print(error.strerror)"
    )
    run = run_two(cluster, code, change=change)
    assert f"postgresql://x here {run.id}" in run.pods[0].text()
    assert "No space left on device" in run.pods[0].text()


def test_a_missing_secret_leaves_the_pod_pending(make_cluster: Make, run_two: Any) -> None:
    """M10."""
    run = run_two(
        make_cluster(pending_s=1),
        "",
        change=lambda task: kubernetes.use_secret_as_env(task, "nas-study", {"url": "STUDY"}),
    )
    assert run.pods == []
    assert "not found: nas-study/url" in run.tell()


def test_a_gpu_that_is_not_there_leaves_the_pod_pending(make_cluster: Make, run_two: Any) -> None:
    """H5."""
    run = run_two(
        make_cluster(pending_s=1),
        "",
        change=lambda task: task.set_accelerator_limit(1).set_accelerator_type("nvidia.com/gpu"),
    )
    assert run.pods == []
    assert "not found: 1 GPUs" in run.tell()


# --- its end ----------------------------------------------------------------------------------

BAD_ENDS = {
    "exit 3": "sys.exit(3)",
    "signal": "os.kill(os.getpid(), signal.SIGKILL)",
    "memory": "x = bytearray(400 << 20)",
}


@pytest.mark.parametrize("end", BAD_ENDS)
def test_every_bad_end_is_exit_code_1_and_never_tried_again(
    make_cluster: Make, run_two: Any, end: str
) -> None:
    """C3, N4: the policy is OnError, whatever number of retries was compiled in."""
    cluster = make_cluster(memory_scale=0.1)

    def change(task: dsl.PipelineTask) -> None:
        task.set_retry(3)
        task.set_memory_limit("1G")

    run = run_two(cluster, BAD_ENDS[end], change=change)
    assert run.state == "FAILED"
    assert tries(run, "act") == 1
    assert [pod.poll() for pod in run.pods] == [1]
    assert states(run)["use"] == "Omitted"


def test_with_the_configuration_of_2_16_a_crash_is_tried_again_and_a_lost_pod_is_not(
    make_cluster: Make, run_two: Any
) -> None:
    def change(task: dsl.PipelineTask) -> None:
        task.set_retry(1)

    cluster = make_cluster(retry=KFP_2_16)
    assert tries(run_two(cluster, "sys.exit(1)", change=change), "act") == 2
    cluster.faults.append(Fault("act", lambda pod: pod.lose()))
    assert tries(run_two(cluster, "time.sleep(30)", change=change), "act") == 1


@pytest.mark.parametrize("at", ["running", "ended", "uploaded"])
def test_a_pod_that_is_deleted_is_tried_again_whenever_that_was(
    make_cluster: Make, run_two: Any, at: Any
) -> None:
    cluster = make_cluster()
    cluster.faults.append(Fault("act", lambda pod: pod.delete(), at=at))
    run = run_two(cluster, "time.sleep(0.5); thing.write_text('1')", "print(given.read_text())")
    assert run.state == "SUCCEEDED", run.tell()
    assert tries(run, "act") == 2
    assert "1" in run.pods[-1].text()


def test_after_sigterm_the_work_lives_for_the_grace_alone(make_cluster: Make, run_two: Any) -> None:
    """H2."""
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "for _ in range(60): time.sleep(0.1); print('.', flush=True)"
    )
    for grace_s, least, most in ((0.05, 0, 2), (1.0, 5, 15)):
        cluster = make_cluster(grace_s=grace_s, retry=RetryStrategy(limit=0))
        cluster.faults.append(
            Fault("act", lambda pod: pod.delete(), when=lambda pod: "." in pod.text())
        )
        run = run_two(cluster, code)
        said = run.pods[0].text().partition("asked")[2]
        assert least <= said.count(".") <= most, run.tell()


def test_kill_9_of_the_work_alone_leaves_what_is_around_it(
    make_cluster: Make, run_two: Any
) -> None:
    code = (
        "import subprocess\n"
        "if '--executor_input' not in sys.argv:\n"
        "    again = [sys.executable, '-c', 'import time; time.sleep(60)', '--executor_input']\n"
        "    print('ended', subprocess.call(again))"
    )
    cluster = make_cluster()
    fault = Fault("act", lambda pod: pod.kill_work(), when=lambda pod: pod.work() is not None)
    cluster.faults.append(fault)
    run = run_two(cluster, code)
    assert "ended -9" in run.pods[0].text()
    assert run.state == "SUCCEEDED"


def test_memory_runs_out_for_the_process_that_has_most(make_cluster: Make, run_two: Any) -> None:
    hog = """
import time
held = []
for number in range(600):
    held.append(bytes(range(256)) * 4096)
    time.sleep(0.01)
    if number == 50: print('large', flush=True)
"""
    code = f"import subprocess; print('ended', subprocess.call([sys.executable, '-c', {hog!r}]))"
    cluster = make_cluster()
    cluster.faults.append(
        Fault("act", lambda pod: pod.run_out_of_memory(), when=lambda pod: "large" in pod.text())
    )
    run = run_two(cluster, code, change=lambda task: task.set_memory_limit("1G"))
    assert "ended -9" in run.pods[0].text()
    assert run.state == "SUCCEEDED", run.tell()


def test_a_deadline_ends_the_pod_and_the_run(make_cluster: Make, run_two: Any) -> None:
    run = run_two(
        make_cluster(), "time.sleep(60)", change=lambda task: kubernetes.set_timeout(task, 1)
    )
    assert run.state == "FAILED"
    assert "longer than the specified deadline" in run.tell()


# --- the controller ---------------------------------------------------------------------------


def test_all_retries_together_have_one_window(make_cluster: Make, run_two: Any) -> None:
    """C4: try 1 fails early, try 2 is killed in the middle of its work."""
    cluster = make_cluster(retry=RetryStrategy("Always", limit=0))
    start = time.monotonic()
    run = run_two(
        cluster,
        "print('try', flush=True); mark = Path('/state/x'); again = mark.exists(); mark.touch()\n"
        "time.sleep(60 if again else 0); sys.exit(1)",
        change=lambda task: (
            kubernetes.mount_pvc(task, "nas-state", "/state"),
            task.set_retry(5, "0s", 1.0, "4s"),
            cluster.claim("nas-state").chmod(0o777),
        ),
    )
    assert run.state == "FAILED"
    assert tries(run, "act") == 2
    assert time.monotonic() - start < 15


def test_an_error_begins_every_outer_level_anew(make_cluster: Make, run_two: Any) -> None:
    """N1: pod, task, root and entry, each with its own limit; here 1 instead of 2."""
    cluster = make_cluster(retry=RetryStrategy("Always", limit=1))
    run = run_two(cluster, "sys.exit(1)")
    assert run.state == "FAILED"
    assert tries(run, "act") == 2**4
    drivers = [node for node in run.workflow.nodes.values() if node.shown == "act-driver"]
    assert len(drivers) == 4


def test_branches_loops_and_the_exit_task(
    make_cluster: Make, compiled: Callable[[Any], Pipeline]
) -> None:
    """H3: a bad leaf fails the run after all that can run has run; the exit task comes last."""

    @dsl.container_component
    def close(status: dsl.PipelineTaskFinalStatus):  # type: ignore
        return dsl.ContainerSpec(
            image="IMAGE:1",
            command=["python3", "-I", "-S", "-c", "import sys; print('CLOSING', sys.argv[1])"],
            args=["{{$}}"],
        )

    @dsl.pipeline(name="whole")
    def whole(code: str = "word.write_text('right')") -> None:
        closing = close()  # type: ignore[call-arg]
        with dsl.ExitHandler(closing, name="all"):
            one = act(code=code)
            with dsl.ParallelFor(items=[1, 2], parallelism=1):
                act(code="time.sleep(0.5); sys.exit(1)")
            with dsl.If(one.outputs["word"] == "right"):
                other = act(code="time.sleep(2)")
                use(code="print('reached')", given=other.outputs["thing"])
            with dsl.Else():
                act(code="print('wrong')")

    cluster = make_cluster()
    run = cluster.submit(compiled(whole), {})
    assert run.wait(90) == "FAILED", run.tell()
    said = [pod.text() for pod in run.pods]
    assert any("reached" in one for one in said)
    assert not any("wrong" in one for one in said)
    assert sum(str(node.phase) == "Skipped" for node in run.workflow.nodes.values()) == 1
    told = json.loads(said[-1].partition("CLOSING")[2])
    status = told["inputs"]["parameterValues"]["status"]
    assert (status["state"], status["pipelineTaskName"]) == ("FAILED", "exit-handler-1")
    # A good end is COMPLETE, not SUCCEEDED.
    fine = yaml.safe_load(yaml.safe_dump(compiled(whole).spec))
    for component in fine["components"].values():
        for task in component.get("dag", {}).get("tasks", {}).values():
            value = task.get("inputs", {}).get("parameters", {}).get("code", {}).get("runtimeValue")
            if value is not None:
                value["constant"] = "pass"
    run = cluster.submit(Pipeline(fine, {}), {})
    assert run.wait(90) == "SUCCEEDED", run.tell()
    assert '"state":"COMPLETE"' in run.pods[-1].text()


def test_a_cancelled_run_ends_as_failed_without_its_exit_task(
    make_cluster: Make, run_two: Any
) -> None:
    """H4."""
    cluster = make_cluster()
    cluster.faults.append(Fault("act", lambda pod: next(iter(cluster.runs.values())).cancel()))
    run = run_two(cluster, "time.sleep(60)")
    assert [state for _, state in run.history] == ["PENDING", "RUNNING", "CANCELING", "FAILED"]
    assert tries(run, "act") == 1
