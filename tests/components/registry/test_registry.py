"""Registry on a real SQLite store: what is logged, and what is refused."""

import os
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from numpy.typing import NDArray
from torch import Tensor, nn

from components.registry import model_registry


class Constant(nn.Module):
    """Always answers the same class, with a weight so that there is something to store."""

    def __init__(self, answer: int, num_classes: int = 4) -> None:
        super().__init__()
        self.logits = nn.Parameter(nn.functional.one_hot(torch.tensor(answer), num_classes).float())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.mean((1, 2, 3))[:, None] * 0 + self.logits


@pytest.fixture
def run_id(store: str, tmp_path: Path) -> str:
    client = MlflowClient(store)
    experiment_id = client.create_experiment(
        "nas", artifact_location=(tmp_path / "mlartifacts").as_uri()
    )
    return client.create_run(experiment_id).info.run_id


@pytest.fixture
def example() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)


def register(network: nn.Module, example: NDArray[np.float32], store: str, run_id: str):
    return model_registry.register(
        network.eval(), example, uri=store, run_id=run_id, model_name="net", tags={"nas.seed": "0"}
    )


def predicts(uri: str) -> int:
    return int(mlflow.pytorch.load_model(uri)(torch.zeros(2, 1, 8, 8)).argmax(1)[0])


def test_a_registered_model_predicts_what_the_network_did(
    store: str, run_id: str, example: NDArray[np.float32]
):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 4)
    ).eval()
    made = register(network, example, store, run_id)
    mlflow.set_tracking_uri(store)
    images = torch.randn(5, 1, 8, 8)  # another batch size than the example's
    loaded = mlflow.pytorch.load_model(made.uri)
    torch.testing.assert_close(loaded(images), network(images), atol=1e-5, rtol=0)
    served = mlflow.pyfunc.load_model(made.uri).predict(images.numpy())
    np.testing.assert_allclose(served, network(images).detach().numpy(), atol=1e-5)


def test_what_is_logged_belongs_to_the_run_and_leaves_it_running(
    store: str,
    run_id: str,
    example: NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)  # of the platform, not ours
    made = register(Constant(0), example, store, run_id)
    client = MlflowClient(store)
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert os.environ["MLFLOW_RUN_ID"] == "0" * 32
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.experiment_id == run.info.experiment_id
    assert model.artifact_location.startswith((tmp_path / "mlartifacts").as_uri())
    assert not (tmp_path / "mlruns").exists()
    version = client.get_model_version("net", made.version)
    assert version.run_id == run_id
    assert version.tags["nas.seed"] == "0"
    info = mlflow.models.get_model_info(made.uri)
    assert info.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
    assert info.signature.outputs.inputs[0].shape == (-1, 4)
    assert info.saved_input_example_info is not None
    requirements = Path(mlflow.artifacts.download_artifacts(f"{made.uri}/requirements.txt"))
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements.read_text()


def test_a_model_that_predicts_something_else_is_not_registered(
    store: str, run_id: str, example: NDArray[np.float32]
):
    class Unsteady(nn.Module):
        """The branch is decided when the model is exported, and not again when it is used."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x_BCHW: Tensor) -> Tensor:
            self.calls += 1
            return x_BCHW.flatten(1) + (0 if self.calls == 1 else 1)

    with pytest.raises(model_registry.ModelMismatchError, match="not registered"):
        register(Unsteady(), example, store, run_id)
    assert MlflowClient(store).search_registered_models() == []


def test_a_version_gets_a_description(
    store: str, run_id: str, example: NDArray[np.float32]
) -> None:
    made = register(Constant(0), example, store, run_id)
    for text in ("# card", "# later card"):
        model_registry.set_description(made, text, uri=store)
    version = MlflowClient(store).get_model_version("net", made.version)
    assert version.description == "# later card"


def test_one_image_is_no_example(store: str, run_id: str, example: NDArray[np.float32]):
    with pytest.raises(ValueError, match="at least 2 images"):
        register(Constant(0), example[:1], store, run_id)


def test_a_retried_step_gets_its_version_back(
    store: str, run_id: str, example: NDArray[np.float32]
):
    first = register(Constant(0), example, store, run_id)
    assert register(Constant(0), example, store, run_id) == first
    other = register(Constant(1), example, store, run_id)  # trained again: another network
    assert other.version != first.version
    assert predicts(first.uri) == 0, "its files were not written over"
    assert predicts(other.uri) == 1
