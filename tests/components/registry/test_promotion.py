"""Who becomes champion on a real SQLite store, why, and the way back."""

import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from registered_models import EXAMPLE, IMAGES, LABELS, Constant, House
from torch import Tensor, nn

from components.config.settings import PromoteConfig
from components.registry import model_registry
from components.registry.aliases import (
    CHALLENGER,
    champion_of,
    roll_back,
)
from components.registry.lookup import CHAMPION
from components.registry.promotion import Candidate, promote
from components.registry.test_sets import ImageTestSet, logits
from nascore.errors import InputError, ServiceUnavailable


@pytest.fixture
def house(store: str, tmp_path: Path) -> House:
    return House(store, tmp_path)


def test_the_first_is_champion_and_stays_so_when_its_step_is_tried_again(house: House) -> None:
    assert champion_of("net", uri=house.store) is None
    first, decision = house.enter(Constant(0))
    assert (decision.alias, decision.champion_accuracy) == (CHAMPION, None)
    assert house.promote(first, Constant(0)).alias == CHAMPION
    assert champion_of("net", uri=house.store).version == int(first.version)


def test_a_better_one_takes_over_and_the_reason_is_kept(house: House) -> None:
    first, _ = house.enter(Constant(1))
    _, decision = house.enter(Constant(2))
    assert decision.alias == CHALLENGER
    assert decision.champion_accuracy == 0.2
    assert house.champion == first.version
    better, decision = house.enter(Constant(0))
    assert decision.alias == CHAMPION
    assert decision.champion_version == first.version
    assert "0.6000 against 0.2000" in decision.reason
    assert house.champion == better.version
    assert house.client.get_model_version("net", better.version).tags["nas.decision"] == (
        decision.reason
    )


def test_a_gain_that_may_be_chance_is_not_enough(house: House) -> None:
    """Right on one image more, of 40: the interval of the paired bootstrap reaches 0."""

    class AlmostConstant(Constant):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            logits = super().forward(x_BCHW)
            lucky = nn.functional.one_hot(torch.tensor(1), 4).float() * 2
            is_first = x_BCHW[:, 0, 0, 0] > 0
            return torch.where(is_first[:, None], lucky, logits)

    house.enter(Constant(0))
    images = IMAGES.clone()
    images[24] = 1  # its class is 1
    network = AlmostConstant(0)
    new = house.register(network)
    candidate = Candidate(new, logits(network, [images]), 4, 1.0)
    decisions = {
        confidence: promote(
            candidate,
            uri=house.store,
            test_set=ImageTestSet(lambda: [images], LABELS),
            config=PromoteConfig(confidence=confidence),
            rng=np.random.default_rng(0),
        )
        for confidence in (0.95, None)
    }
    assert decisions[0.95].alias == CHALLENGER
    assert [(gate.name, gate.passed) for gate in decisions[0.95].gates] == [
        ("gain", True),
        ("certainty", False),
    ]
    assert "95% interval" in decisions[0.95].reason
    assert decisions[None].alias == CHAMPION


def test_no_class_may_lose_more_recall_than_is_allowed(house: House) -> None:
    """Always 0 is right for 24 of 40 images, always 1 for 8: better, but lost for class 1."""
    first, _ = house.enter(Constant(1))
    _, decision = house.enter(Constant(0), max_class_drop=0.05)
    assert decision.alias == CHALLENGER
    assert [(gate.name, gate.passed) for gate in decision.gates] == [
        ("gain", True),
        ("certainty", True),
        ("classes", False),
    ]
    assert (
        "the recall of class scratch is 0.0000 against 1.0000 of the champion, where no class may "
        "lose more than 0.05"
    ) in decision.reason
    assert house.champion == first.version
    _, allowed = house.enter(Constant(0))
    assert allowed.alias == CHAMPION


def test_the_objective_is_what_is_compared(house: House) -> None:
    """Always 0 finds one class of three, as always 1 does: no gain but in accuracy."""
    house.enter(Constant(1))
    _, decision = house.enter(Constant(0), objective="balanced_accuracy")
    assert decision.alias == CHALLENGER
    assert "test balanced accuracy 0.3333 against 0.3333 of the champion" in decision.reason
    assert "a gain of 0.0000 in balanced accuracy" in decision.reason
    assert decision.comparison is not None
    assert decision.comparison.new_accuracy == 0.6, "an accuracy stays one"
    _, by_accuracy = house.enter(Constant(0))
    assert by_accuracy.alias == CHAMPION


def test_a_minimum_gain_is_compared_without_rounding_errors(house: House) -> None:
    house.enter(Constant(1))
    better = house.register(Constant(0))
    # 0.6 - 0.2 is 0.39999999999999997 in floating point.
    assert house.promote(better, Constant(0), min_gain=0.41).alias == CHALLENGER
    assert house.promote(better, Constant(0), min_gain=0.4).alias == CHAMPION


@pytest.mark.parametrize(
    ("limit", "gate"), [({"max_params": 3}, "size"), ({"max_latency_ms": 0.9}, "latency")]
)
def test_limits_hold_for_every_model_the_first_included(
    house: House, limit: dict[str, Any], gate: str
) -> None:
    _, decision = house.enter(Constant(0), **limit)
    assert decision.alias == CHALLENGER
    assert [one.name for one in decision.gates if not one.passed] == [gate]
    assert "are allowed" in decision.reason
    assert champion_of("net", uri=house.store) is None


def test_models_of_other_shapes_are_not_compared(house: House) -> None:
    first, _ = house.enter(Constant(0))
    classes = house.register(Constant(0, num_classes=9))
    decision = house.promote(classes, Constant(0, num_classes=9))
    assert decision.alias == CHALLENGER
    assert "answers with logits of shape (-1, 4)" in decision.reason
    assert "registry.model" in decision.reason
    colour = house.register(Constant(0), np.zeros((2, 3, 8, 8), np.float32))
    assert "reads images of shape (-1, 1, 8, 8)" in house.promote(colour, Constant(0)).reason
    assert house.champion == first.version


def test_a_pickled_champion_is_not_loaded(house: House, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"

    class Trap(Constant):
        def __reduce__(self) -> Any:
            return (open, (str(sprung), "w"))

    house.enter(Constant(0))
    (archive,) = (tmp_path / "mlartifacts").rglob("model.pt2")
    torch.save(Trap(0), archive)
    _, decision = house.enter(Constant(0))
    assert decision.alias == CHALLENGER
    assert "cannot be loaded" in decision.reason
    assert not sprung.exists()
    torch.load(archive, weights_only=False)  # it is a trap indeed
    assert sprung.exists()


# --- the way back ---------------------------------------------------------------------------

DELETED = "is not in the registry any more"


def way_back(house: House, to: str | None = None) -> tuple[str | None, str]:
    done = roll_back("net", uri=house.store, to=to)
    return done.before, done.now


def test_a_champion_that_was_deleted_is_passed_over(house: House) -> None:
    first, second, third = (house.enter(Constant(answer))[0].version for answer in (3, 1, 0))
    house.client.delete_model_version("net", second)
    done = roll_back("net", uri=house.store)
    assert (done.before, done.now, done.skipped) == (third, first, {second: DELETED})
    assert house.champion == first
    house.client.delete_model_version("net", first)
    with pytest.raises(InputError, match="are gone"):
        roll_back("net", uri=house.store)


def test_the_present_champion_was_deleted(house: House) -> None:
    """MLflow removes the alias of a version that is deleted."""
    first, second = (house.enter(Constant(answer))[0].version for answer in (1, 0))
    house.client.delete_model_version("net", second)
    done = roll_back("net", uri=house.store)
    assert (done.before, done.now, done.skipped) == (None, first, {second: DELETED})


def test_a_champion_whose_files_are_gone_is_passed_over(house: House, tmp_path: Path) -> None:
    first, second, third = (house.enter(Constant(answer))[0].version for answer in (3, 1, 0))
    source = house.client.get_model_version("net", second).source.rpartition("/")[2]
    shutil.rmtree(tmp_path / "mlartifacts" / "models" / source)
    with pytest.raises(InputError, match="has no files any more"):
        roll_back("net", uri=house.store, to=second)
    done = roll_back("net", uri=house.store)
    assert (done.before, done.now, list(done.skipped)) == (third, first, [second])


@pytest.mark.parametrize(
    ("to", "advice"),
    [
        ("", "leave --to out"),
        ("01", "write --to 1"),
        ("v1", "write --to 1"),
        (" 1", "write --to 1"),
        ("latest", "such as --to 3"),
        ("0", "such as --to 3"),
        ("1.0", "such as --to 3"),
    ],
)
def test_versions_are_written_as_the_registry_has_them(house: House, to: str, advice: str) -> None:
    house.enter(Constant(1))
    with pytest.raises(InputError, match=advice):
        roll_back("net", uri=house.store, to=to)
    model = house.client.get_registered_model("net")
    assert (model.tags["nas.champions"], house.champion) == ("1", "1")


def test_rolling_back_goes_one_champion_at_a_time(house: House) -> None:
    names = [house.enter(Constant(answer))[0].version for answer in (1, 0)]
    unlucky, _ = house.enter(Constant(2))
    assert house.champion == names[1]
    assert way_back(house) == (names[1], names[0])
    assert house.champion == names[0]
    assert "rolled back" in house.client.get_model_version("net", names[0]).tags["nas.decision"]
    with pytest.raises(InputError, match="first champion"):
        roll_back("net", uri=house.store)
    assert way_back(house, to=unlucky.version) == (names[0], unlucky.version)
    assert way_back(house) == (unlucky.version, names[0])


@pytest.mark.parametrize("dies_in", ["set_registered_model_tag", "set_registered_model_alias"])
def test_a_way_back_that_was_cut_off_is_gone_again(
    house: House, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    """Called again it ends at the same version, and not at the one that was left."""
    first, second, third = (house.enter(Constant(answer))[0].version for answer in (3, 1, 0))

    def die(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, dies_in, die)
        with pytest.raises(KeyboardInterrupt):
            roll_back("net", uri=house.store)
    assert house.champion == third
    assert way_back(house) == (third, second)
    assert way_back(house) == (second, first)


def test_a_rollback_never_goes_to_a_champion_whose_promotion_was_cut_off(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = house.enter(Constant(1))

    def die(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", die)
        with pytest.raises(KeyboardInterrupt):
            house.enter(Constant(0))
    assert house.champion == first.version
    with pytest.raises(InputError, match="first champion"):
        roll_back("net", uri=house.store)


def test_an_unreachable_registry_is_not_reported_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ServiceUnavailable, match="does not answer") as away:
            roll_back("net", uri=uri)
    assert "secret" not in str(away.value)


def test_what_cannot_be_rolled_back_is_reported(house: House) -> None:
    with pytest.raises(InputError, match="not in the registry"):
        roll_back("net", uri=house.store)
    house.enter(Constant(0))
    house.enter(Constant(2))
    with pytest.raises(InputError, match=r"net has no version 99; it has 1, 2$"):
        roll_back("net", uri=house.store, to="99")
    house.client.delete_model_version("net", "1")
    with pytest.raises(InputError, match=DELETED):
        roll_back("net", uri=house.store, to="1")


def test_a_challenger_that_is_rolled_back_to_is_a_champion_in_all_respects(house: House) -> None:
    house.enter(Constant(0))
    rejected, decision = house.enter(Constant(2))
    assert decision.alias == CHALLENGER
    model_registry.validate(rejected, passed=False, uri=house.store)
    roll_back("net", uri=house.store, to=rejected.version)
    version = house.client.get_model_version("net", rejected.version)
    assert version.tags["validation_status"] == "approved"
    assert version.aliases == ["champion"]


@pytest.mark.parametrize(
    "dies_in",
    ["log_outputs", "log_model_artifacts", "finalize_logged_model", "create_model_version"],
)
def test_a_model_that_was_not_logged_to_the_end_is_logged_by_the_next_try(
    house: House, monkeypatch: pytest.MonkeyPatch, dies_in: str
):
    run_id = house.client.create_run(house.experiment).info.run_id

    def register() -> model_registry.ModelVersion:
        return model_registry.register(
            Constant(0).eval(), EXAMPLE, uri=house.store, run_id=run_id, model_name="net", tags={}
        )

    def die(*arguments: object, **more: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, dies_in, die)
        with pytest.raises(ConnectionError):
            register()
    (begun,) = house.client.search_logged_models([house.experiment])
    made = register()
    (there,) = house.client.search_logged_models([house.experiment])
    assert there.model_id == begun.model_id
    assert house.client.get_model_version("net", made.version).source == f"models:/{begun.model_id}"
    assert str(there.status) == "READY"
    (output,) = house.client.get_run(run_id).outputs.model_outputs
    assert output.model_id == begun.model_id
