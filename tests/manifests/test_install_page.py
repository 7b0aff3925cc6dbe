"""The page that says how to install: every way, every component, and commands that are right."""

import re
import shlex

import click
import pytest
import yaml
from manifest_build import EGRESS, MANIFESTS, OPTIONAL, WAYS

from pipelines.cli import main

PAGE = (MANIFESTS.parent / "docs" / "operators.md").read_text()
INSTALL = PAGE[PAGE.index("\n## Install\n") : PAGE.index("\n## First run\n")]
ROWS = {
    names: row
    for row in INSTALL.splitlines()
    if row.startswith("| ")
    and (names := re.findall(r"^\| \[?`([\w/-]+)`", row))
    and (names := names[0])
}


def commands(way: str) -> list[str]:
    """What the section of a way says, as one types it."""
    sections = re.split(r"^### ", INSTALL, flags=re.MULTILINE)[1:]
    [section] = [one for one in sections if way in one.partition("\n")[0].split(", ")]
    [block] = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line for line in block.splitlines() if not line.startswith("#")]
    if way == "gpu":
        lines = [line.replace("overlays/local", "overlays/gpu") for line in lines]
    return lines


@pytest.mark.parametrize("way", WAYS)
def test_a_way_has_ten_commands_at_most_and_a_check_at_the_end(way: str) -> None:
    lines = commands(way)
    assert 0 < len(lines) <= 10
    assert f"kubectl apply -k manifests/overlays/{way}" in lines
    words = shlex.split(lines[-1])
    assert words[:4] == ["nas", "doctor", "--cluster", f"manifests/overlays/{way}/cluster.yaml"]
    wanted = {"single-user": "kubeflow", "profile": "YOUR-PROFILE"}.get(way, "nas")
    assert words[words.index("--namespace") + 1] == wanted
    doctor = main.get_command(click.Context(main), "doctor")
    assert isinstance(doctor, click.Command)
    doctor.make_context("doctor", words[2:])  # refuses options that it does not know
    scripts = [shlex.split(line)[1:] for line in lines if line.startswith("sh ")]
    assert all(namespace == wanted for _, namespace in scripts)
    made = [name.rpartition("/")[2] for name, _ in scripts]
    stores = [] if way == "prod" else ["seaweedfs.sh"]
    assert made == ["secrets.sh", *stores, "mlflow_account.sh"]


@pytest.mark.parametrize("way", WAYS)
def test_every_file_that_is_named_is_there(way: str) -> None:
    text = "\n".join(commands(way))
    for path in re.findall(r"manifests/[\w./-]+", text):
        assert (MANIFESTS.parent / path).exists(), path


def test_ways_and_components_are_found_from_the_page() -> None:
    assert {*WAYS, *EGRESS, *OPTIONAL} <= ROWS.keys()


@pytest.mark.parametrize("way", WAYS)
def test_words_to_replace_are_in_the_files(way: str) -> None:
    """A `sed` that finds nothing says nothing."""
    for line in commands(way):
        found = re.search(r"s/(.*?)/.*?/g?\S* .*?(manifests/\S+)", line)
        if line.startswith("sed"):
            assert found is not None, line
            text = (MANIFESTS.parent / found[2]).read_text()
            assert re.search(found[1].replace(r"\{", "{").replace(r"\}", "}"), text), line


def test_the_example_of_a_profile_is_the_namespace_of_the_closed_ways() -> None:
    profile = yaml.safe_load((MANIFESTS / "closed" / "profile.yaml").read_text())
    namespace = yaml.safe_load((MANIFESTS / "closed" / "namespace.yaml").read_text())
    assert profile["metadata"]["name"] == namespace["metadata"]["name"] == "nas"
