"""Tags that lead from a model back to where it came from."""

import subprocess
from pathlib import Path

import pytest

from components.config.schema import parse
from components.tracking import lineage
from nascore.genotype import Genotype


def run_tags(source: str = "digits", **settings: object) -> dict[str, str]:
    config = parse({"method": "random", "seed": 7, "data": {"source": source}, **settings})
    return lineage.of_run(config, data_sha256="d" * 64, source_sha256=None, job_name="job")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch):
    for name in ("NAS_RUN_ID", "NAS_PIPELINE", "NAS_IMAGE", "NAS_GIT_REVISION", "NAS_COMMAND"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_on_a_laptop_names_data_space_and_code():
    tags = run_tags()
    assert tags["nas.method"] == "random"
    assert tags["nas.seed"] == "7"
    assert tags["nas.data_source"] == "digits"
    assert tags["nas.data_sha256"] == "d" * 64
    assert tags["nas.space"] == "chain"
    assert tags["nas.kfp_job"] == "job"
    assert tags.keys().isdisjoint({"nas.kfp_run_id", "nas.pipeline", "nas.image"})


def test_a_relative_path_is_tracked_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert run_tags("npz:x/new.npz")["nas.data_source"] == f"npz:{tmp_path}/x/new.npz"
    assert run_tags("npz:s3://b/new.npz")["nas.data_source"] == "npz:s3://b/new.npz"


def test_a_run_on_a_cluster_names_its_kubeflow_run_and_its_image(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NAS_RUN_ID", "0aa1")
    monkeypatch.setenv("NAS_PIPELINE", "nas-search")
    monkeypatch.setenv("NAS_IMAGE", "registry/nas@sha256:1")
    monkeypatch.setenv("NAS_GIT_REVISION", "abc")
    tags = run_tags()
    assert tags["nas.kfp_run_id"] == "0aa1"
    assert tags["nas.pipeline"] == "nas-search"
    assert tags["nas.image"] == "registry/nas@sha256:1"
    assert tags["nas.git_revision"] == "abc"


def test_no_tag_holds_a_password():
    """Also when a configuration was made past the checks that refuse it."""
    config = parse({"method": "random"})
    data = config.data.model_copy(update={"source": "npz:s3://key:secret-word@bucket/x.npz"})
    config = config.model_copy(update={"data": data})
    tags = lineage.of_run(config, data_sha256="", source_sha256=None, job_name="")
    assert "secret-word" not in str(tags)
    assert "bucket/x.npz" in tags["nas.data_source"]


def test_equal_spaces_have_equal_hashes_and_others_do_not():
    def sha256(**space: object) -> str:
        return run_tags(search={"space": {"name": "chain", **space}})["nas.space_sha256"]

    assert sha256(num_layers=3) == sha256(num_layers=3)
    assert sha256(num_layers=3) != sha256(num_layers=4)
    assert sha256(min_map_size=2) != sha256(min_map_size=4)


def test_a_working_tree_names_its_revision_and_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "nascore"
    package.mkdir()
    (package / "__init__.py").write_text("")

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(lineage.nascore, "__file__", str(package / "__init__.py"))
    assert "nas.git_revision" not in lineage.of_code(), "not a repository"
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    revision = git("rev-parse", "HEAD")
    assert lineage.of_code()["nas.git_revision"] == revision
    (tmp_path / "note.txt").write_text("not tracked")
    assert lineage.of_code()["nas.git_revision"] == revision
    (package / "__init__.py").write_text("x = 1")
    assert lineage.of_code()["nas.git_revision"] == f"{revision}-dirty"


def test_an_architecture_is_reported_as_a_word_and_a_hash():
    genotype = Genotype("nasbench201", (0, 1, 2, 3, 4, 0))
    assert lineage.of_genotype(genotype) == {
        "nas.genotype": "nasbench201:0-1-2-3-4-0",
        "nas.genotype_sha256": genotype.hash,
    }


# --- MLflow's own tags for the source of a run ------------------------------------------------


def test_the_source_of_a_run_on_this_machine_is_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NAS_COMMAND", "nas run nases")
    monkeypatch.setenv("NAS_GIT_REVISION", "abc-dirty")
    monkeypatch.setenv("LOGNAME", "ada")
    assert lineage.of_source() == lineage.of_source("search")
    assert lineage.of_source() == {
        "mlflow.source.name": "nas run nases",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "abc",
        "mlflow.user": "ada",
    }


def test_the_source_of_a_run_on_kubeflow_is_the_pipeline_and_the_step(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("NAS_PIPELINE", "nas-search")
    monkeypatch.setenv("NAS_GIT_REVISION", "abc")
    assert lineage.of_source()["mlflow.source.name"] == "nas-search"
    assert lineage.of_source("search") == {
        "mlflow.source.name": "nas-search/search",
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": "abc",
    }


def test_what_is_not_known_of_a_source_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_name() -> str:
        raise OSError("No username set in the environment")  # an account of a container

    monkeypatch.setattr(lineage.nascore, "__file__", str(tmp_path / "nascore" / "__init__.py"))
    assert lineage.of_source() == {}
    monkeypatch.setenv("NAS_COMMAND", "nas run nases")
    monkeypatch.setattr("getpass.getuser", no_name)
    assert lineage.of_source().keys() == {"mlflow.source.name", "mlflow.source.type"}
