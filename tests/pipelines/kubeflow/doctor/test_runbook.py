"""The commands of the runbook run as they stand there, with names put in for its capitals."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from kfp_commands import SCHEDULE, SEARCH, done
from kfp_nodes import Step
from kfp_server import KfpServer, Look
from kube_api import KubeApi
from kube_cluster import NAMESPACE, SETTINGS

from pipelines.cli import main

ROOT = Path(__file__).parents[4]
DOCS, MANIFESTS = ROOT / "docs", ROOT / "manifests"
KUBECTL = Path(sys.executable).with_name("kubectl")
NOT_RUN = "# not run"
RUNNING = Look("RUNNING", (Step("prepare-data"), Step("search", "RUNNING")))


def blocks(page: str) -> list[list[str]]:
    """The commands of each block of a page, without those of its section about installing."""
    text = (DOCS / page).read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^## Install\n.*?(?=^## )", "", text)
    found = re.findall(r"(?ms)^ *```\w*\n(.*?)^ *```$", text)
    return [block.replace("\\\n", " ").strip().splitlines() for block in found]


def commands() -> list[str]:
    """The commands of the runbook that can run here."""
    return [line for block in blocks("operators.md") if NOT_RUN not in block[0] for line in block]


def of_program(program: str) -> list[str]:
    return [command for command in commands() if command.startswith(f"{program} ")]


def test_what_is_not_run_says_why() -> None:
    for block in blocks("operators.md"):
        if block[0].startswith(NOT_RUN):
            assert re.fullmatch(rf"{NOT_RUN}: needs .+", block[0]), block
            assert len(block) > 1
        else:
            assert all(line.startswith(("nas ", "kubectl ")) for line in block), block


@pytest.mark.skipif(not KUBECTL.exists(), reason="kubectl of the developers' tools is not here")
@pytest.mark.parametrize("command", of_program("kubectl"))
def test_kubectl_takes_the_command(
    command: str, api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.token = None  # kubectl shows none where nothing is encrypted
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path))
    for path in (MANIFESTS / "backup").glob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            if one["kind"] == "CronJob":
                api.put("CronJob", one["metadata"]["name"], NAMESPACE, spec=one["spec"])
    words = shlex.split(command)[1:]
    # What it would send: it writes in a form (protobuf) that the stand-in does not read.
    words += ["--dry-run=client", "-o", "yaml"]
    ended = subprocess.run([KUBECTL, *words], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    made = yaml.safe_load(ended.stdout)
    assert (made["kind"], made["metadata"]["name"]) == ("Job", words[-4])
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["command"][0] == "sh"


@pytest.mark.parametrize("command", of_program("nas"))
def test_the_command_runs(
    command: str, api: KubeApi, kfp: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(json.dumps({"method": "random", **SETTINGS}))
    kfp.logs["search"] = "child 0: valid accuracy 0.9\n"
    run_id = ""
    if "RUN" in command:
        run_id = done(*SEARCH, "--no-check")["run_id"]
        kfp.plan(run_id, RUNNING)
    if "schedule" in command and "create" not in command:
        done(*SCHEDULE, "--no-check")
    names = {"RUN": run_id, "REGISTRY": "repo", "DIGEST": "0" * 64}
    words = [
        re.sub("|".join(rf"\b{name}\b" for name in names), lambda found: names[found[0]], word)
        for word in shlex.split(command)[1:]
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, f"{command}\n{result.output}"
    assert result.output.strip()
