"""Weights and teachers of a run: checked by the first step, read again before the final training.

Models are registered in a real MLflow store, objects lie on a real S3 server.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from s3 import SECRET_KEY, S3Server
from torch import nn

from components.config.schema import Config, parse
from components.export.weights import write_model
from components.registry import model_registry
from components.registry.model_metadata import metadata_of
from components.steps.transfer import FILE, check_transfer, with_transfer
from nascore.config import OwnTrainingConfig, SearchConfig
from nascore.context import SearchContext
from nascore.data.batches import Splits, load
from nascore.errors import InputError, ResourceUnavailable
from nascore.files import sha256_of
from nascore.results import Arm, SearchResult
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.training.final_model import DeployedModel, FinalModel, train_from_scratch

SPACE = ResidualSpaceConfig(num_stages=2, channels=8)
SHAPE = ImageShape(1, 8, 10)
OWN = OwnTrainingConfig(epochs=1)


@pytest.fixture(scope="module")
def splits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


@pytest.fixture
def s3(s3_server: S3Server, aws_account: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A plain client to put things with; the code under test finds the server as well."""
    s3_server.bucket("data")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    return s3_server.client()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    return tmp_path / "dataset"


def config_of(store: str = "sqlite:///none.db", **training: Any) -> Config:
    return parse(
        {
            "method": "random",
            "search": {"space": SPACE.model_dump()},
            "tracking": {"uri": store},
            "training": training,
        }
    )


def context_of(config: Config, splits: Splits, folder: Path) -> SearchContext:
    return SearchContext(
        method="random",
        seeds=Seeds(0),
        space=make_space(SPACE),
        splits=splits,
        shape=SHAPE,
        search=SearchConfig(space=SPACE),
        final=config.training.resolve(OWN),
        options=config.search.options,
        controller=folder,
        state=folder,
        training=config.training,
    )


def result_of(context: SearchContext) -> SearchResult:
    return SearchResult(
        method="random",
        seed=0,
        genotype=context.space.standard,  # type: ignore[attr-defined]
        valid_accuracy=0.5,
        arm=Arm("random", (), 1.0),
        control=None,
        verdict=None,
        pareto=(),
        versions={},
    )


def trained(config: Config, splits: Splits, folder: Path) -> FinalModel:
    context = context_of(config, splits, folder)
    return train_from_scratch(context, result_of(context))


@pytest.fixture(scope="module")
def final(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> FinalModel:
    """A network of this project, trained on digits."""
    return trained(config_of(), splits, tmp_path_factory.mktemp("final"))


def check(config: Config, splits: Splits, dataset: Path) -> tuple[Config, list[str]]:
    said: list[str] = []
    state = dataset.parent / "state"
    found = check_transfer(config, splits.info, dataset, state=state, say=said.append)
    assert not any(state.iterdir()) if state.exists() else True, "copies are removed"
    return found, said


def message(config: Config, splits: Splits, dataset: Path) -> str:
    with pytest.raises(InputError) as raised:
        check(config, splits, dataset)
    assert not (dataset / FILE).exists()
    return str(raised.value)


# --- weights ------------------------------------------------------------------------------------


def test_a_final_training_starts_from_weights_that_were_trained_here(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    final.save(tmp_path / "model")
    path = tmp_path / "model" / "weights.pt"
    config, said = check(config_of(weights=str(path)), splits, dataset)
    assert said == [f"training.weights: {path} has SHA-256 {sha256_of(path)}"]
    context = with_transfer(
        context_of(config, splits, tmp_path), config, dataset, state=tmp_path, say=said.append
    )
    # No update has an effect at this rate.
    still = context.final.model_copy(update={"lr": 1e-12, "min_lr": 0.0, "weight_decay": 0.0})
    again = train_from_scratch(dataclasses.replace(context, final=still), result_of(context))
    for name, value in final.network.named_parameters():
        assert torch.allclose(again.network.get_parameter(name), value, atol=1e-6), name
    again.save(tmp_path / "again")
    stored = json.loads((tmp_path / "again" / "model.json").read_text())["transfer"]["weights"]
    assert (stored["sha256"], stored["share"]) == (sha256_of(path), 1.0)
    assert (stored["left_out"], stored["freeze_epochs"]) == ({}, 0)
    assert FinalModel.load(tmp_path / "again", context.space).transfer == again.transfer


def test_weights_in_s3_are_those_of_the_file(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path, s3: Any, aws_account: None
) -> None:
    final.save(tmp_path / "model")
    path = tmp_path / "model" / "weights.pt"
    s3.put_object(Bucket="data", Key="weights/net.pt", Body=path.read_bytes())
    config, said = check(config_of(weights="s3://data/weights/net.pt"), splits, dataset)
    assert said == [f"training.weights: s3://data/weights/net.pt has SHA-256 {sha256_of(path)}"]
    context = context_of(config, splits, tmp_path)
    found = with_transfer(context, config, dataset, state=tmp_path / "s", say=said.append).start
    assert found is not None
    assert found.source == "s3://data/weights/net.pt"
    assert torch.equal(found.tensors["head.bias"], final.network.state_dict()["head.bias"])

    s3.put_object(Bucket="data", Key="weights/net.pt", Body=b"")
    with pytest.raises(InputError, match="is damaged, or no file of weights"):
        with_transfer(context, config, dataset, state=tmp_path / "s", say=said.append)


def test_a_missing_object_and_a_wrong_account_are_problems_of_the_setting(
    splits: Splits, dataset: Path, s3: Any, aws_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(weights="s3://data/weights/none.pt")
    assert message(config, splits, dataset).startswith("training.weights = s3://data/weights/none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ResourceUnavailable) as raised:
        check(config, splits, dataset)
    assert SECRET_KEY not in str(raised.value)


def test_weights_that_fit_no_network_of_the_space_are_refused_before_the_search(
    splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    torch.save(nn.Sequential(nn.Conv2d(5, 7, 9)).state_dict(), tmp_path / "other.pt")
    found = message(config_of(weights=str(tmp_path / "other.pt")), splits, dataset)
    assert "is of another architecture: 0.0% of the parameters of ResidualNetwork fit" in found
    assert "only in the file: 0.weight 7x5x9x9" in found


def test_weights_that_were_replaced_after_the_first_step_are_refused(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    final.save(tmp_path / "model")
    path = tmp_path / "model" / "weights.pt"
    config, _ = check(config_of(weights=str(path)), splits, dataset)
    torch.save(final.network.state_dict(), path)
    with pytest.raises(InputError, match="it was replaced since"):
        with_transfer(
            context_of(config, splits, tmp_path), config, dataset, state=tmp_path, say=print
        )


class RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def test_all_problems_are_in_one_message_and_no_code_runs(
    splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    torch.save({"w": RunsCode(tmp_path / "ran")}, tmp_path / "code.pt")
    config = config_of(weights=str(tmp_path / "code.pt"), teacher=str(tmp_path / "none.pt2"))
    found = message(config, splits, dataset)
    assert "is a pickle that contains code or objects (posix.system)" in found
    assert "training.teacher = " in found
    assert "there is no such file or folder" in found
    assert not (tmp_path / "ran").exists()


# --- teachers -----------------------------------------------------------------------------------


def registered(final: FinalModel, splits: Splits, store: str, **changes: Any) -> str:
    """Register the network, and return its version."""
    client = MlflowClient(store, registry_uri=store)
    experiment = client.get_experiment_by_name("nas")
    where = (
        client.create_experiment("nas", artifact_location=f"{Path(store[10:]).parent}/artifacts")
        if experiment is None
        else experiment.experiment_id
    )
    model = DeployedModel(final.network, splits.info).eval()
    info = dataclasses.replace(splits.info, **changes)
    return model_registry.register(
        model,
        np.zeros((2, 1, 8, 8), np.float32),
        uri=store,
        run_id=client.create_run(where).info.run_id,
        model_name="net",
        tags={},
        metadata=metadata_of(info),
    ).version


@torch.no_grad()
def asked(config: Config, splits: Splits, dataset: Path) -> torch.Tensor:
    """Return the logits of the teacher of a run for normalised training images."""
    context = context_of(config, splits, dataset.parent)
    state = dataset.parent / "state"
    teacher = with_transfer(context, config, dataset, state=state, say=print).teacher
    assert teacher is not None
    return teacher(splits.train.normalise(splits.train.pixels_at(range(20))))


@torch.no_grad()
def expected(final: FinalModel, splits: Splits) -> torch.Tensor:
    pixels = splits.train.pixels_at(range(20)).float()
    return DeployedModel(final.network, splits.info).eval()(pixels)  # type: ignore[no-any-return]


def test_a_registered_teacher_keeps_the_version_of_the_first_step(
    final: FinalModel, splits: Splits, dataset: Path, store: str
) -> None:
    version = registered(final, splits, store)
    client = MlflowClient(store, registry_uri=store)
    for alias in ("champion", "best"):
        client.set_registered_model_alias("net", alias, version)
    for text in ("net", "net@best", f"net/{version}", "models:/net@best"):
        config, _ = check(config_of(store, teacher=text), splits, dataset)
        assert config.training.teacher == f"models:/net/{version}"
    client.delete_registered_model_alias("net", "champion")
    assert torch.allclose(asked(config, splits, dataset), expected(final, splits), atol=1e-4)

    for text, part in {
        "net": "the model net has no alias champion (aliases: best)",
        "net@worst": "the model net has no alias worst (aliases: best)",
        "net/7": f"the model net has no version 7, but {version}",
        "other": "there is no registered model other in tracking.uri, and no such path",
    }.items():
        (dataset / FILE).unlink(missing_ok=True)
        assert part in message(config_of(store, teacher=text), splits, dataset)


def test_a_registered_teacher_of_other_classes_is_refused_with_both_lists(
    final: FinalModel, splits: Splits, dataset: Path, store: str
) -> None:
    reversed_ = tuple(reversed(splits.info.classes))
    version = registered(final, splits, store, classes=reversed_)
    found = message(config_of(store, teacher=f"net/{version}"), splits, dataset)
    assert "has the same classes in another order: the teacher [9, 8, 7," in found
    assert "the data [0, 1, 2," in found


def test_folders_of_final_and_exported_models_are_teachers(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    final.save(tmp_path / "final")
    write_model(tmp_path / "exported", final, splits.info, config_of())
    for name in ("final", "exported"):
        config, _ = check(config_of(teacher=str(tmp_path / name)), splits, dataset)
        found = asked(config, splits, dataset)
        assert torch.allclose(found, expected(final, splits), atol=1e-3), name


def test_an_exported_program_is_a_teacher_with_its_classes_next_to_it(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    model = DeployedModel(final.network, splits.info).eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    config = config_of(teacher=str(tmp_path / "net.pt2"))
    assert "there is neither MLmodel nor genotype.json next to it" in message(
        config, splits, dataset
    )
    write_model(tmp_path, final, splits.info, config)
    found, _ = check(config, splits, dataset)
    assert torch.allclose(asked(found, splits, dataset), expected(final, splits), atol=1e-4)


def with_code(program: Path, marker: Path) -> None:
    """Replace the first weight of a program by a pickle that makes a file."""
    content = io.BytesIO()
    torch.save(RunsCode(marker), content)
    with zipfile.ZipFile(program) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in records if name.endswith("data/weights/model_weights_config.json"))
    described = json.loads(records[name])
    weight = next(iter(described["config"].values()))
    weight["use_pickle"] = True
    records[name] = json.dumps(described).encode()
    records[f"{name.rpartition('/')[0]}/{weight['path_name']}"] = content.getvalue()
    with zipfile.ZipFile(program, "w") as archive:
        for record, data in records.items():
            archive.writestr(record, data)


def test_a_program_with_pickled_code_is_refused_and_the_code_does_not_run(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    write_model(tmp_path, final, splits.info, config_of())
    path = tmp_path / "net.pt2"
    model = DeployedModel(final.network, splits.info).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(2, 1, 8, 8),)), path)
    with_code(path, tmp_path / "ran")
    found = message(config_of(teacher=str(path)), splits, dataset)
    assert "cannot be loaded: Deserializing model using pickle is disallowed" in found
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(Exception):  # of torch, which gets a number in place of a weight
        torch.export.load(path)
    assert (tmp_path / "ran").exists(), "torch alone runs it"


@pytest.mark.parametrize("file", ["model.json", "weights.pt"])
def test_a_damaged_folder_is_refused(
    file: str, final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    final.save(tmp_path / "final")
    path = tmp_path / "final" / file
    path.write_bytes(path.read_bytes()[:-20])
    config = config_of(teacher=str(tmp_path / "final"))
    assert "is damaged, or of another version (" in message(config, splits, dataset)
    shutil.rmtree(tmp_path / "final")
    (tmp_path / "final").mkdir()
    found = message(config, splits, dataset)
    assert "contains none of model.json, genotype.json, ensemble.json, MLmodel" in found


def test_the_final_network_learns_from_its_teacher(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    final.save(tmp_path / "final")
    config = config_of(teacher=str(tmp_path / "final"), teacher_weight=1.0)
    config, _ = check(config, splits, dataset)
    context = context_of(config, splits, tmp_path)
    taught = with_transfer(context, config, dataset, state=tmp_path / "s", say=print)
    with_teacher = train_from_scratch(taught, result_of(context))
    without = train_from_scratch(context, result_of(context))
    assert with_teacher.transfer["teacher"] == {
        "name": str(tmp_path / "final"),
        "identity": sha256_of(tmp_path / "final" / "weights.pt"),
        "num_classes": 10,
        "weight": 1.0,
        "temperature": 4.0,
    }
    assert without.transfer == {}
    same = [
        torch.equal(value, without.network.state_dict()[name])
        for name, value in with_teacher.network.state_dict().items()
        if name.endswith("weight")
    ]
    assert not any(same)
