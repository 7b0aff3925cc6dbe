"""Configurations as users write them: files of other programs, quantities, addresses, folders."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field_cli import CLUSTER, nas, refused
from field_commands import TINY
from field_commands import nas as process
from PIL import Image

from components.config.schema import parse
from pipelines.config import resolve
from pipelines.doctor.service_checks import check_data, check_tracking

pytestmark = pytest.mark.usefixtures("folder")

Field = Callable[..., None]


# --- values that are refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "setting", "message"),
    [
        ("4", "tracking.experiment=2026", 'must be text; write it in quotes: experiment: "2026"'),
        ("4", "registry.model=5", 'must be text; write it in quotes: model: "5"'),
        (
            "5",
            "cluster.steps.search.memory=16",
            "is less than 1Mi; write a number and a unit, such as 16Gi (2^30 bytes) or 16GB "
            "(10^9 bytes)",
        ),
        (
            "5",
            "cluster.image_pull_secrets=regcred",
            "must be a list; write image_pull_secrets: [regcred]",
        ),
        ("5", "registry.model=a/b", "write a name such as flowers-v2"),
        ("", "data.source=[npz:a.npz]", "must be one text, not a list; write source: npz:a.npz"),
        ("", "data.image_size=32x32", "must be a whole number of pixels; write image_size: 32"),
        ("", "data.memory_limit_mb=16GB", "a whole number of megabytes; write memory_limit_mb: 16"),
        ("6", "search.budget.children=1e30", "is too large; must be a whole number"),
        ("6", "search.budget.children=1.5", "must be a whole number; write children: 2"),
        (
            "7",
            "seed=010",
            '010 is octal in YAML, which is 8; write 10, or "010" in quotes if it is a text',
        ),
        ("7", "retrain.max_age_days=1:30", "1:30 is a number to base 60 in YAML; write 90, or"),
        ("8", "tracking.uri=localhost:5000", "use sqlite:///FILE or the http(s) address of a"),
        ("8", "tracking.uri=mlflow.example.org:5000", "use sqlite:///FILE or the http(s) address"),
        ("8", "tracking.uri=databricks", "Databricks has its own accounts and registry, which are"),
        ("8", "tracking.uri=${MLFLOW_TRACKING_URI}", "use sqlite:///FILE or the http(s) address"),
        ("14", f"tracking.experiment={'x' * 600}", "must have at most 500 characters; write exper"),
        ("25", "data.source=npz:gs://data/x.npz", "and write npz:s3://data/x.npz"),
        ("25", "data.source=npz:s3a://data/x.npz", "is not supported; write npz:s3://data/x.npz"),
        ("25", "data.source=npz:S3://data/x.npz", "is not supported; write npz:s3://data/x.npz"),
        ("25", "data.source=npz:file:///x.npz", "file:// is not supported; write npz:/x.npz"),
        ("25", "data.source=npz:https://h/x.npz", "https:// is not supported; copy the files, and"),
        ("25", "data.source=npz:wasbs://c@a/x.npz", "is not supported; copy the files, and write"),
        ("25", "data.source=s3://data/x.npz", "does not say what is there; write 'npz:s3://data"),
        ("", "search.storage=redis://h/0", "write postgresql://HOST/NAME or sqlite:///FILE"),
    ],
)
def test_a_value_that_is_refused(field: Field, line: str, setting: str, message: str) -> None:
    key = setting.partition("=")[0]
    run = refused("run", f"--set={setting}")
    assert run.startswith(f"{key} = ")
    assert message in run
    if key == "tracking.uri" or message.startswith("does not say"):  # the value is well-formed
        check = check_tracking if key == "tracking.uri" else check_data
        found = check(resolve(None, None, [setting]))
        assert message in found.advice
        doctor = f"{found.state} {found.name}: {found.advice}"
    else:
        assert refused("doctor", f"--set={setting}") == run
        doctor = "exit 2: the same message"
    field(
        area="configuration",
        line=line,
        trouble=setting if len(setting) < 80 else f"{key} of 600 characters",
        doctor=doctor if len(doctor) < 400 else f"{doctor[:390]}...",
        run=f"exit 2: {run}",
    )


@pytest.mark.parametrize(
    ("trouble", "content", "message"),
    [
        ("UTF-16, as PowerShell writes", "seed: 1\n".encode("utf-16"), "is UTF-16 text; save it"),
        ("UTF-16 without a mark", "seed: 1\n".encode("utf-16-le"), "is UTF-16 text; save it as"),
        ("Latin-1", "a: ü\n".encode("latin-1"), "is not UTF-8 text (byte 0xfc in line 1); save"),
        ("a key twice", b"seed: 1\nseed: 2\n", "'seed' is given twice (first in line 1), in line"),
        ("a tab", b"data:\n\tsource: digits\n", "indent with spaces instead of tabs"),
        ("two documents", b"seed: 1\n---\nseed: 2\n", "remove the line --- between the documents"),
        (
            "experiment: NO",
            b"tracking: {experiment: NO}\n",
            'write a text in quotes: experiment: "',
        ),
        ("model: 2026-01-02", b"registry: {model: 2026-01-02}\n", 'quotes: model: "2026-01-02"'),
    ],
)
def test_a_file_that_is_refused(
    field: Field, folder: Path, trouble: str, content: bytes, message: str
) -> None:
    (folder / "my.yaml").write_bytes(content)
    run = refused("run", "my.yaml")
    assert message in run
    assert refused("doctor", "my.yaml") == run
    field(
        area="configuration",
        line="3",
        trouble=f"a file with {trouble}" if " " not in trouble[:3] else trouble,
        doctor="exit 2: the same message",
        run=f"exit 2: {run}",
    )


# --- values that are accepted -------------------------------------------------------------------


def value_of(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    return config


@pytest.mark.parametrize(
    ("line", "text", "key", "value"),
    [
        ("1", "\ufeffseed: 8.0\r\n", "seed", 8),
        ("1", 'seed: "8"\n', "seed", 8),
        ("1", "training: {flip: off}\n", "training.flip", False),
        ("1", "train: &a {lr: 0.2}\nsearch: {child: {<<: *a}}\n", "search.child.lr", 0.2),
        ("1", "tracking: {experiment: \u00a0nas }\n", "tracking.experiment", "\u00a0nas"),
        ("1", "", "seed", 0),
        ("2", "train: {lr: 1e-1}\n", "train.lr", 0.1),
        ("2", "training: {min_lr: 1e-3}\n", "training.min_lr", 0.001),
        ("4", "cluster: {steps: {search: {cpu: 4}}}\n", "cluster.steps.search.cpu", "4"),
        ("5", "cluster: {steps: {search: {memory: 16GB}}}\n", "cluster.steps.search.memory", "16G"),
        ("5", "cluster: {steps: {search: {memory: 16gb}}}\n", "cluster.steps.search.memory", "16G"),
        ("6", "search: {budget: {children: 1e1}}\n", "search.budget.children", 10),
        ("6", "search: {budget: {steps: 1e3}}\n", "search.budget.steps", 1000),
        ("38", "search: {storage: postgres://h/d}\n", "search.storage", "postgresql://h/d"),
    ],
)
def test_a_value_that_is_accepted(
    field: Field, folder: Path, line: str, text: str, key: str, value: object
) -> None:
    (folder / "my.yaml").write_bytes(text.encode())
    config = resolve(folder / "my.yaml", None, ())
    assert value_of(config, key) == value
    status, _, err = nas("compile", *CLUSTER, "my.yaml", "-o", "p.yaml")
    assert status == 0, err
    trouble = " ".join(text.split()) or "an empty file"
    field(
        area="configuration",
        line=line,
        trouble=trouble.replace("\ufeff", "(byte order mark, CRLF) "),
        run=f"nas compile: exit 0, {key} = {value!r}",
    )


def test_a_port_that_is_taken(field: Field, folder: Path) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        shown = refused("ui", f"--port={taken.getsockname()[1]}")
    assert "is taken by another program; end that program, or choose another port" in shown
    field(
        area="configuration",
        line="71",
        trouble="nas ui on a port that is taken",
        run="exit 2: --port is taken by another program; end that program, or choose another port",
    )


# --- folders ------------------------------------------------------------------------------------


def test_files_of_a_notebook_server_in_a_class(field: Field, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "img" / name).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "img" / name / f"{number}.png")
    hidden = folder / "img" / "cat" / ".ipynb_checkpoints"
    hidden.mkdir()
    shutil.copy(folder / "img" / "cat" / "0.png", hidden / "0-checkpoint.png")
    assert check_data(parse({"data": {"source": "imagefolder:img"}})).state == "ok"
    status, out, err = nas("check-data", "imagefolder:img", "--json")
    assert status == 0, err
    assert json.loads(out)["num_images"] == 60
    (warning,) = [one for one in json.loads(out)["warnings"] if one["kind"] == "skipped-files"]
    field(
        area="configuration",
        line="24",
        trouble=".ipynb_checkpoints in the folder of a class",
        doctor="ok data",
        run=f"exit 0, nas check-data: {warning['message']}",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["100% of C#", "a?b", "фото dir"])
def test_a_folder_whose_name_reads_as_a_part_of_an_address(
    field: Field, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (folder / name).mkdir()
    monkeypatch.chdir(folder / name)
    assert check_tracking(parse({})).state == "ok"
    run = process("run", "--out", "r1", folder=folder / name, settings=TINY)
    assert run.status == 0, run.err
    assert (folder / name / "runs" / "mlflow.db").is_file()
    outside = [path for path in folder.rglob("*") if folder / name not in path.parents]
    assert not any(path.is_file() for path in outside), outside
    field(
        area="configuration",
        line="80",
        trouble=f"the current folder is called {name}",
        doctor="ok tracking",
        run="exit 0, the model is registered",
    )


@pytest.mark.slow
def test_a_folder_whose_name_mlflow_reads_as_another(
    field: Field, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder / "My%20Project"
    here.mkdir()
    monkeypatch.chdir(here)
    shown = refused("run")
    assert "rename the folder, or name another store" in shown
    finding = check_tracking(parse({}))
    assert finding.state == "problem"
    assert finding.advice in shown
    elsewhere = f"tracking.uri=sqlite:///{folder}/mlflow.db"
    run = process("run", "--out", "r1", folder=here, settings=(*TINY, elsewhere))
    assert run.status == 0, run.err
    field(
        area="configuration",
        line="78",
        trouble="the current folder is called My%20Project",
        doctor="problem tracking: MLflow reads %20 and the like in the name of a folder as other "
        "characters; rename the folder, or name another store",
        run="exit 2: the same message; with a store elsewhere: exit 0, the model is registered",
    )
