"""A model with an architecture per image in the registry: logits, policy and latency by name."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from components.registry import model_registry
from components.registry.test_sets import logits as logits_of
from nascore.data.prepared import DatasetInfo
from nascore.methods.instanas.controller import make_policy_network
from nascore.methods.instanas.cost_table import macs_table
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.supernet import make_metagraph
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training.final_model import DeployedModel

SPACE = MobileSpaceConfig(stages=((8, 2, 2), (8, 1, 2)), stem_channels=8, head_channels=8)


@pytest.fixture(scope="module")
def routed() -> Routed:
    graph = make_metagraph(MobileSpace(SPACE), ImageShape(1, 8, 4), seed=0)
    controller = make_policy_network(1, graph.policy_shape, seed=1, channels=4, num_stages=1)
    with torch.no_grad():
        controller.head.weight.mul_(50)  # so that images differ in their policies
    return Routed.by_table(controller, graph, macs_table(graph, controller)).eval()


@pytest.fixture
def predictor(routed: Routed, digits_folder: Path) -> DeployedModel:
    info = DatasetInfo.load(digits_folder)
    return DeployedModel(routed, info).eval()


def test_it_is_one_artifact_that_answers_all_three_by_name(
    store: str, tmp_path: Path, routed: Routed, predictor: DeployedModel
) -> None:
    client = MlflowClient(store)
    experiment = client.create_experiment("nas", artifact_location=(tmp_path / "a").as_uri())
    run_id = client.create_run(experiment).info.run_id
    images = torch.randint(0, 256, (7, 1, 8, 8)).float()
    made = model_registry.register(
        predictor, images[:2].numpy(), uri=store, run_id=run_id, model_name="net", tags={}
    )
    logits, policy, latency = routed.answer(images * predictor.scale_C11 + predictor.shift_C11)
    assert len(policy.unique(dim=0)) > 1

    answered = mlflow.pyfunc.load_model(made.uri).predict(images.numpy())
    assert list(answered) == ["logits", "policy", "latency"]
    np.testing.assert_allclose(answered["logits"], logits.detach().numpy(), atol=1e-4)
    np.testing.assert_array_equal(answered["policy"], policy.numpy())
    np.testing.assert_allclose(answered["latency"], latency.numpy(), rtol=1e-5)

    loaded = mlflow.pytorch.load_model(made.uri)
    torch.testing.assert_close(loaded(images)[0], logits, atol=1e-4, rtol=0)
    right = logits_of(loaded, [images]).argmax(1) == logits.argmax(1).numpy()
    assert right.all()
    files = {path.name for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert not {name for name in files if name.endswith((".pkl", ".pickle", ".pth"))}


def test_its_weights_as_numbers_rebuild_it(routed: Routed, predictor: DeployedModel) -> None:
    from nascore.methods.instanas.routed_network import rebuild

    again = rebuild(routed.blueprint(), MobileSpace(SPACE), ImageShape(1, 8, 4))
    again.load_state_dict(routed.state_dict())
    images = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(again.eval()(images), routed(images))
