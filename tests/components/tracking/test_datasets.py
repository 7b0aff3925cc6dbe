"""Dataset inputs: what MLflow's UI and client read of them, and that no source has a secret."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow.data
import pytest
from mlflow.entities import Dataset
from mlflow.types import Schema

from components.tracking.datasets import data_name, digest_of, inputs_of
from nascore.data.prepared import DatasetInfo


@pytest.fixture
def info() -> DatasetInfo:
    return DatasetInfo(
        source="digits",
        classes=("cat", "dog"),
        channels=3,
        size=16,
        num_images=10,
        num_train=6,
        num_valid=3,
        num_test=1,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        data_sha256="a" * 64,
        split_sha256="b" * 64,
        class_counts={"train": [4, 2], "valid": [2, 1], "test": [0, 1]},
        seed=0,
        streamed=False,
    )


def test_each_split_is_an_input_with_the_context_that_mlflow_names(info: DatasetInfo):
    inputs = inputs_of(info)
    assert [one["context"] for one in inputs] == ["train", "validation", "test"]
    assert {one["name"] for one in inputs} == {"digits"}
    assert len({one["digest"] for one in inputs}) == 3, "MLflow keeps one of those that are equal"
    assert [json.loads(one["profile"])["num_images"] for one in inputs] == [6, 3, 1]
    assert json.loads(inputs[0]["profile"])["class_counts"] == {"cat": 4, "dog": 2}
    assert [one["context"] for one in inputs_of(info, ("test",))] == ["test"]


def test_a_digest_changes_with_the_data_and_with_the_split_of_it(info: DatasetInfo):
    digest = digest_of(info, "train")
    assert digest == digest_of(replace(info, source="npz:/copy/of/digits.npz"), "train")
    assert digest != digest_of(replace(info, data_sha256="c" * 64), "train")
    assert digest != digest_of(replace(info, split_sha256="c" * 64), "train")


def test_the_schema_is_one_that_mlflow_reads(info: DatasetInfo):
    schema = json.loads(inputs_of(info)[0]["schema"])
    features = Schema.from_json(schema["mlflow_tensorspec"]["features"])
    assert (features.inputs[0].type, features.inputs[0].shape) == ("uint8", (-1, 3, 16, 16))
    assert Schema.from_json(schema["mlflow_tensorspec"]["targets"]).inputs[0].type == "int64"
    assert schema["classes"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("source", "kind", "uri", "name"),
    [
        ("digits", "code", "digits", "digits"),
        ("npz:/data/flowers.npz", "local", "/data/flowers.npz", "flowers"),
        ("imagefolder:s3://bucket/flowers/", "s3", "s3://bucket/flowers/", "flowers"),
        ("npz:s3://bucket/flowers.npz", "s3", "s3://bucket/flowers.npz", "flowers"),
    ],
)
def test_mlflow_resolves_the_source(info: DatasetInfo, source: str, kind: str, uri: str, name: str):
    made = inputs_of(replace(info, source=source))[0]
    assert (made["source_type"], json.loads(made["source"])["uri"]) == (kind, uri)
    assert made["name"] == data_name(source) == name
    fields = {key: value for key, value in made.items() if key != "context"}
    assert mlflow.data.get_source(Dataset(**fields))._get_source_type() == kind


def test_a_relative_path_is_made_absolute(info: DatasetInfo):
    made = inputs_of(replace(info, source="imagefolder:photos"))[0]
    assert json.loads(made["source"])["uri"] == str(Path("photos").absolute())


@pytest.mark.parametrize(
    "source",
    [
        "imagefolder:https://host/flowers.zip?X-Amz-Signature=s3cr3t&X-Amz-Credential=s3cr3t",
        "imagefolder:https://host/flowers.zip?token=s3cr3t#s3cr3t",
        "imagefolder:https://me:s3cr3t@host/flowers.zip",
        "npz:s3://key:s3cr3t@bucket/flowers.npz",
        "npz:s3://key:[s3cr3t@bucket/flowers.npz?sig=s3cr3t",
    ],
)
def test_no_secret_of_a_source_is_logged(info: DatasetInfo, source: str):
    made = inputs_of(replace(info, source=source))
    assert "s3cr3t" not in json.dumps(made)
    assert made[0]["name"] == "flowers"
