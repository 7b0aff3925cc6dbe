"""Models of several data sets in one registry, on real MLflow servers: names, versions, cards."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow_relay import Answer, Asked, Relay
from mlflow_server import MlflowServer
from postgres import Postgres

from components.config.schema import Config, parse
from components.registry.lookup import CHAMPION
from components.registry.task_schema import model_name, schema_hash, with_model_name
from components.steps.champion import check_default_name
from components.steps.model_card import MAX_DESCRIPTION, description, model_card
from components.steps.registration import Promotion, call_store, describe_version, register
from components.steps.run_results import RunResults
from components.steps.runtime import Step
from components.steps.summary import summary_of
from components.tracking import Tracker
from nascore.config import DataConfig
from nascore.data.batches import load
from nascore.data.prepared import prepare
from nascore.errors import InputError, ResourceUnavailable
from nascore.latency.benchmark import LatencyResult
from nascore.results import Arm, SearchResult
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.training.final_model import FinalModel

pytestmark = pytest.mark.slow

LATENCY = LatencyResult(1.5, 2.5, 1.6, 0.1, 1.4, 1, "a CPU", 2, 20, 200, "2.10", "2026-01-02")
VERDICT = {"outcome": "undecided", "statement": "It is undecided.", "difference": 0.0}


class Registry:
    """A registry, and a folder for the data sets and steps of a test."""

    def __init__(self, uri: str, folder: Path, experiment: str) -> None:
        self.uri, self.folder = uri, folder
        self.client = MlflowClient(uri, registry_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        self.experiment = (
            found.experiment_id if found else self.client.create_experiment(experiment)
        )

    def results(self, source: str, classes: tuple[str, ...], **settings: Any) -> RunResults:
        """Return results of a run on a new data set, whose network has random weights."""
        folder = self.folder / f"{source}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        rng = np.random.default_rng(len(classes))
        labels = np.repeat(np.arange(len(classes)), 12)
        images = rng.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
        np.savez(folder / f"{source}.npz", x_train=images, y_train=labels, classes=classes)
        given = {"method": "random", "tracking": {"uri": self.uri}, **settings}
        given["data"] = {"source": f"npz:{folder / source}.npz"}
        config = parse(given)
        info = prepare(DataConfig(**given["data"]), 0, folder / "dataset")
        config = with_model_name(config, info)
        space = make_space(config.search.space)
        genotype = make_genotype(space, [0] * len(space.cardinalities))
        shape = ImageShape(3, 8, len(classes))
        torch.manual_seed(len(classes))
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, len(classes))).eval()
        return RunResults(
            config=config,
            space=space,
            search=SearchResult("random", 0, genotype, 0.8, Arm("random", (), 1.0), None, VERDICT),
            final=FinalModel(genotype, shape, network, 0.9, 0.9, 0.9, 1234, 5678, 42, 3.0),
            splits=load(folder / "dataset", torch.device("cpu")),
            latency=LATENCY.to_dict(),
            timings={},
        )

    def step(self, config: Config) -> Step:
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        tracker = Tracker.open(spool, uri=self.uri, experiment="nas")
        return Step("promote", run_key="key", config=config, tracker=tracker)

    def register(self, results: RunResults, run_id: str | None = None) -> Promotion:
        run_id = run_id or self.client.create_run(self.experiment).info.run_id
        tags = {"nas.schema": schema_hash(results.splits.info), "nas.method": "random"}
        return call_store(
            self.step(results.config), lambda: register(results, run_id=run_id, tags=tags)
        )

    def finish(self, results: RunResults, promotion: Promotion) -> str:
        """Describe the version as the promotion step does; return the whole card."""
        result = json.loads(json.dumps(summary_of(results, promotion, {})))
        card = model_card(result, results.latency)
        describe_version(self.step(results.config), promotion, description(card, result))
        return card

    def enter(self, results: RunResults) -> Promotion:
        promotion = self.register(results)
        self.finish(results, promotion)
        return promotion

    def version(self, promotion: Promotion) -> Any:
        made = promotion.registered
        return self.client.get_model_version(made.name, made.version)


@pytest.fixture
def registry(mlflow_server: MlflowServer, tmp_path: Path) -> Registry:
    return Registry(mlflow_server.uri, tmp_path, tmp_path.name)


@pytest.fixture
def behind(
    mlflow_server: MlflowServer, tmp_path: Path
) -> Iterator[Callable[[str], tuple[Registry, Relay]]]:
    """`behind("part of a path")`: a registry whose server does not know paths with this part.

    MLflow before 2.3 had no aliases, and before 3.0 no logged models: its Flask application answers
    paths that it does not know with status 404 and Werkzeug's page "404 Not Found".
    """
    made = []

    def make(part: str) -> tuple[Registry, Relay]:
        def rule(asked: Asked) -> Answer | None:
            page = "<!doctype html><html lang=en><title>404 Not Found</title><h1>Not Found</h1>"
            return Answer(404, page, {"Content-Type": "text/html"}) if part in asked.path else None

        relay = Relay(mlflow_server.uri, rule=rule)
        relay.__enter__()
        made.append(relay)
        return Registry(relay.uri, tmp_path, tmp_path.name), relay

    yield make
    for relay in made:
        relay.__exit__()


def names_in(registry: Registry, part: str) -> set[str]:
    return {
        model.name for model in registry.client.search_registered_models() if part in model.name
    }


# --- one registered model a task ----------------------------------------------------------------


def test_two_data_sets_have_two_names_and_no_common_champion(registry: Registry) -> None:
    ants = registry.enter(registry.results("ants", ("red", "black")))
    bees = registry.enter(registry.results("bees", ("wild", "tame")))
    assert re.fullmatch(r"ants-[0-9a-f]{6}", ants.registered.name)
    assert re.fullmatch(r"bees-[0-9a-f]{6}", bees.registered.name)
    for promotion in (ants, bees):
        assert promotion.registered.version == "1"
        assert promotion.decision.reason == "there was no champion"
        aliases = registry.client.get_registered_model(promotion.registered.name).aliases
        assert aliases == {CHAMPION: "1"}


def test_the_same_task_has_the_same_name_whatever_the_images_are(registry: Registry) -> None:
    first, second = (registry.results("wasps", ("a", "b")) for _ in range(2))
    other = dataclasses.replace(second.splits.info, data_sha256="0" * 64)
    assert model_name(first.config) == model_name(second.config)
    assert schema_hash(other) == schema_hash(first.splits.info)
    for change in ({"classes": ("b", "a")}, {"size": 9}, {"channels": 1}):
        changed = dataclasses.replace(second.splits.info, **change)
        assert schema_hash(changed) != schema_hash(first.splits.info), change


def test_other_classes_under_a_set_name_do_not_challenge_its_champion(registry: Registry) -> None:
    named = {"registry": {"model": "insects"}}
    registry.enter(registry.results("moths", ("day", "night"), **named))
    other = registry.enter(registry.results("flies", ("house", "fruit"), **named))
    assert other.decision.alias != CHAMPION
    assert "registry.model" in other.decision.reason
    assert registry.client.get_registered_model("insects").aliases[CHAMPION] == "1"
    assert registry.version(other).tags["validation_status"] == "rejected"


def test_a_retraining_on_a_new_file_asks_which_model_it_is(registry: Registry) -> None:
    """New data of a task often come in a file of another name, such as the month's."""
    trained = registry.enter(registry.results("march", ("egg", "larva", "pupa")))
    notes: list[str] = []
    april = registry.results("april", ("egg", "larva", "pupa"))
    with pytest.raises(InputError, match=r"march-[0-9a-f]{6} of the same classes and input") as no:
        check_default_name(april.config, april.splits.info, say=notes.append)
    assert model_name(april.config) in str(no.value)
    for other in (
        registry.results("march", ("egg", "larva", "pupa")),
        registry.results("new", ("x", "y")),
    ):
        check_default_name(other.config, other.splits.info, say=notes.append)
    assert notes == []
    assert trained.registered.name.startswith("march-")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("imagefolder:/data/my flowers (2024)/", "my-flowers-2024"),
        ("npz:/data/größe.npz", "größe"),
        ("imagefolder:s3://bucket/a:b/c%20d", "c-20d"),
        ("imagefolder:/", "imagefolder"),
        ("npz:/data/---.npz", "data"),
        ("digits", "digits"),
    ],
)
def test_the_default_name_is_one_that_can_be_set(
    registry: Registry, source: str, name: str
) -> None:
    info = dataclasses.replace(registry.results("odd", ("a", "b")).splits.info, source=source)
    derived = model_name(with_model_name(parse({}), info))
    assert derived.rpartition("-")[0] == name
    assert parse({"registry": {"model": derived}}).registry.model == derived
    assert registry.client.create_registered_model(f"{derived}-{registry.experiment}")


# --- what a version has -------------------------------------------------------------------------


def test_a_version_describes_itself(registry: Registry) -> None:
    results = registry.results("snails", ("left", "right"))
    promotion = registry.register(results)
    assert registry.version(promotion).tags["validation_status"] == "pending"
    card = registry.finish(results, promotion)

    version, info = registry.version(promotion), results.splits.info
    assert version.description == card or version.description.startswith("# snails-")
    assert len(version.description.encode()) <= MAX_DESCRIPTION
    assert version.aliases == [CHAMPION]
    assert version.tags["validation_status"] == "approved"
    assert version.tags["nas.schema"] == schema_hash(info)
    assert json.loads(version.tags["nas.classes"]) == ["left", "right"]
    assert version.tags["nas.input"].startswith("float32 pixels 0..255, N x 3 x 8 x 8")
    assert "inside the model" in version.tags["nas.preprocessing"]
    assert "snails" in registry.client.get_registered_model(version.name).description

    mlflow.set_tracking_uri(registry.uri)
    described = mlflow.models.get_model_info(promotion.registered.uri)
    (pixels,), (logits,) = described.signature.inputs.inputs, described.signature.outputs.inputs
    assert (pixels.type, pixels.shape) == (np.dtype("float32"), (-1, 3, 8, 8))
    assert (logits.name, logits.shape) == ("logits", (-1, 2))
    assert described.saved_input_example_info is not None
    assert described.metadata["classes"] == ["left", "right"]
    assert described.metadata["input"]["layout"] == "NCHW"
    steps = described.metadata["preprocessing"]
    assert (steps["mean"], steps["std"]) == (list(info.mean), list(info.std))
    served = mlflow.pyfunc.load_model(promotion.registered.uri)
    assert served.predict(np.zeros((3, 3, 8, 8), np.float32)).shape == (3, 2)


def test_the_code_of_the_card_predicts(registry: Registry, tmp_path: Path) -> None:
    results = registry.results("worms", ("earth", "book"))
    promotion = registry.register(results)
    card = registry.finish(results, promotion)
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    run = subprocess.run(
        [sys.executable, "-c", f"{code[1]}\nprint('predicted', predicted)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] in ("earth", "book")


def test_a_repeated_step_changes_nothing(registry: Registry) -> None:
    results = registry.results("crabs", ("a", "b"))
    first = registry.register(results)
    again = registry.register(results, first.run_id)  # the step died before the description
    registry.finish(results, again)
    before = registry.version(first)
    registry.finish(results, registry.register(results, first.run_id))
    after = registry.version(first)
    assert (again.registered, before.tags, before.description) == (
        first.registered,
        after.tags,
        after.description,
    )
    assert len(registry.client.search_model_versions(f"name='{first.registered.name}'")) == 1


def test_a_long_card_and_many_classes_fit_into_postgres(postgres: Postgres, tmp_path: Path) -> None:
    """Its columns have the limits that SQLite does not check."""
    server = MlflowServer(tmp_path, store=postgres.new_database())
    server.start()
    try:
        (tmp_path / "data").mkdir()
        registry = Registry(server.uri, tmp_path / "data", "nas")
        classes = tuple(f"größe und güte {number:04}" for number in range(400))
        results = registry.results("many", classes)
        promotion = registry.register(results)
        card = registry.finish(results, promotion)
        version = registry.version(promotion)
        assert len(card) > len(version.description)
        assert "The whole card: artifact `MODEL_CARD.md` of run" in version.description
        assert version.tags["nas.classes"].endswith("...] (400 classes)")
        assert version.tags["validation_status"] == "approved"
    finally:
        server.stop()


# --- servers that cannot do it ------------------------------------------------------------------


def test_nothing_is_registered_where_there_are_no_aliases(
    behind: Callable[[str], tuple[Registry, Relay]],
) -> None:
    registry, _ = behind("registered-models/alias")
    with pytest.raises(ResourceUnavailable, match=r"has no aliases.*update the server"):
        registry.register(registry.results("fleas", ("a", "b")))
    assert names_in(registry, "fleas") == set()
    assert registry.client.search_logged_models([registry.experiment]) == []


def test_nothing_is_registered_where_there_are_no_logged_models(
    behind: Callable[[str], tuple[Registry, Relay]],
) -> None:
    registry, _ = behind("logged-models")
    with pytest.raises(ResourceUnavailable, match=r"older than this client.*update the server"):
        registry.register(registry.results("ticks", ("a", "b")))
    assert names_in(registry, "ticks") == set()


def test_a_version_that_is_deleted_meanwhile_is_registered_by_the_next_try(
    registry: Registry,
) -> None:
    replacing = {"registry": {"unusable_champion": "replace"}}
    results = registry.results("lice", ("a", "b"), **replacing)
    promotion = registry.register(results)
    made = promotion.registered
    registry.client.delete_registered_model_alias(made.name, CHAMPION)
    registry.client.delete_model_version(made.name, made.version)
    with pytest.raises(ResourceUnavailable, match=r"deleted.*run the step again"):
        registry.finish(results, promotion)
    again = registry.register(results, promotion.run_id)
    registry.finish(results, again)
    assert again.registered.version != made.version
    assert registry.version(again).tags["validation_status"] == "approved"


def test_a_refused_description_leaves_the_version_pending(
    behind: Callable[[str], tuple[Registry, Relay]],
) -> None:
    """As a registry answers whose limit is lower than that of MLflow's own stores."""
    registry, relay = behind("nothing")
    results = registry.results("mites", ("a", "b"))
    promotion = registry.register(results)

    def rule(asked: Asked) -> Answer | None:
        if asked.method != "PATCH" or not asked.path.endswith("model-versions/update"):
            return None
        text = {"error_code": "INVALID_PARAMETER_VALUE", "message": "description is too long"}
        return Answer(400, json.dumps(text), {"Content-Type": "application/json"})

    relay.rule = rule
    with pytest.raises(ResourceUnavailable, match="description is too long"):
        registry.finish(results, promotion)
    assert registry.version(promotion).tags["validation_status"] == "pending"
    relay.rule = None
    registry.finish(results, registry.register(results, promotion.run_id))
    assert registry.version(promotion).tags["validation_status"] == "approved"
