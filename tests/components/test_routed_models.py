"""A network that answers more than logits beside others: as champion, and as files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from components import registry
from components.champions import CHALLENGER, CHAMPION
from components.config import Config
from components.promotion import Candidate, correct, promote
from components.settings import PromoteConfig
from components.weights import read_network, write_model
from nascore.config import MobileSpaceConfig
from nascore.data.store import DatasetInfo
from nascore.final import FinalModel, Predictor
from nascore.instanas.controller import make_policy_network
from nascore.instanas.metagraph import make_metagraph
from nascore.instanas.routed import Routed
from nascore.spaces import ImageShape, make_genotype
from nascore.spaces.mobile import MobileSpace

SPACE = MobileSpace(MobileSpaceConfig(stages=((4, 1, 1), (8, 1, 2)), stem_channels=4))
SHAPE = ImageShape(1, 8, 10)


def pixels(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (number, 1, 8, 8), generator=generator).float()


@pytest.fixture(scope="module")
def routed() -> Routed:
    """Untrained, with a policy that differs between images."""
    graph = make_metagraph(SPACE, SHAPE, seed=0)
    controller = make_policy_network(1, (2, 5), seed=0, channels=4)
    images = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        controller(images)
        graph(images, torch.ones(64, 2, 5, dtype=torch.bool))
    controller.eval()
    with torch.no_grad():
        controller.head.weight *= 30
        middle = torch.logit(controller(images).median(dim=0).values)
        controller.head.bias -= middle.flatten()
    cost_LO = torch.arange(10.0).view(2, 5) + 1
    return Routed(controller, graph, cost_LO=cost_LO, constant=0.5).eval()


@pytest.fixture
def info(digits_folder: Path) -> DatasetInfo:
    return DatasetInfo.load(digits_folder)


def new_run(store: str, folder: Path) -> str:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("nas")
    place = (folder / "mlartifacts").as_uri()
    identifier = (
        client.create_experiment("nas", artifact_location=place)
        if experiment is None
        else experiment.experiment_id
    )
    return client.create_run(identifier).info.run_id


def register(network: Predictor, store: str, folder: Path) -> registry.Registered:
    return registry.register(
        network,
        pixels(2).numpy(),
        uri=store,
        run_id=new_run(store, folder),
        model_name="net",
        tags={},
    )


@pytest.mark.parametrize("routed_first", [True, False])
def test_models_of_either_kind_are_compared(
    store: str, tmp_path: Path, routed: Routed, info: DatasetInfo, routed_first: bool
):
    static = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    networks = [Predictor(one, info).eval() for one in (routed, static)]
    if not routed_first:
        networks.reverse()
    images = pixels(40)
    with torch.inference_mode():
        labels = torch.from_numpy(registry.arrays_of(networks[0](images))[0]).argmax(
            1
        )  # the first is always right
    decisions = []
    for network in networks:
        decisions.append(
            promote(
                Candidate(
                    register(network, store, tmp_path), correct(network, [images], labels), 4, 1.0
                ),
                uri=store,
                images=lambda: images.split(7),
                labels=labels,
                config=PromoteConfig(model_name="net"),
                rng=np.random.default_rng(0),
            )
        )
    assert [decision.alias for decision in decisions] == [CHAMPION, CHALLENGER]
    assert decisions[1].champion_accuracy == 1.0


def test_the_files_are_enough_to_build_it_again(
    tmp_path: Path, routed: Routed, info: DatasetInfo
) -> None:
    settings = Config()
    space = MobileSpaceConfig(stages=((4, 1, 1), (8, 1, 2)), stem_channels=4)
    search = settings.search.model_copy(update={"space": space})
    genotype = make_genotype(SPACE, [1] * len(SPACE.cardinalities))
    final = FinalModel(genotype, SHAPE, routed, 0.9, 0.9, 0.9, 1, 1, 1, 1.0)
    write_model(tmp_path, final, info, settings.model_copy(update={"search": search}))
    again = read_network(tmp_path)
    images = torch.randn(9, 1, 8, 8)
    with torch.inference_mode():
        for got, wanted in zip(again.answer(images), routed.answer(images), strict=True):
            assert torch.equal(got, wanted)
    final.save(tmp_path / "model")
    with torch.inference_mode():
        loaded = FinalModel.load(tmp_path / "model", SPACE).network
        assert torch.equal(loaded(images), routed(images))
