"""The commands of the runbook run as they stand there, with names put in for its capitals."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from kfp_commands import SCHEDULE, SEARCH, done
from kfp_nodes import Step
from kfp_server import KfpServer, Look
from kube_api import KubeApi
from kube_cluster import SETTINGS

from pipelines.cli import main

DOCS = Path(__file__).parent.parent.parent.parent / "docs"
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


def test_what_is_not_run_says_why() -> None:
    for block in blocks("operators.md"):
        if block[0].startswith(NOT_RUN):
            assert re.fullmatch(rf"{NOT_RUN}: needs .+", block[0]), block
            assert len(block) > 1
        else:
            assert all(line.startswith("nas ") for line in block), block


@pytest.mark.parametrize("command", commands())
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
