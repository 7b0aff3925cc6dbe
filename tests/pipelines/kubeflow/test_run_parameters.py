"""What of the settings of a run is compiled, what is a parameter, and what the run is called."""

from pathlib import Path

import pytest

from components.config.parameter_values import resolve as with_parameters
from components.config.schema import dumps
from pipelines.config import resolve
from pipelines.kubeflow.run_names import name_of_run
from pipelines.kubeflow.run_parameters import RunSettings, all_as_parameters, divide

STUDY = ("search.storage=env:URL", "cluster.secrets.URL=nas/url")


def divided(*settings: str, preset: str | None = None, file: Path | None = None) -> RunSettings:
    """What is compiled and what is given give together what the command line says."""
    whole = resolve(file, preset, settings)
    found = divide("search", whole, file=file, preset=preset, settings=settings)
    assert with_parameters(dumps(found.compiled), found.parameters) == whole
    return found


def test_settings_of_parameters_do_not_change_what_is_compiled() -> None:
    plain = divided().compiled
    for settings, parameters in (
        (("method=random", "seed=7"), {"method": "random", "seed": "7"}),
        (('search.budget="30m"',), {"budget": "30m"}),
        (("data.source=npz:a b.npz", "seed=1", "seed=2"), {"data": "npz:a b.npz", "seed": "2"}),
        (("promote.min_gain=0.01", "registry.model=f-2"), {"min_gain": "0.01", "model": "f-2"}),
    ):
        found = divided(*settings)
        assert found.compiled == plain
        assert found.parameters == parameters


def test_the_pods_are_compiled() -> None:
    found = divided("search.workers=3", "seed=1", *STUDY)
    assert found.compiled.search.workers == 3
    assert found.compiled.seed == 0
    assert found.parameters == {"workers": "3", "seed": "1"}


def test_a_method_with_another_preset_is_compiled_in() -> None:
    """A method that comes as a parameter brings its preset `quick`."""
    found = divided("method=memory-enas", "seed=7", preset="paper")
    assert (found.compiled.method, found.compiled.seed) == ("memory-enas", 0)
    assert found.parameters == {"method": "memory-enas", "seed": "7"}


def test_a_setting_that_only_one_method_has_is_compiled_with_it() -> None:
    found = divided("method=memory-enas", "search.options.memory.capacity=300", "seed=7")
    assert (found.compiled.method, found.compiled.seed) == ("memory-enas", 0)


def test_a_budget_that_is_no_text_is_compiled_in() -> None:
    found = divided("search.budget={children: 4}", "seed=7")
    assert found.compiled.search.budget.children == 4
    assert found.parameters == {"seed": "7"}
    assert divided("search.budget.children=4").parameters == {}


def test_a_file_is_compiled_in(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("seed: 3\ndata: {source: 'npz:mine.npz'}\n")
    found = divided("seed=7", file=tmp_path / "my.yaml")
    assert (found.compiled.seed, found.compiled.data.source) == (3, "npz:mine.npz")
    assert found.parameters == {"seed": "7"}


def test_all_settings_can_be_parameters() -> None:
    given = all_as_parameters(["seed=1", "train.epochs=3", "data.classes=[a, b]"])
    assert given == {"seed": "1", "settings": "train.epochs=3\ndata.classes=[a, b]"}


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (
            ("data.source=imagefolder:s3://bucket/2026/flowers", "search.budget=30m"),
            "nases on flowers, 30 min",
        ),
        (("method=random", "search.budget=1 child"), "random on digits, 1 child"),
        (("search.budget=2h",), "nases on digits, 2 h"),
        (("search.budget=90 s",), "nases on digits, 90 s"),
        (("search.budget=0.5 gpu-hours",), "nases on digits, 0.5 GPU-hours"),
        (
            ("data.source=npz:/data/my flowers.npz", "search.budget=64 children"),
            "nases on my-flowers, 64 children",
        ),
    ],
)
def test_a_run_is_called_by_what_it_does(settings: tuple[str, ...], name: str) -> None:
    assert name_of_run("search", resolve(None, None, settings)) == name


def test_a_retraining_is_called_by_its_model() -> None:
    settings = ("data.source=npz:s3://b/new.npz", "search.budget=1h")
    plain = resolve(None, None, settings)
    assert name_of_run("retrain", plain) == "retrain on new, 1 h"
    named = resolve(None, None, (*settings, "registry.model=flowers-v2"))
    assert name_of_run("retrain", named) == "retrain flowers-v2 on new, 1 h"


@pytest.mark.parametrize(
    "source",
    [
        "npz:https://bucket.example.org/flowers.npz?X-Amz-Signature=c0ffee&X-Amz-Credential=AKIA1",
        "imagefolder:https://me:hunter2@example.org/flowers#c0ffee",
    ],
)
def test_a_name_never_holds_a_signature(source: str) -> None:
    config = resolve(None, None, ())
    data = config.data.model_copy(update={"source": source})
    name = name_of_run("search", config.model_copy(update={"data": data}))
    assert name.startswith("nases on flowers, ")
    for secret in ("c0ffee", "AKIA1", "hunter2", "X-Amz"):
        assert secret not in name
