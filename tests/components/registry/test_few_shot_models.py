"""A network that learns classes from a few examples: in the registry, as champion, and as files."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from torch import nn

from components.config.schema import Config
from components.config.settings import PromoteConfig
from components.export.weights import read_network, write_model
from components.registry import model_registry
from components.registry.aliases import CHALLENGER
from components.registry.lookup import CHAMPION
from components.registry.model_kinds import FewShotAdapter
from components.registry.promotion import Candidate, Decision, promote
from components.registry.test_sets import FewShotTestSet, ImageTestSet
from nascore.data.prepared import DatasetInfo
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.meta_learning.task_adaptation import Inner, TaskSettings
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.training.final_model import DeployedModel, FinalModel

WAYS, SHOTS, QUERIES = 3, 2, 4
SETTINGS = TaskSettings(WAYS, (1, 8, 8), Inner("adam", 0.1, 20))
PROTOTYPES = TaskSettings(WAYS, (1, 8, 8), Inner("sgd", 0.01, 1, prototypes=True))


class Brightness(nn.Module):
    """Learns tasks of classes that differ in brightness, if its slope is not zero."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(3, WAYS)
        self.slope = slope

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        mean_B1 = self.norm(x_BCHW).mean((2, 3)) * self.slope
        return self.head(torch.cat([mean_B1, mean_B1**2, mean_B1**3], 1))


def task(seed: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    order = rng.permutation(WAYS)

    def images(y: NDArray[Any]) -> NDArray[np.float32]:
        level = 40 + 80 * order[y][:, None, None, None]
        return (level + rng.normal(0, 10, (len(y), 1, 8, 8))).clip(0, 255).astype(np.float32)

    support_y, query_y = np.arange(WAYS).repeat(SHOTS), np.arange(WAYS).repeat(QUERIES)
    support = {"support_x": images(support_y), "support_y": support_y}
    return {**support, "query_x": images(query_y), "query_y": query_y}


TASKS = [task(seed) for seed in range(20)]
ASKED = {name: TASKS[0][name] for name in ("support_x", "support_y", "query_x")}


@pytest.fixture
def info(digits_folder: Path) -> DatasetInfo:
    return DatasetInfo.load(digits_folder)


def predictor(
    info: DatasetInfo, slope: float = 1.0, settings: TaskSettings = SETTINGS
) -> DeployedModel:
    torch.manual_seed(0)
    return DeployedModel(FewShotLearner(Brightness(slope), settings), info).eval()


class House:
    """A store with one experiment, whose models live below a folder."""

    def __init__(self, store: str, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.client = MlflowClient(store, registry_uri=store)
        self.experiment = self.client.create_experiment(
            "nas", artifact_location=(folder / "mlartifacts").as_uri()
        )

    def register(
        self, network: nn.Module, example: Any = None, run_id: str | None = None
    ) -> model_registry.ModelVersion:
        if run_id is None:
            run_id = self.client.create_run(self.experiment).info.run_id
        if example is None:
            example = FewShotAdapter(ASKED, learned=["a", "b"])
        return model_registry.register(
            network, example, uri=self.store, run_id=run_id, model_name="net", tags={}
        )

    def promote(
        self, new: model_registry.ModelVersion, network: nn.Module, test_set: Any
    ) -> Decision:
        return promote(
            Candidate(new, test_set.scores(network), 4, 1.0),
            uri=self.store,
            test_set=test_set,
            config=PromoteConfig(),
            rng=np.random.default_rng(0),
        )


@pytest.fixture
def house(store: str, tmp_path: Path) -> Iterator[House]:
    before = list(sys.path)  # MLflow adds the code of what it loads
    yield House(store, tmp_path)
    sys.path[:] = before


@pytest.mark.parametrize("settings", [SETTINGS, PROTOTYPES])
def test_one_artifact_learns_a_task_and_answers(
    house: House, info: DatasetInfo, settings: TaskSettings
) -> None:
    network = predictor(info, settings=settings)
    run_id = house.client.create_run(house.experiment).info.run_id
    made = house.register(network, run_id=run_id)
    loaded = mlflow.pyfunc.load_model(made.uri)
    wanted = network.adapter().adapt(TASKS[1]["support_x"], TASKS[1]["support_y"])
    answer = loaded.predict({name: TASKS[1][name] for name in ASKED})
    assert sorted(answer) == ["labels", "probabilities"]
    expected = wanted(TASKS[1]["query_x"])
    np.testing.assert_allclose(answer["probabilities"], expected.probabilities, atol=1e-5)
    np.testing.assert_array_equal(answer["labels"], expected.labels)
    assert (answer["labels"] == TASKS[1]["query_y"]).mean() > 0.9

    once = loaded.get_raw_model().adapt(
        TASKS[2]["support_x"].astype(np.uint8), TASKS[2]["support_y"]
    )
    assert once(TASKS[2]["query_x"][:1]).labels.shape == (1,), "another number of queries"

    described = mlflow.models.get_model_info(made.uri)
    assert [one.name for one in described.signature.inputs] == list(ASKED)
    assert all(one.shape[0] == -1 for one in described.signature.inputs)
    assert described.metadata == {"learned_classes": ["a", "b"]}
    files = {path.name for path in (house.folder / "mlartifacts").rglob("*") if path.is_file()}
    assert {"model.pt2", "inner_loop.py", "adapter.py", "pyfunc_few_shot.py"} <= files
    assert not {name for name in files if name.endswith((".pkl", ".pickle", ".pth"))}
    assert house.register(network, run_id=run_id) == made, "a second try makes no second version"


def test_the_loaded_model_reports_errors_in_a_support_set(house: House, info: DatasetInfo) -> None:
    made = house.register(predictor(info))
    loaded = mlflow.pyfunc.load_model(made.uri)
    with pytest.raises(ValueError, match="has 3 classes") as caught:
        loaded.predict({**ASKED, "support_y": ASKED["support_y"] + 1})
    assert "without 0" in str(caught.value)
    nan = ASKED["support_x"].copy()
    nan[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        loaded.predict({**ASKED, "support_x": nan})
    for wrong in (
        {"support_x": ASKED["support_x"][:, :, :7]},
        {"support_x": ASKED["support_x"].astype(np.float64)},
        {"support_y": ASKED["support_y"].astype(np.float32)},
    ):
        with pytest.raises(MlflowException):
            loaded.predict({**ASKED, **wrong})
    with pytest.raises(MlflowException):
        loaded.predict({name: ASKED[name] for name in ("support_x", "query_x")})


def test_it_needs_nothing_of_this_project_to_be_served(
    house: House, info: DatasetInfo, tmp_path: Path
) -> None:
    network = predictor(info)
    made = house.register(network)
    model = mlflow.artifacts.download_artifacts(artifact_uri=made.uri, dst_path=str(tmp_path / "m"))
    np.savez(tmp_path / "asked.npz", **ASKED)
    program = (
        "import sys, numpy as np, mlflow\n"
        "loaded = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "answer = loaded.predict(dict(np.load(sys.argv[2])))\n"
        "assert not {'nascore', 'components'} & set(sys.modules)\n"
        "np.save(sys.argv[3], answer['probabilities'])\n"
    )
    out = tmp_path / "out.npy"
    subprocess.run(
        [sys.executable, "-I", "-c", program, model, str(tmp_path / "asked.npz"), str(out)],
        check=True,
        cwd=tmp_path,
    )
    wanted = network.adapter().predict(ASKED)["probabilities"]
    np.testing.assert_allclose(np.load(out), wanted, atol=1e-5)


def test_two_are_compared_on_the_same_tasks(house: House, info: DatasetInfo) -> None:
    test_set = FewShotTestSet(TASKS, ["x", "y"])
    blind, able = predictor(info, slope=0.0), predictor(info)
    first = house.register(blind)
    assert house.promote(first, blind, test_set).alias == CHAMPION
    second = house.register(able)
    decision = house.promote(second, able, test_set)
    assert decision.alias == CHAMPION
    assert decision.champion_accuracy == pytest.approx(1 / WAYS, abs=0.02)
    assert "of the champion (version 1) on the same tasks" in decision.reason
    assert decision.comparison is not None
    assert decision.comparison.num_images == len(TASKS)
    third = house.register(blind)
    worse = house.promote(third, blind, test_set)
    assert worse.alias == CHALLENGER
    assert worse.champion_accuracy == pytest.approx(test_set.scores(able).mean())


def test_a_champion_that_has_learned_the_classes_of_the_test_is_no_standard(
    house: House, info: DatasetInfo
) -> None:
    network = predictor(info)
    house.promote(house.register(network), network, FewShotTestSet(TASKS, ["x", "y"]))
    decision = house.promote(house.register(network), network, FewShotTestSet(TASKS, ["b", "x"]))
    assert decision.alias == CHALLENGER
    assert "has learned 1 of the classes of this test (b); give this model" in decision.reason
    assert "--set registry.model=NAME" in decision.reason


def test_one_that_knows_its_classes_is_not_compared_with_one_that_learns_them(
    house: House, info: DatasetInfo
) -> None:
    static = DeployedModel(nn.Sequential(nn.Flatten(), nn.Linear(64, WAYS)), info).eval()
    images = torch.from_numpy(TASKS[0]["query_x"])
    test_set = ImageTestSet(lambda: [images], torch.from_numpy(TASKS[0]["query_y"]))
    house.promote(house.register(static, ASKED["support_x"]), static, test_set)
    network = predictor(info)
    decision = house.promote(house.register(network), network, FewShotTestSet(TASKS, ["x"]))
    assert decision.alias == CHALLENGER
    assert "reads images of shape (-1, 1, 8, 8), the new model of shape {'support_x'" in (
        decision.reason
    )


def test_a_model_that_answers_otherwise_is_not_registered(
    house: House, info: DatasetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = predictor(info)
    true = FewShotAdapter(ASKED, learned=[])
    loaded = FewShotAdapter.loaded_predictions
    monkeypatch.setattr(
        FewShotAdapter,
        "loaded_predictions",
        lambda self, uri: [x + 1 for x in loaded(self, uri)],
    )
    with pytest.raises(model_registry.ModelMismatchError):
        house.register(network, true)
    assert house.client.search_model_versions("name='net'") == []


# --- files ------------------------------------------------------------------------------------


def test_the_files_are_enough_to_build_it_again(tmp_path: Path, info: DatasetInfo) -> None:
    section = FewShotCellSpaceConfig(max_blocks=2, search_channels=4, final_channels=6)
    space = make_space(section)
    shape, genotype = ImageShape(1, 8, WAYS), make_genotype(space, [1, 0, 0, 1, 3, 2, 1, 1, 0])
    learner = FewShotLearner(space.build(genotype, shape, "final"), SETTINGS).eval()
    settings = Config()
    search = settings.search.model_copy(update={"space": section})
    final = FinalModel(genotype, shape, learner, 0.9, 0.9, 0.9, 1, 1, 1, 1.0)
    write_model(tmp_path, final, info, settings.model_copy(update={"search": search}))
    assert {path.name for path in tmp_path.iterdir()} == {"genotype.json", "model.safetensors"}
    again = read_network(tmp_path)
    assert isinstance(again, FewShotLearner)
    assert again.settings == SETTINGS
    answers = [DeployedModel(one, info).adapter().predict(ASKED) for one in (learner, again)]
    np.testing.assert_array_equal(answers[0]["probabilities"], answers[1]["probabilities"])
