"""A network with more outputs than logits: compared with others as champion, and as files."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from components.config.schema import Config
from components.config.settings import PromoteConfig, RegistryConfig
from components.export.manifest import GENOTYPE, MANIFEST, PROGRAMS, WEIGHTS, export_files
from components.export.programs import write_programs
from components.export.weights import read_network, write_model
from components.object_store.outputs import open_outputs
from components.registry import model_registry
from components.registry.aliases import CHALLENGER
from components.registry.lookup import CHAMPION
from components.registry.model_kinds import arrays_of
from components.registry.promotion import Candidate, Decision, promote
from components.registry.test_sets import ImageTestSet, logits
from components.steps.promote import export
from components.steps.registration import Promotion
from components.steps.run_results import RunResults
from components.steps.runtime import Step, execute
from nascore.data.batches import load
from nascore.data.prepared import DatasetInfo
from nascore.methods.instanas.controller import make_policy_network
from nascore.methods.instanas.decisions import explain
from nascore.methods.instanas.network_kind import CONTROLLER, MAX_EXPERTS
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.supernet import make_metagraph
from nascore.results import Arm, SearchResult
from nascore.spaces.base import ImageShape, make_genotype
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training.final_model import DeployedModel, FinalModel

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


def register(network: DeployedModel, store: str, folder: Path) -> model_registry.ModelVersion:
    return model_registry.register(
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
    networks = [DeployedModel(one, info).eval() for one in (routed, static)]
    if not routed_first:
        networks.reverse()
    images = pixels(40)
    with torch.inference_mode():
        labels = torch.from_numpy(arrays_of(networks[0](images))[0]).argmax(
            1
        )  # the first is always right
    decisions = []
    for network in networks:
        decisions.append(
            promote(
                Candidate(register(network, store, tmp_path), logits(network, [images]), 4, 1.0),
                uri=store,
                test_set=ImageTestSet(lambda: images.split(7), labels),
                config=PromoteConfig(),
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


# --- programs ---------------------------------------------------------------------------------


def final_of(network: nn.Module, pixels_BCHW: torch.Tensor, info: DatasetInfo) -> FinalModel:
    """With details of its policies for these images."""
    details = {}
    if isinstance(network, Routed):
        x_BCHW = normalised(network, pixels_BCHW, info)
        policy_BLO = network.policy(x_BCHW)
        explained = explain(network.controller(x_BCHW), policy_BLO, network.latency(policy_BLO))
        # As it is read from `model.json`.
        details = json.loads(json.dumps({"instanas": {"policies": asdict(explained)}}))
    genotype = make_genotype(SPACE, [1] * len(SPACE.cardinalities))
    return FinalModel(genotype, SHAPE, network, 0.9, 0.9, 0.9, 1, 1, 1, 1.0, details)


def normalised(network: nn.Module, pixels_BCHW: torch.Tensor, info: DatasetInfo) -> torch.Tensor:
    predictor = DeployedModel(network, info)
    return pixels_BCHW * predictor.scale_C11 + predictor.shift_C11


def test_controller_and_most_used_experts_are_exported_as_programs(
    tmp_path: Path, routed: Routed, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied answers what the network does, without its code, for any number of images."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NAS_SPOOL_DIR", str(tmp_path / "spool"))
    images = pixels(64)
    splits = load(digits_folder, torch.device("cpu"))
    info = splits.info
    final = final_of(routed, images, info)
    search = Config().search.model_copy(update={"space": SPACE.config})
    promote_to = PromoteConfig(export_to=str(tmp_path / "out"))
    changed = {"search": search, "promote": promote_to, "registry": RegistryConfig(model="net")}
    settings = Config().model_copy(update=changed)

    arm = Arm("instanas", (), 1.0)
    results = RunResults(
        config=settings,
        space=SPACE,
        search=SearchResult("instanas", 0, final.genotype, 0.9, arm, None, None),
        final=final,
        splits=splits,
        latency={},
        timings={},
    )
    made = model_registry.version_of("net", 1)
    promotion = Promotion(made, Decision(CHALLENGER, "because"), "1", {})

    def work(step: Step) -> dict[str, float]:
        export(step, results, promotion, {})
        return {}

    execute("promote", work, run_key="run1", config=settings, inputs={}, outputs={})
    there = tmp_path / "out" / "run1"
    experts = [f"expert-{number}.pt2" for number in range(1, MAX_EXPERTS + 1)]
    manifest = json.loads((there / MANIFEST).read_text())["sha256"]
    assert manifest.keys() == {WEIGHTS, GENOTYPE, CONTROLLER, *experts, PROGRAMS}
    for name, digest in manifest.items():
        assert hashlib.sha256((there / name).read_bytes()).hexdigest() == digest

    x_BCHW = normalised(routed, images, info)
    with torch.no_grad():
        logits_BK, policy_BLO, _ = routed.answer(x_BCHW)
        program = torch.export.load(there / CONTROLLER).module()
        torch.testing.assert_close(program(images), routed.controller(x_BCHW), atol=1e-5, rtol=0)
    described = json.loads((there / PROGRAMS).read_text())
    assert described["controller"] == {"file": CONTROLLER}
    assert described["num_images"] == 64
    assert [one["file"] for one in described["experts"]] == experts
    counts = [one["num_images"] for one in described["experts"]]
    assert (
        counts == policy_BLO.unique(dim=0, return_counts=True)[1].sort().values[-3:].tolist()[::-1]
    )
    for one, count in zip(described["experts"], counts, strict=True):
        has_it_B = (policy_BLO == torch.tensor(one["policy"])).all(dim=(1, 2))
        assert int(has_it_B.sum()) == count
        program = torch.export.load(there / one["file"]).module()
        with torch.no_grad():
            for chosen in (has_it_B, has_it_B.nonzero()[:1].squeeze(1)):  # and one image alone
                got_BK = program(images[chosen])
                torch.testing.assert_close(got_BK, logits_BK[chosen], atol=1e-4, rtol=0)


def test_a_step_that_is_tried_again_leaves_the_programs_of_its_first_try(tmp_path: Path) -> None:
    """Archives of equal programs need not be equal."""
    outputs = open_outputs(str(tmp_path / "out"))
    files = {name: tmp_path / name for name in (CONTROLLER, PROGRAMS)}
    for path in files.values():
        path.write_text("made at first")
    first = export_files(outputs, "run1", files)
    files[CONTROLLER].write_text("the same, another date inside")
    assert export_files(outputs, "run1", files) == first


def test_a_network_that_is_the_same_for_all_images_has_no_programs(
    tmp_path: Path, info: DatasetInfo
) -> None:
    static = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert write_programs(tmp_path, final_of(static, pixels(2), info), info) == {}
    assert not list(tmp_path.iterdir())
