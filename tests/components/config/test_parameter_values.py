"""Parameters of a run, laid over the configuration with which its pipeline was compiled."""

import inspect

import pytest

from components.config.parameter_values import resolve
from components.config.parameters import NAMES, PARAMETERS, split_settings
from components.config.schema import dumps, parse
from nascore.errors import InputError
from nascore.methods.registry import METHODS
from pipelines.config import resolve as resolve_layers

COMPILED = dumps(resolve_layers(None, None, ["seed=3", "data.source=npz:mine.npz"]))


def refused(compiled: str = COMPILED, **values: str) -> list[str]:
    with pytest.raises(InputError) as error:
        resolve(compiled, values)
    return [str(problem) for problem in error.value.problems]


def test_no_parameter_changes_nothing() -> None:
    assert dumps(resolve(COMPILED, {})) == COMPILED
    assert dumps(resolve(COMPILED, dict.fromkeys(NAMES, " "))) == COMPILED


def test_each_parameter_is_its_setting() -> None:
    found = resolve(
        COMPILED,
        {
            "data": "imagefolder:s3://bucket/a: b",
            "budget": "2h",
            "workers": "2",
            "seed": " 7 ",
            "objective": "macro_f1",
            "image_size": "32",
            "model": "12",
            "experiment": "team",
            "min_gain": "0.01",
            "settings": "search.storage=env:NAS_STUDY_URL\ntrain.epochs=3 training.flip=true",
        },
    )
    assert found.data.source == "imagefolder:s3://bucket/a: b"
    assert (found.search.budget.seconds, found.search.workers, found.seed) == (7200, 2, 7)
    assert (found.search.objective, found.data.image_size) == ("macro_f1", 32)
    assert (found.registry.model, found.tracking.experiment) == ("12", "team")
    assert found.promote.min_gain == 0.01
    assert (found.search.storage, found.train.epochs) == ("env:NAS_STUDY_URL", 3)
    assert found.training.flip


@pytest.mark.parametrize("method", METHODS)
def test_any_method_can_be_chosen(method: str) -> None:
    """The preset of the method comes with it; what was compiled above the preset stays."""
    found = resolve(COMPILED, {"method": method})
    assert found == resolve_layers(
        None, None, [f"method={method}", "seed=3", "data.source=npz:mine.npz"]
    )


def test_another_method_keeps_the_space_that_both_search_in() -> None:
    settings = ["search.space.num_stages=1", "search.budget=8 children"]
    compiled = dumps(resolve_layers(None, None, settings))
    found = resolve(compiled, {"method": "random"})
    assert found == resolve_layers(None, None, [*settings, "method=random"])
    assert resolve(compiled, {"method": "nasib", "budget": "10 steps"}).search.budget.steps == 10


def test_every_problem_is_named_by_its_parameter() -> None:
    told = refused(budget="30x", workers="two", method="nasip", settings="sede=1 train.lr=fast")
    assert [line.partition(":")[0] for line in sorted(told)] == [
        "budget = 30x (pipeline parameter)",
        "method = nasip (pipeline parameter)",
        "sede = 1 (in pipeline parameter settings)",
        "train.lr = 'fast' (in pipeline parameter settings)",
        "workers = two (pipeline parameter)",
    ]
    assert "write 30m, 2h, 90s, 64 children" in " ".join(told)


def test_a_part_of_a_parameters_value_is_named_by_it_too() -> None:
    assert refused(budget="0 children")[0].startswith("budget = 0 children (pipeline parameter): ")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"seed": "1", "settings": "seed=2"},
            "seed = 1 (pipeline parameter): contradicts settings seed=2; give one of them",
        ),
        (
            {"budget": "30m", "settings": "search.budget.children=4"},
            "budget = 30m (pipeline parameter): contradicts settings search.budget.children=4; "
            "give one of them",
        ),
    ],
)
def test_a_parameter_and_another_value_among_the_settings_are_refused(
    values: dict[str, str], problem: str
) -> None:
    assert refused(**values) == [problem]
    assert resolve(COMPILED, {"seed": "1", "settings": "seed=1"}).seed == 1


def test_what_is_compiled_into_the_pods_is_no_setting_of_a_run() -> None:
    (told,) = refused(settings="cluster.steps.search.gpus=1")
    assert told.startswith("cluster.steps.search.gpus = 1 (in pipeline parameter settings): is com")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", []),
        ("seed=1\n\n  train.lr=0.1  \n", ["seed=1", "train.lr=0.1"]),
        (
            "search.budget=8 children seed=3",  # KFP's form has a single line
            ["search.budget=8 children", "seed=3"],
        ),
        ("data.source='npz:a b=c.npz' seed=1", ["data.source='npz:a b=c.npz'", "seed=1"]),
        ("search.space={name: chain} seed=1", ["search.space={name: chain}", "seed=1"]),
        ("hello seed=1", ["hello", "seed=1"]),
        ("seed", ["seed"]),
    ],
)
def test_settings_are_split_at_lines_and_where_the_next_one_begins(
    text: str, settings: list[str]
) -> None:
    assert split_settings(text) == settings


def test_text_that_is_no_setting_is_refused() -> None:
    assert "write key.path=value" in refused(settings="8 children")[0]


def test_the_line_that_is_no_setting_is_named() -> None:
    (problem,) = refused(settings="train.epochs=3\nfoo")
    assert "foo" in problem
    assert "train.epochs" not in problem


@pytest.mark.parametrize(
    "setting",
    ["tracking.uri=https://u:sEcr3tpw@host/", "search.storage=postgresql://u:sEcr3tpw@host/db"],
)
def test_a_password_in_a_parameter_is_refused_and_not_shown(setting: str) -> None:
    (problem,) = refused(settings=setting)
    assert setting.partition("=")[0] in problem
    assert "password" in problem
    assert "sEcr3tpw" not in problem


def test_the_table_has_settings_that_exist() -> None:
    known = parse({}).model_dump()
    for one in PARAMETERS:
        group = known
        for name in one.key.split("."):
            assert name in group, one.key
            group = group[name]
        assert inspect.cleandoc(one.description) == one.description
