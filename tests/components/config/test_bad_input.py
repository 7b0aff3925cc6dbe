"""Values as people write them: converted, or refused with a form to copy."""

import itertools
import json
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from components.config.merge import layer_of, read_mapping
from components.config.model_tree import models_in
from components.config.schema import config_class, dumps, loads, parse
from components.config.validation import validate
from nascore.config import Section
from nascore.errors import InputError, Problem
from nascore.methods.registry import METHODS


def refused(setting: str) -> Problem:
    """Return the only problem of one `--set`."""
    layer, malformed = layer_of([setting])
    assert malformed == []
    with pytest.raises(InputError) as caught:
        parse(layer)
    (problem,) = caught.value.problems
    return problem


def read(setting: str) -> Any:
    """Return the value of a setting in the JSON of the configuration that has it."""
    layer, malformed = layer_of([setting])
    assert malformed == []
    config = parse(layer)
    assert loads(dumps(config)) == config
    value: Any = json.loads(dumps(config))
    for part in setting.partition("=")[0].split("."):
        value = value[part]
    return value


# --- accepted -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("4", "4"),
        ('"4"', "4"),
        ("4.0", "4"),
        ("0.5", "500m"),
        ("2.5", "2500m"),
        ("500m", "500m"),
        ("2000m", "2"),
        ("1e1", "10"),
    ],
)
def test_processors_are_converted_to_kubernetes_notation(written: str, read_as: str) -> None:
    assert read(f"cluster.steps={{search: {{cpu: {written}}}}}")["search"]["cpu"] == read_as


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("16Gi", "16Gi"),
        ("16384Mi", "16384Mi"),
        ("16GB", "16G"),
        ("16gb", "16G"),
        ("16g", "16G"),
        ("16 GB", "16G"),
        ("16 GiB", "16Gi"),
        ("16gib", "16Gi"),
        ("1.5Gi", "1536Mi"),
        ("1.5GB", "1500M"),
        ("512mb", "512M"),
        ("0.5 TiB", "512Gi"),
        ("8000000KB", "8000000000"),  # kfp takes K, and Kubernetes k
        ("8388608Ki", "8589934592"),
        ("17179869184", "17179869184"),
        ("16e9", "16000000000"),
    ],
)
@pytest.mark.parametrize("key", ["cluster.steps.search.memory", "cluster.shared_memory"])
def test_memory_is_converted_to_kubernetes_notation(key: str, written: str, read_as: str) -> None:
    assert read(f"{key}={written}") == read_as


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("search.budget.children=1e3", 1000),
        ("search.budget.steps=1000.0", 1000),
        ("train.epochs=1.2e1", 12),
        ("train.max_steps=5E3", 5000),
        ("data.max_train=1e+4", 10_000),
        ("seed=1e3", 1000),
        ("train.lr=1e-2", 0.01),
        ("registry.model=1e3", "1e3"),
        ("search.storage=postgres://db/nas", "postgresql://db/nas"),
        ("search.storage=postgres+psycopg://db/nas", "postgresql+psycopg://db/nas"),
        ("search.storage=env:NAS_STUDY_URL", "env:NAS_STUDY_URL"),
        ("tracking.uri=postgres://db/mlflow", "postgresql://db/mlflow"),
        ("tracking.uri=HTTPS://mlflow.example.org", "https://mlflow.example.org"),
        ("data.source=npz:s3://bucket/x.npz", "npz:s3://bucket/x.npz"),
        ("promote.export_to=s3://bucket/out", "s3://bucket/out"),
    ],
)
def test_a_usual_form_is_accepted(setting: str, value: Any) -> None:
    assert read(setting) == value


def test_a_budget_in_a_text_may_have_an_exponent() -> None:
    layer, _ = layer_of(["search.budget=1e3 children"])
    assert parse(layer).search.budget.children == 1000


# --- refused --------------------------------------------------------------------------------

_GOOGLE = "Google Cloud Storage has an S3 API (https://storage.googleapis.com)"
_MEMORY = "cluster.steps.search.memory"
_CPU = "cluster.steps.search.cpu"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        # quantities
        (f"{_CPU}=four", "is not a number of processors; write a number such as 4 or 0.5"),
        (f"{_CPU}=0", "must be at least 0.001"),
        (f"{_CPU}=-1", "is not a number of processors"),
        (f"{_CPU}=yes", "is not a number of processors; write a number such as 4"),
        (f"{_CPU}=[4]", "is not a number of processors; write a number such as 4"),
        (f"{_CPU}=0.0001", "must be at least 0.001"),
        (f"{_MEMORY}=16", "is less than 1Mi; write a number and a unit, such as 16Gi"),
        (f"{_MEMORY}=16m", "is in thousandths of a byte for Kubernetes; write a number and a unit"),
        (f"{_MEMORY}=lots", "is not an amount of memory; write a number and a unit, such as 16Gi"),
        (f"{_MEMORY}='16,5GB'", "is not an amount of memory"),
        (f"{_MEMORY}=.nan", "is not an amount of memory"),
        ("cluster.shared_memory=on", "is not an amount of memory"),
        # numbers
        ("search.budget.children=many", "a whole number; write a value such as children: 4"),
        ("search.budget.children=1.5", "must be a whole number; write children: 2"),
        ("search.budget.children=1.5e0", "must be a whole number; write children: 2"),
        ("search.budget.children=1e30", "is too large; must be a whole number; write a value such"),
        ("search.budget.children=64 children", "must be a whole number; write children: 64"),
        ("search.budget.children='1,000'", "must be a whole number; write children: 1000"),
        ("data.image_size=7x7", "must be a whole number of pixels; write image_size: 7"),
        ("data.image_size=32 x 32", "must be a whole number of pixels; write image_size: 32"),
        ("data.image_size=[32, 32]", "one whole number, not a list; write image_size: 32"),
        ("data.image_size=[32, 16]", "not a list; write a value such as image_size: 32"),
        ("data.image_size=32px", "must be a whole number of pixels; write image_size: 32"),
        ("data.image_size=2x2", "write a value such as image_size: 32"),
        ("data.valid_fraction=15%", "must be a number; write valid_fraction: 0.15"),
        ("data.valid_fraction=15", "must be less than 1; write valid_fraction: 0.15 for 15 %"),
        ("data.valid_fraction='15'", "must be less than 1"),
        ("data.cache_mb=16Gi", "whole number of megabytes; write cache_mb: 16384"),
        ("train.lr='0,1'", "must be a number; write lr: 0.1"),
        ("search.budget.children=[8]", "must be one whole number, not a list; write children: 8"),
        ("search.budget=0 children", "must be above 0; write 30m, 2h, 90s, 64 children"),
        ("search.budget=-5m", "must be above 0; write 30m, 2h, 90s, 64 children"),
        ("search.budget=0", "is no budget; write 30m"),
        ("search.budget=-5", "is no budget; write 30m"),
        (
            "search.budget.seconds=a lot",
            "must be a number of seconds; write a value such as seconds: 3600",
        ),
        ("train.lr=fast", "must be a number; write a value such as lr: 0.05"),
        ("train.lr=[0.1]", "must be one number, not a list; write lr: 0.1"),
        ("data.memory_limit_mb=4GB", "whole number of megabytes; write memory_limit_mb: 4096"),
        ("cluster.steps.search.timeout_s=2h", "of seconds; write timeout_s: 7200"),
        ("search.budget.seconds=1h", "must be a number of seconds; write seconds: 3600"),
        ("retrain.max_age_days=soon", "of days; write a value such as max_age_days: 30"),
        ("promote.confidence=high", "must be a number; write a value such as confidence: 0.95"),
        ("promote.confidence=90%", "must be a number; write confidence: 0.9"),
        ("promote.confidence=40%", "must be a number; write a value such as confidence: 0.95"),
        ("promote.confidence=on", "write a value such as confidence: 0.95, or null for none"),
        (
            "promote.min_gain=[2]",
            "must be one number, not a list; write a value such as min_gain: 0",
        ),
        ("search.cost.limit=5k", "must be a number; write limit: 5000"),
        ("search.cost.limit=1.5M", "must be a number; write limit: 1500000"),
        ("search.worker_timeout_s=2s", "write a value such as worker_timeout_s: 60"),
        ("retrain.max_age_days=2 weeks", "must be a number of days; write max_age_days: 14"),
        ("cluster.run_as_user=root", "a whole number; write a value such as run_as_user: 10001"),
        ("cluster.node_selector=gpu=a100", 'group of keys; write node_selector: {gpu: "a100"}'),
        # yes and no
        ("search.budget.children=yes", "must not be yes or no; write a value such as children: 4"),
        ("train.lr=on", "must not be yes or no; write a value such as lr: 0.05"),
        ("tracking.experiment=on", 'write a text in quotes: experiment: "on"'),
        ("search.control=maybe", "must be true or false; write control: true"),
        # text and lists
        ("tracking.experiment=2026", 'must be text; write it in quotes: experiment: "2026"'),
        ("registry.model=5", 'must be text; write it in quotes: model: "5"'),
        ("data.source=[npz:a.npz]", "must be one text, not a list; write source: npz:a.npz"),
        ("data.source={npz: a.npz}", "must be text, not a group of keys; write source: npz:"),
        ("tracking.experiment=''", "must be text, not empty; write experiment: flowers"),
        (f"tracking.experiment={'x' * 501}", "must have at most 500 characters; write exper"),
        ("tracking.experiment=null", "must be text, not empty; write experiment: flowers"),
        (
            "cluster.image_pull_secrets=regcred",
            "must be a list; write image_pull_secrets: [regcred]",
        ),
        (
            "cluster.image_pull_secrets='a, b'",
            "must be a list; write image_pull_secrets: [a, b]",
        ),
        ("cluster.tolerations={key: gpu}", "must be a list; write tolerations: [{KEY: VALUE}]"),
        # forms that a regular expression described
        ("registry.model=a/b", "is not a name of a model: letters, digits, spaces, '.', '-'"),
        ("data.background=mauve", "is not a colour; write white, black, grey, or a code such as"),
        ("cluster.secrets.TOKEN=hunter2", "must be NAME/KEY of a Secret or ConfigMap"),
        ("cluster.secrets.TOKEN=5", "write TOKEN: nas-secrets/KEY"),
        # schemes
        ("data.source=npz:gs://b/x.npz", f"gs:// is not supported; {_GOOGLE}"),
        ("data.source=npz:gs://b/x.npz", "and write npz:s3://b/x.npz"),
        ("data.source=gs://b/x", "and write imagefolder:s3://b/x"),
        ("data.source=npz:s3a://b/x.npz", "s3a:// is not supported; write npz:s3://b/x.npz"),
        ("data.source=npz:S3://b/x.npz", "S3:// is not supported; write npz:s3://b/x.npz"),
        ("data.source=S3A://b/x.npz", "S3A:// is not supported; write npz:s3://b/x.npz"),
        ("data.source=npz:file:///x.npz", "file:// is not supported; write npz:/x.npz"),
        ("data.source=npz:file://localhost/d/x.npz", "write npz:/d/x.npz"),
        ("data.source=file:///data/x", "write imagefolder:/data/x"),
        ("data.source=npz:az://b/x.npz", "az:// is not supported; copy the files, and write npz:"),
        ("data.source=imagefolder:hdfs://n/x", "write imagefolder:s3://BUCKET/KEY or imagefolder:"),
        ("data.source=npz:https://h/x.npz", "https:// is not supported; copy the files, and write"),
        ("data.labels=gs://b/l.csv", f"gs:// is not supported; {_GOOGLE}"),
        ("data.labels=file:///l.csv", "file:// is not supported; write /l.csv"),
        ("data.root=s3://b/cifar", "must be a folder of this machine, not a URI; write a path"),
        ("data.root=file:///cifar", "must be a folder of this machine, not a URI; write a path"),
        ("cluster.state=gs://b/s", "and write s3://b/s"),
        ("cluster.state=file:///s", "write pvc:NAME of a PersistentVolumeClaim"),
        ("promote.export_to=s3a://b/out", "s3a:// is not supported; write s3://b/out"),
        ("promote.export_to=file:///out", "file:// is not supported; write /out"),
        ("promote.export_to=abfss://c@a/out", "abfss:// is not supported; copy the files, and"),
        ("tracking.uri=file:///mlruns", "write sqlite:///FILE, or http://HOST:PORT of a tracking"),
        ("tracking.uri=gs://b/mlruns", "gs:// is not supported; write sqlite:///FILE, or http://"),
        ("search.storage=redis://h/0", "redis:// is not the URL of a database; write postgresql:"),
        ("search.storage=file:///s.db", "write postgresql://HOST/NAME or sqlite:///FILE"),
    ],
)
def test_a_wrong_value_is_refused_with_a_form_to_copy(setting: str, message: str) -> None:
    problem = refused(setting)
    assert problem.key == setting.partition("=")[0]
    assert message in problem.message


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("010", '010 is octal in YAML, which is 8; write 10, or "010" in quotes if it is a text'),
        ("-0_17", "-0_17 is octal in YAML, which is -15; write -17"),
        ("1:30", '1:30 is a number to base 60 in YAML; write 90, or "1:30" in quotes if it is a'),
        ("1:30.5", "1:30.5 is a number to base 60 in YAML; write 90.5"),
    ],
)
def test_a_number_that_yaml_reads_in_another_base_is_refused(written: str, message: str) -> None:
    layer, (problem,) = layer_of([f"seed={written}"])
    assert (layer, problem.key, problem.value) == ({}, "seed", written)
    assert problem.message.startswith(message)
    with pytest.raises(InputError) as caught:
        read_mapping(f"method: random\nseed: {written}\n", "CONFIG", "c.yaml")
    assert str(caught.value).startswith(f"CONFIG = c.yaml: line 2: {message}")


@pytest.mark.parametrize(
    ("written", "value"), [("08", 8), ("0x10", 16), ("0b11", 3), ("1_000", 1000), ('"010"', 10)]
)
def test_a_number_in_another_notation(written: str, value: int) -> None:
    assert read(f"seed={written}") == value


def test_a_standard_network_is_named_once() -> None:
    problem = refused("reference=[resnet18,standard,resnet18]")
    assert str(problem) == (
        "reference = resnet18: names a network twice; write reference: [resnet18, standard]"
    )


def test_a_network_that_torchvision_does_not_have_is_refused_at_once() -> None:
    problem = refused("reference=[resnet19,standard,nothing]")
    assert (problem.key, problem.value) == ("reference", "resnet19, nothing")
    assert problem.message.startswith("resnet19 is no network of torchvision (did you mean resnet")
    assert "; nothing is no network of torchvision; " in problem.message


def test_the_value_of_a_wrong_reference_is_not_shown() -> None:
    assert "hunter2" not in str(refused("cluster.secrets.TOKEN=hunter2"))
    assert "hunter2" not in str(refused("cluster.secrets.TOKEN=[hunter2]"))


@pytest.mark.parametrize("method", list(METHODS))
def test_no_setting_is_described_by_a_regular_expression(method: str) -> None:
    """pydantic would print it, which does not say what to write."""
    found = [key for key, has_pattern in _patterns(config_class(method), "") if has_pattern]
    assert found == []


@pytest.mark.parametrize("method", list(METHODS))
def test_the_example_in_a_message_is_accepted(method: str) -> None:
    """A number is refused, for each setting that is one, with a value that is not refused."""
    examples = 0
    for model in _groups(config_class(method)):
        for name, value in itertools.product(model.model_fields, ("many", "5k", "2%", [9], True)):
            (message, *_) = [*_messages(model, name, value), ""]
            written = re.search(
                rf"(?:must be.*number|must not be yes or no;).*\b{name}: ([^,]+)", message
            )
            if written:
                assert _messages(model, name, yaml.safe_load(written[1])) == [], message
                examples += 1
    assert examples > 100


def _groups(model: type[BaseModel]) -> Iterator[type[Section]]:
    assert issubclass(model, Section)
    yield model
    for field in model.model_fields.values():
        for below in models_in(field.annotation):
            yield from _groups(below)


def _messages(model: type[Section], name: str, value: Any) -> list[str]:
    """Return what is wrong with one setting of a group; comparisons with others are left out."""
    return [one.message for one in validate(model, {name: value}).problems if one.key == name]


def _patterns(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", "pattern=" in repr(field)
        for below in models_in(field.annotation):
            yield from _patterns(below, f"{prefix}{name}.")
        for part in typing.get_args(field.annotation):
            for below in models_in(part):
                yield from _patterns(below, f"{prefix}{name}.")
