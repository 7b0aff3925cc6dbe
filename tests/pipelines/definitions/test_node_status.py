"""Kubeflow's list of tasks stays readable: Argo's status of the workflow is under 1 MB."""

from pathlib import Path

import pytest
from node_status import LIMIT, status_bytes

from components.config.schema import parse
from pipelines.definitions.retrain import compile_retrain
from pipelines.definitions.search import compile_search

DIGEST = f"ghcr.io/team/nas@sha256:{'0123456789abcdef' * 4}"


@pytest.mark.parametrize("workers", [1, 2, 8, 16, 64])
def test_the_status_of_a_search_is_under_one_megabyte(workers: int, tmp_path: Path) -> None:
    """Finding N3: it was 528 KB, and 83 KB more for each worker."""
    search = {"workers": workers, "storage": "env:NAS_STUDY_URL"}
    cluster = {
        "state": "s3://bucket/state",
        "secrets": {name: "nas-s3/key" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        | {"NAS_STUDY_URL": "nas-study/url", "MLFLOW_TRACKING_PASSWORD": "nas-mlflow/password"},
        "config_maps": {"AWS_ENDPOINT_URL": "nas-settings/AWS_ENDPOINT_URL"},
    }
    config = parse({"method": "nases", "search": search, "cluster": cluster})
    compile_search(config, tmp_path / "p.yaml", image=DIGEST)
    assert (tmp_path / "p.yaml").stat().st_size < 256_000
    assert status_bytes(tmp_path / "p.yaml") < LIMIT


def test_the_status_of_a_retraining_is_under_one_megabyte(tmp_path: Path) -> None:
    search = {"workers": 64, "storage": "env:NAS_STUDY_URL"}
    config = parse({"method": "nases", "search": search})
    compile_retrain(config, tmp_path / "p.yaml", image=DIGEST)
    assert status_bytes(tmp_path / "p.yaml") < LIMIT
