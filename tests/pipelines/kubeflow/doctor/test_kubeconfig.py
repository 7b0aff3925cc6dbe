"""Which cluster is looked at, and kubeconfigs that are of no use."""

from pathlib import Path

import pytest
from kube_api import TOKEN, KubeApi

from nascore.errors import InputError
from pipelines.kubeflow.doctor.client import Kube, Missing, Resource, Unreachable
from pipelines.kubeflow.doctor.kubeconfig import connect

NAMESPACES = Resource("v1", "namespaces")


def found(path: Path | None, context: str | None = None, **more: str) -> Kube | None:
    given = {"KUBECONFIG": str(path)} if path else {"KUBECONFIG": "/nowhere/config"}
    return connect(context, environment={**given, **more}, pod=Path("/nowhere"))


def test_the_current_context_and_its_namespace(api: KubeApi, tmp_path: Path) -> None:
    kube = found(api.kubeconfig(tmp_path / "config", namespace="team-a"))
    assert kube is not None
    assert kube.namespace == "team-a"
    assert kube.kubectl("get", "pods") == "kubectl get pods"
    assert kube.items(NAMESPACES)
    assert not kube.is_pod


def test_another_context(api: KubeApi, tmp_path: Path) -> None:
    kube = found(api.kubeconfig(tmp_path / "config"), "elsewhere")
    assert kube is not None
    assert kube.kubectl("get", "pods", namespace="x") == "kubectl --context elsewhere -n x get pods"
    with pytest.raises(Unreachable, match="context elsewhere cannot be reached"):
        kube.items(NAMESPACES)


def test_a_context_that_is_not_there(api: KubeApi, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are: stand-in, elsewhere"):
        found(api.kubeconfig(tmp_path / "config"), "nowhere")
    with pytest.raises(InputError, match="there is no kubeconfig"):
        found(None, "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "[1, 2]",
        "a: [b",
        "apiVersion: v1\nkind: Config\n",
        "contexts: 5\nclusters: 6\nusers: 7\ncurrent-context: x\n",
        "contexts: [{name: x}]\nclusters: []\nusers: []\ncurrent-context: x\n",
        "contexts: [{name: x, context: {cluster: y, user: z}}]\nclusters: []\nusers: []\n"
        "current-context: x\n",
        "contexts: [{name: x, context: {cluster: y, user: z}}]\nclusters: [{name: y, cluster: "
        "{server: 'https://h', certificate-authority: /nowhere/ca}}]\nusers: []\n"
        "current-context: x\n",
    ],
)
def test_a_kubeconfig_that_is_of_no_use_is_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InputError, match="see kubectl config view"):
        found(path)


def test_a_kubeconfig_that_is_a_folder_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        found(tmp_path)
    (tmp_path / "config").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError):
        found(tmp_path / "config")


def test_several_files_of_which_some_are_missing(api: KubeApi, tmp_path: Path) -> None:
    path = api.kubeconfig(tmp_path / "config")
    kube = connect(environment={"KUBECONFIG": f"/nowhere:{path}:"})
    assert kube is not None
    assert kube.items(NAMESPACES)


def pod(folder: Path) -> Path:
    (folder / "token").write_text(TOKEN)
    (folder / "ca.crt").write_text("no certificate\n")
    (folder / "namespace").write_text("team-b\n")
    return folder


def test_the_account_of_a_pod(tmp_path: Path) -> None:
    environment = {"KUBECONFIG": "/nowhere", "KUBERNETES_SERVICE_HOST": "127.0.0.1"}
    environment["KUBERNETES_SERVICE_PORT"] = "9"
    assert connect(environment=environment, pod=tmp_path) is None, "there is no token"
    broken = connect(environment=environment, pod=pod(tmp_path))
    assert broken is not None
    with pytest.raises(Unreachable):
        broken.items(NAMESPACES)
    (tmp_path / "ca.crt").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        connect(environment=environment, pod=tmp_path)
    import certifi

    (tmp_path / "ca.crt").write_text(Path(certifi.where()).read_text())
    kube = connect(environment=environment, pod=tmp_path)
    assert kube is not None
    assert (kube.namespace, kube.is_pod) == ("team-b", True)
    with pytest.raises(Unreachable, match="cannot be reached"):
        kube.items(NAMESPACES)


def test_neither(tmp_path: Path) -> None:
    assert found(None) is None


def test_a_server_without_the_encryption_that_was_promised(api: KubeApi, tmp_path: Path) -> None:
    path = api.kubeconfig(tmp_path / "config")
    path.write_text(path.read_text().replace("http://", "https://"))
    kube = found(path)
    assert kube is not None
    with pytest.raises(Unreachable):
        kube.items(NAMESPACES)


def test_a_token_that_is_not_known_and_one_that_is_not_shown_in_messages(
    api: KubeApi, tmp_path: Path
) -> None:
    kube = found(api.kubeconfig(tmp_path / "config", token="secret-of-mine"))
    assert kube is not None
    with pytest.raises(Unreachable, match="does not know who we are") as refused:
        kube.items(NAMESPACES)
    assert "secret-of-mine" not in str(refused.value)


def test_a_kind_that_the_server_does_not_know(api: KubeApi, tmp_path: Path) -> None:
    kube = found(api.kubeconfig(tmp_path / "config"))
    assert kube is not None
    with pytest.raises(Missing, match="404 page not found"):
        kube.items(Resource("argoproj.io/v1alpha1", "workflows", "nas"))


def test_the_same_question_is_asked_once(api: KubeApi, tmp_path: Path) -> None:
    kube = found(api.kubeconfig(tmp_path / "config"))
    assert kube is not None
    for _ in range(3):
        kube.items(NAMESPACES)
        with pytest.raises(Missing):
            kube.get(Resource("v1", "secrets", "nas", "no"))
    assert len(api.asked) == 2
    kube.now(NAMESPACES)
    assert len(api.asked) == 3
