"""`nas doctor --cluster` as a person calls it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from kube_api import KubeApi
from kube_cluster import HEALTH, IMAGE, NAMESPACE, SETTINGS

from pipelines.cli import main
from pipelines.kubeflow.doctor import probe as probe_module

HERE = ("--namespace=nas", "--service-account=nas-steps")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return str(path)


def doctor(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ("doctor", *arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def test_a_sound_cluster_in_words_and_as_json(api: KubeApi, config: str) -> None:
    result = doctor(config, "--cluster", *HERE)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "ok       kubernetes         the Kubernetes API of context stand-in: Kubernetes v1.33.4"
    )
    assert all(line.startswith("ok ") for line in lines)
    rows = json.loads(doctor(config, "--cluster", "--json", *HERE).stdout)
    assert len(rows) == len(lines)
    assert {tuple(row) for row in rows} == {("check", "status", "detail", "remedy", "command")}


def test_a_problem_in_words_and_as_json(api: KubeApi, config: str) -> None:
    api.drop("PersistentVolumeClaim", "nas-state", NAMESPACE)
    result = doctor(config, "--cluster", *HERE)
    assert result.exit_code == 1
    assert (
        "problem  claim              there is no PersistentVolumeClaim nas-state in namespace nas\n"
        "                    -> make it: put your namespace into manifests/state-volume, then "
        "kubectl apply -k manifests/state-volume; or correct cluster.state\n"
        "                    $ kubectl -n nas get pvc nas-state\n"
    ) in result.stdout
    rows = json.loads(doctor(config, "--cluster", "--json", *HERE).stdout)
    assert [row["check"] for row in rows if row["status"] == "problem"] == ["claim"]


def test_the_default_pipeline_where_there_are_no_gpus(api: KubeApi) -> None:
    """The quota of the overlay without GPUs, and the configuration that nobody has changed."""
    api.put("ResourceQuota", "nas", NAMESPACE, spec={"hard": {"requests.nvidia.com/gpu": "0"}})
    api.drop("Node", "gpu-1")
    result = doctor("--cluster", "--json", *HERE)
    assert result.exit_code == 1
    told = {row["check"]: row for row in json.loads(result.stdout) if row["status"] == "problem"}
    assert set(told) == {"quota", "nodes"}
    mend = " ".join(
        word for word in told["quota"]["remedy"].partition(";")[0].split() if word != "--set"
    )
    options = [f"--set={setting}" for setting in mend.split()]
    assert doctor("--cluster", *HERE, *options).exit_code == 0, "what it says mends it"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--probe"], "--probe: is about a cluster; add --cluster"),
        (["--namespace=x", "--kind=retrain"], "--namespace: is about a cluster"),
        (["--cluster", "--kube-context=nowhere"], "there are: stand-in, elsewhere"),
        (["--cluster", "--image=repo/nas:latest"], "name a digest or a tag that never moves"),
        (["--cluster", "--set=search.workers=3"], "workers on a cluster share a database"),
        (["--cluster", "--set=data.nothing=1"], "data.nothing"),
        (["--cluster"], "Kubeflow has profiles here, so name the namespace of yours"),
    ],
)
def test_wrong_input_is_one_message(api: KubeApi, arguments: list[str], told: str) -> None:
    result = doctor(*arguments, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert told in result.stderr


def test_no_kubeconfig_and_no_pod(api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    result = doctor("--cluster")
    assert result.exit_code == 2
    assert "there is neither a kubeconfig nor the account of a pod; set KUBECONFIG" in result.stderr


def test_a_context_stands_in_the_commands(api: KubeApi, config: str) -> None:
    rows = json.loads(
        doctor(config, "--cluster", "--json", "--kube-context=stand-in", *HERE).stdout
    )
    assert all(row["command"].startswith("kubectl --context stand-in ") for row in rows)


def test_where_the_namespace_is_taken_from(
    api: KubeApi, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> str:
        rows = json.loads(doctor(config, "--cluster", "--json").stdout)
        return str(next(row["detail"] for row in rows if row["check"] == "namespace"))

    api.raw[HEALTH]["multi_user"] = False
    assert seen() == "kubeflow"
    api.raw[HEALTH]["multi_user"] = True
    api.kubeconfig(tmp_path / "kubeconfig", namespace=NAMESPACE)
    assert seen() == NAMESPACE
    api.raw[HEALTH]["multi_user"] = False
    assert seen() == "kubeflow", "whatever the kubeconfig says"
    api.raw[HEALTH]["multi_user"] = True
    monkeypatch.setenv("NAS_KFP_NAMESPACE", "team-x")
    assert seen() == "there is no namespace team-x"


def test_the_probe_is_made_when_it_is_asked_for(
    api: KubeApi, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "_PAUSE_S", 0.01)
    doctor(config, "--cluster", *HERE)
    assert not any(one.kind == "Job" for one in api.asked), "nothing is made by default"
    api.pods = lambda job: [{"phase": "Succeeded"}]
    row = {"check": "state", "status": "problem", "detail": "/var/lib/nas", "remedy": "fsGroup"}
    api.log = json.dumps([row])
    result = doctor(config, "--cluster", "--probe", "--json", f"--image={IMAGE}", *HERE)
    assert result.exit_code == 1
    *_, last = json.loads(result.stdout)
    assert (last["check"], last["status"]) == ("pod-state", "problem")
    (made,) = (one for one in api.asked if (one.verb, one.kind) == ("create", "Job"))
    template: Any = made.body["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == IMAGE
    assert api.of("Job") == []


def test_no_probe_in_a_namespace_that_is_not_there(api: KubeApi, config: str) -> None:
    result = doctor(config, "--cluster", "--probe", "--namespace=team-x")
    assert result.exit_code == 1
    assert not any(one.kind == "Job" for one in api.asked)


def test_the_command_starts_without_the_kubernetes_package() -> None:
    code = (
        "import sys; from pipelines.cli import main; "
        "assert not {'kubernetes', 'urllib3', 'kfp'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
