"""`nas submit` and `nas schedule create` refuse a run that could never work, before it is made."""

from pathlib import Path

import pytest
from kfp_commands import IMAGE, SCHEDULE, SEARCH, done, nas, refused
from kfp_server import KfpServer
from kube_api import KubeApi
from kube_cluster import NAMESPACE, add_node

HERE = (f"--namespace={NAMESPACE}", "--service-account=nas-steps")


@pytest.fixture
def no_gpus(api: KubeApi) -> KubeApi:
    """What the default pipeline cannot run on: a quota of no GPUs, and no node with one."""
    api.put("ResourceQuota", "nas", NAMESPACE, spec={"hard": {"requests.nvidia.com/gpu": "0"}})
    api.drop("Node", "gpu-1")
    return api


def test_a_run_that_can_never_start_is_not_made(no_gpus: KubeApi, kfp: KfpServer) -> None:
    told = refused(*SEARCH, *HERE)
    assert "The input is wrong; nothing was started:" in told
    assert "nas allows 0 requests.nvidia.com/gpu" in told
    assert "--set cluster.steps.search.gpus=0" in told
    assert "--no-check starts the run anyway" in told
    assert kfp.sent("POST", "/runs") == []
    assert kfp.experiments == []


def test_it_is_made_when_nobody_wants_to_know(no_gpus: KubeApi, kfp: KfpServer) -> None:
    assert done(*SEARCH, *HERE, "--no-check")["run_id"]
    assert no_gpus.asked == []


def test_it_is_made_after_what_was_told(no_gpus: KubeApi, kfp: KfpServer) -> None:
    steps = ("pretrain_controller", "search", "train_final", "profile_latency", "train_references")
    mended = [f"--set=cluster.steps.{step}.gpus=0" for step in steps]
    assert done(*SEARCH, *HERE, *mended)["run_id"]


def test_a_schedule_of_such_runs_is_not_made(no_gpus: KubeApi, kfp: KfpServer) -> None:
    result = nas(*SCHEDULE, "--kind=retrain", *HERE)
    assert result.exit_code == 2
    assert "nas allows 0 requests.nvidia.com/gpu" in result.stderr
    assert kfp.schedules == {}
    assert done(*SCHEDULE, *HERE, "--no-check")["schedule_id"]


def test_nodes_of_another_architecture_are_warned_of(api: KubeApi, kfp: KfpServer) -> None:
    add_node(api, "arm-1", arch="arm64")
    result = nas(*SEARCH, *HERE)
    assert result.exit_code == 0, result.stderr
    assert "warning: architecture: there are nodes of arm64" in result.stderr
    assert "--set 'cluster.node_selector={kubernetes.io/arch: amd64}'" in result.stderr


def test_a_source_of_no_known_kind_is_refused_with_all_else_that_is_wrong(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    told = refused("submit", "--image=x:latest", "--set=data.source=nonsense", "--no-check")
    assert "data.source = nonsense: unknown source" in told
    assert "--image = x:latest" in told
    assert kfp.requests == []


def test_data_on_this_machine_is_refused_unless_the_image_has_it(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    source = "--set=data.source=npz:/data/photos.npz"
    told = refused(*SEARCH, source)
    assert "data.source = npz:/data/photos.npz: pods do not see the files of this machine" in told
    assert kfp.sent("POST", "/runs") == []
    assert done(*SEARCH, source, "--no-check")["run_id"]


def test_without_a_kubeconfig_a_run_is_made_and_nothing_is_said(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done(*SEARCH)  # uploads the pipeline, which is said
    result = nas(*SEARCH)
    assert result.exit_code == 0
    assert result.stderr == ""


def test_a_kubeconfig_that_is_broken_is_a_warning(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("clusters: 5")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    result = nas("submit", IMAGE, "--set=tracking.uri=http://mlflow.invalid:5000")
    assert result.exit_code == 0
    assert "warning: the cluster was not checked" in result.stderr
