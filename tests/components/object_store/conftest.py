"""A real S3 server with the bucket `data`, a relay that fails on demand, and images in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from s3 import Relay, S3Server


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    s3_server.bucket("data")
    return s3_server


@pytest.fixture
def s3(server: S3Server, aws_account: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A plain client to put things with; the code under test finds the server as well."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return server.client()


@pytest.fixture
def relay(server: S3Server, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    between = Relay(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
    yield between
    between.mode = "away"
    between.close()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten images each."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cow & calf"):
        (root / name).mkdir()
        for number in range(10):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def prefix(s3: Any, tree: Path, request: pytest.FixtureRequest) -> str:
    """The images in a place of each test's own."""
    name = request.node.name.partition("[")[0]
    for path in tree.rglob("*.png"):
        key = f"{name}/{path.relative_to(tree).as_posix()}"
        s3.put_object(Bucket="data", Key=key, Body=path.read_bytes(), ChecksumAlgorithm="SHA256")
    return f"s3://data/{name}"
