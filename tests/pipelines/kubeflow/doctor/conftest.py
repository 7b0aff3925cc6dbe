"""A sound cluster, which each test spoils in one way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kube_api import KubeApi
from kube_cluster import fill


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    api = KubeApi()
    fill(api)
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
    for name in ("KUBERNETES_SERVICE_HOST", "NAS_KFP_NAMESPACE", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    yield api
    api.close()
