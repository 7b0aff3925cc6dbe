"""Teachers of a run: checked by the first step, read again before the final training.

Models are registered in a real MLflow store.
"""

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from transfer_runs import (
    asked,
    check,
    config_of,
    context_of,
    expected,
    message,
    result_of,
    with_code,
)

from components.export.weights import write_model
from components.registry import model_registry
from components.registry.model_metadata import metadata_of
from components.steps.transfer import FILE, with_transfer
from nascore.data.batches import Splits
from nascore.files import sha256_of
from nascore.training.final_model import DeployedModel, FinalModel, train_from_scratch


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


def test_a_registry_that_does_not_exist_is_not_made(
    splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    config = config_of(f"sqlite:///{tmp_path}/new/mlflow.db", teacher="net")
    assert "there is no registered model net" in message(config, splits, dataset)
    assert not (tmp_path / "new").exists()


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
