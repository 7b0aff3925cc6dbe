"""A stand-in for KFP's API server, for the tests of the commands that talk to one."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from kfp_server import KfpServer

from pipelines.kubeflow import client
from pipelines.kubeflow.status import tracked_runs


@pytest.fixture(scope="session", autouse=True)
def quick_compiler() -> Iterator[None]:
    """Give kfp the names of its callers without their sources, which take seconds to find.

    It asks at every setting of a task, and pytest has sixty frames and thousands of modules.
    """
    from kfp.dsl import pipeline_task

    def stack() -> list[tuple[None, None, None, str]]:
        frame = sys._getframe(1)
        assert frame.f_back is not None
        return [(None, None, None, one.f_code.co_name) for one in (frame, frame.f_back)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_task, "inspect", SimpleNamespace(stack=stack))
        yield


@pytest.fixture(scope="session")
def swagger(offline_data: Path) -> Path:
    path = offline_data.parent / "kfp" / "kfp_api_v2beta1.swagger.json"
    if not path.is_file():
        pytest.skip(f"there is no contract of KFP beside NAS_TEST_DATA ({path.name})")
    return path


@pytest.fixture
def kfp(swagger: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES", "NAS_KFP"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(client, "_PAUSE_S", 0.01)
    tracked_runs.unreachable.cache_clear()
    server = KfpServer(swagger)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    yield server
    server.close()
    assert server.violations == []
