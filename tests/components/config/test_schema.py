import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config.merge import apply_overrides, layer_of, merge, read_mapping
from components.config.schema import dumps, loads, parse
from nascore.errors import InputError, Problem
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.methods.base import Method
from nascore.methods.registry import METHODS
from nascore.methods.requirements import OneSpace

FEW_SHOT = {"space": {"name": "fewshot-cell"}}


def problems(data: dict[str, Any]) -> dict[str, str]:
    """Messages by key."""
    with pytest.raises(InputError) as caught:
        parse(data)
    return {problem.key: problem.message for problem in caught.value.problems}


def only_problem(data: dict[str, Any]) -> Problem:
    with pytest.raises(InputError) as caught:
        parse(data)
    (problem,) = caught.value.problems
    return problem


# --- a configuration that is right ----------------------------------------------------------


def test_nothing_given_is_a_complete_configuration() -> None:
    config = parse({})
    assert config.method == "nases"
    assert config.search.options == METHODS["nases"].options()


def test_what_is_written_is_what_is_read() -> None:
    config = parse(
        {
            "seed": 2**63 - 1,
            "data": {"source": "npz:a b.npz", "root": "x/y"},
            "search": {"space": {"name": "nasbench201"}, "budget": {"gpu_hours": 0.5}},
            "training": {"weight_decay": 1e-7},
        }
    )
    assert loads(dumps(config)) == config


def test_values_that_json_or_yaml_1_1_give_another_type_are_taken() -> None:
    config = parse({"seed": 3.0, "train": {"epochs": 4.0, "lr": "1e-1"}})  # kfp makes floats
    assert (config.seed, config.train.epochs, config.train.lr) == (3, 4, 0.1)


def test_splits_are_of_the_kind_that_the_method_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    few_shot = Method("", AutoMetaOptions, "", split_by="class")
    monkeypatch.setitem(METHODS, "few-shot", few_shot)
    assert parse({}).data.split_by == "image"
    assert parse({"method": "few-shot"}).data.split_by == "class"
    config = parse({"method": "few-shot", "data": {"split_by": "class"}})
    assert loads(dumps(config)) == config
    wrong = only_problem({"method": "few-shot", "data": {"split_by": "image"}})
    assert (wrong.key, wrong.value) == ("data.split_by", "image")
    assert wrong.message.endswith("set it to class")
    wrong = only_problem({"method": "random", "data": {"split_by": "class"}})
    assert wrong.message.endswith("set it to image")


# --- what is wrong, told together -----------------------------------------------------------


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = problems(
        {
            "method": "nasses",
            "sed": 1,
            "data": {"valid_fraction": 2},
            "search": {"budget": {"children": 4, "seconds": 60}, "child": {"lr": "fast"}},
            "train": 7,
            "latency": {"runs": 3},
        }
    )
    assert found.keys() == {
        "method",
        "sed",
        "data.valid_fraction",
        "search.budget",
        "search.child.lr",
        "train",
        "latency.runs",
    }
    assert found["method"] == "unknown method; did you mean 'nases'?"
    assert found["sed"] == "unknown key; did you mean 'seed'?"
    assert found["data.valid_fraction"] == "must be less than 1"
    assert found["train"] == "must be a group of keys"
    assert "exactly one of children, steps, seconds, gpu_hours" in found["search.budget"]
    assert "children and seconds" in found["search.budget"]


def test_a_wrong_value_does_not_hide_a_contradiction_beside_it() -> None:
    found = problems(
        {
            "seed": "x",
            "search": {"budget": {"children": 4, "seconds": 60, "chldren": 5}},
            "train": {"lr": 0.001, "epochs": "many"},
            "training": {"min_lr": 0.01, "flip": True},
            "latency": {"rums": 4},
        }
    )
    assert found.keys() == {
        "seed",
        "search.budget.chldren",
        "search.budget",
        "train.epochs",
        "training.min_lr",
        "training.flip",
        "latency.rums",
    }
    flipped = problems({"seed": "x", "training": {"flip": True}})
    assert flipped.keys() == {"seed", "training.flip"}


@pytest.mark.parametrize(
    "data",
    [
        {"search": {"budget": {"children": "many"}}},
        {"train": {"lr": "fast"}, "training": {"min_lr": 0.05}},
        {"data": {"source": 3}, "training": {"flip": True}},
        {"data": 3, "training": {"flip": True}},
        {"search": {"chain": 1}},
    ],
)
def test_a_wrong_value_is_one_problem(data: dict[str, Any]) -> None:
    only_problem(data)


_ATOMS: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(),
    st.sampled_from(["", "x", "chain", "random", "digits", "1e-3"]),
)
_SOME_KEYS = """
    method seed data search train latency budget children seconds space name num_layers options
    child lr min_lr flip source chain tracking uri
"""
_KEYS: Any = st.one_of(st.sampled_from(_SOME_KEYS.split()), st.integers(0, 2))
_SHAPES: Any = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_SHAPES)
def test_any_shape_of_input_is_taken_or_explained(data: Any) -> None:
    try:
        config = parse(data)
    except InputError as error:
        keys = [str(problem) for problem in error.problems]
        assert len(keys) == len(set(keys))
    else:
        assert parse(json.loads(dumps(config))) == config


def test_problems_of_options_and_those_found_before_are_in_the_same_message() -> None:
    data = {"seed": -1, "search": {"options": {"no_such_option": 1}}}
    with pytest.raises(InputError) as caught:
        parse(data, also=[Problem("--set", "x", "write key.path=value")])
    assert [problem.key for problem in caught.value.problems] == [
        "--set",
        "seed",
        "search.options.no_such_option",
    ]


@pytest.mark.parametrize(
    ("data", "key", "suggestion"),
    [
        ({"search": {"budget": {"childern": 4}}}, "search.budget.childern", "children"),
        ({"search": {"space": {"name": "chain", "num_layer": 3}}}, "search.space.num_layer", None),
        ({"search": {"option": {}}}, "search.option", "search.options"),
        ({"data": {"sorce": "digits"}}, "data.sorce", "data.source"),
        ({"batch_size": 4}, "batch_size", "or 'search.child.batch_size'"),
        ({"children": 4}, "children", "'search.budget.children'"),
        ({"search": {"lr": 1}}, "search.lr", "'search.child.lr'"),
        ({"search": {"options": {"flip": True}}}, "search.options.flip", "'training.flip'"),
        ({"data": {"epcohs": 1}}, "data.epcohs", "'search.child.epochs'"),
    ],
)
def test_an_unknown_key_names_the_one_that_was_meant(
    data: dict[str, Any], key: str, suggestion: str | None
) -> None:
    message = problems(data)[key]
    assert "did you mean" in message
    assert (suggestion or "search.space.num_layers") in message


def test_an_unknown_step_is_one_problem() -> None:
    """What is said of the values below it, or said again when it stays, helps nobody."""
    problem = only_problem({"cluster": {"steps": {"serach": {"foo": 2, "cpu": "x"}}}})
    assert str(problem) == (
        "cluster.steps.serach: unknown key; did you mean 'cluster.steps.search'?"
    )
    problem = only_problem({"cluster": {"secrets": {"PATH": "a/b"}}})
    assert (problem.key, problem.message[:13]) == ("cluster.secrets.PATH", "is a variable")


def test_a_variable_in_secrets_and_in_config_maps_is_refused() -> None:
    both = {"cluster": {"secrets": {"A": "s/a"}, "config_maps": {"A": "m/a", "B": "m/b"}}}
    assert "A is given in secrets and in config_maps" in only_problem(both).message


def test_results_are_not_handed_over_below_an_odd_prefix() -> None:
    problem = only_problem({"promote": {"export_to": "s3://bucket/a b?c#d"}})
    assert "has a space and # and ? in its prefix" in problem.message


def test_a_key_that_resembles_nothing_lists_what_there_is() -> None:
    problem = only_problem({"promote": {"xyz": 1}})
    assert problem.key == "promote.xyz"
    assert "known are min_gain" in problem.message


@pytest.mark.parametrize("method", list(METHODS))
def test_the_options_of_each_method_are_checked(method: str) -> None:
    requirements = METHODS[method].requirements
    names = [one.name for one in requirements if isinstance(one, OneSpace)]
    fits_all = {"space": {"name": names[0] if names else "nasbench201"}, "budget": {"steps": 1000}}
    data = {"method": method, "search": {"options": {"no_such_option": 1}, **fits_all}}
    assert only_problem(data).key == "search.options.no_such_option"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"search": {"space": {"name": "chian"}}}, "search.space.name"),
        ({"search": {"space": {"num_layers": 3}}}, "search.space.name"),
        ({"search": {"space": {"name": "chain", "vocabulary": 3}}}, "search.space.vocabulary"),
        ({"search": [1]}, "search"),
        ({"search": {"options": 3}}, "search.options"),
        ({"search": {"budget": None}}, "search.budget"),
        ({"method": ["nases"]}, "method"),
        ({"method": None}, "method"),
        ({"seed": "one"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"train": {"lr": float("inf")}}, "train.lr"),
        ({"train": {"lr": float("nan")}}, "train.lr"),
        ({"training": {"min_lr": 1.0}}, "training.min_lr"),
        (
            {"train": {"epochs": 4}, "training": {"weights": "w.pt", "freeze_epochs": 4}},
            "training.freeze_epochs",
        ),
        ({"training": {"freeze_epochs": 1}}, "training"),
        ({"training": {"weights": "gs://bucket/w.pt"}}, "training.weights"),
        ({"training": {"teacher": "finalists"}}, "training"),
        ({"registry": {"model": ""}}, "registry.model"),
        (
            {"method": "auto-meta", "search": {**FEW_SHOT, "options": {"test_shots": ["foo"]}}},
            "search.options.test_shots.0",
        ),
    ],
)
def test_a_wrong_value_is_told_once_under_its_own_key(data: dict[str, Any], key: str) -> None:
    assert only_problem(data).key == key


def test_a_wrong_element_of_a_list_is_told_once_beside_other_problems() -> None:
    options = {"test_shots": ["foo"], "nosuch": 1}
    data = {"method": "auto-meta", "search": {**FEW_SHOT, "options": options}}
    with pytest.raises(InputError) as caught:
        parse(data)
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["search.options.test_shots.0", "search.options.nosuch"]


def test_a_long_value_is_cut() -> None:
    assert len(only_problem({"latency": {"device": "x" * 500}}).value) == 80


def test_yes_is_no_number_of_children() -> None:
    """pydantic alone takes True for 1."""
    problem = only_problem({"search": {"budget": {"children": True}}})
    assert (problem.key, problem.value) == ("search.budget.children", "true")
    space = {"name": "chain", "num_layers": True}
    assert only_problem({"search": {"space": space}}).key == "search.space.num_layers"
    assert not parse({"search": {"control": False}}).search.control


def test_sections_that_contradict_each_other() -> None:
    training = {"flip": True, "crop_padding": 8, "cutout": 8, "min_lr": 0.04}
    found = problems(
        {
            "data": {"image_size": 8},
            "training": training,
            "train": {"lr": 0.01},
            "search": {"child": {"lr": 0.03}},
        }
    )
    assert found.keys() == {f"training.{key}" for key in training}
    assert "mirrored digits" in found["training.flip"]
    assert "got train.lr=0.01 and search.child.lr=0.03" in found["training.min_lr"]


def test_switches_of_a_recipe_that_the_run_cannot_have() -> None:
    switches = {"optimizer": "adamw", "test_time_flip": True, "precision": "fp16"}
    rates = {"train": {"lr": 0.1}, "search": {"child": {"lr": 0.002}}}
    found = problems({"training": {"device": "cpu", **switches}, **rates})
    assert found == {
        "train.lr": "must be <= 0.02 for adamw; try 0.002",
        "training.test_time_flip": "has no effect without training.flip; set that to true, or "
        "this to null",
        "training.precision": "needs a GPU; set it to auto, bf16 or fp32",
    }
    assert parse({"training": {"recipe": "strong"}}).training.recipe == "strong"


def test_an_autoencoder_that_does_not_suit_the_space() -> None:
    """Reported before anything starts, not by the second step."""
    found = problems({"method": "nases-paper", "search": {"space": {"name": "enas-micro"}}})
    assert found.keys() == {"search.space"}
    assert "same number of values" in found["search.space"]
    long = {"name": "chain", "num_layers": 20, "vocabulary": 4}  # 80 tokens of four values
    assert problems({"method": "nases-paper", "search": {"space": long}}).keys() == {"search.space"}
    parse({"method": "nases-paper", "search": {"space": {"name": "chain"}}})


def test_what_does_not_suit_the_space_is_told_beside_other_problems() -> None:
    search = {"space": {"name": "enas-micro"}}
    data: dict[str, Any] = {"method": "nases-paper", "search": search}
    assert problems({**data, "data": {"split_by": "class"}}).keys() == {
        "data.split_by",
        "search.space",
    }
    found = problems({**data, "seed": "x", "training": {"flip": True}})
    assert found.keys() == {"seed", "training.flip", "search.space"}


@pytest.mark.parametrize(
    ("search", "key"),
    [
        ({"space": {"name": "enas-micr"}}, "search.space.name"),
        ({"space": {"name": "enas-micro", "num_blocks": "x"}}, "search.space.num_blocks"),
        (
            {"space": {"name": "enas-micro"}, "options": {"autoencoder": {"steps": "x"}}},
            "search.options.autoencoder.steps",
        ),
    ],
)
def test_what_rests_on_a_wrong_space_or_option_waits(search: dict[str, Any], key: str) -> None:
    """The autoencoder of the released method does not suit this space."""
    assert only_problem({"method": "nases-paper", "search": search}).key == key


# --- layers ---------------------------------------------------------------------------------


def test_settings_are_yaml_and_the_last_one_wins() -> None:
    layer, wrong = layer_of(["a.b=1", "a.c=[x, 2]", "a.b=no", "d=npz:some file.npz"])
    assert wrong == []
    assert layer == {"a": {"b": False, "c": ["x", 2]}, "d": "npz:some file.npz"}


@pytest.mark.parametrize(
    "setting", ["seed", "=1", "a..b=1", ".a=1", "a=[1", "a={b: 1, b: 2}", "a=2026-13-01"]
)
def test_a_malformed_setting_is_told_and_does_not_hide_the_others(setting: str) -> None:
    layer, (problem,) = layer_of([setting, "seed=1"])
    assert layer == {"seed": 1}
    assert problem.key == "--set" or problem.value == setting.partition("=")[2]


def test_a_setting_below_a_plain_value_is_told() -> None:
    _, (problem,) = layer_of(["train=3", "train.epochs=4"])
    assert problem.key == "train.epochs"


def test_another_budget_replaces_the_one_below() -> None:
    preset = {"search": {"budget": {"children": 16}}, "seed": 1}
    merged = merge(preset, {"search": {"budget": {"seconds": 60}}})
    assert merged == {"search": {"budget": {"seconds": 60}}, "seed": 1}
    assert preset == {"search": {"budget": {"children": 16}}, "seed": 1}


def test_two_budgets_in_one_layer_stay_two() -> None:
    layer, _ = layer_of(["search.budget.children=4", "search.budget.seconds=60"])
    assert problems(merge({"search": {"budget": {"steps": 9}}}, layer)).keys() == {"search.budget"}


def test_another_space_keeps_nothing_of_the_one_below() -> None:
    below = {"search": {"space": {"name": "chain", "num_layers": 5, "vocabulary": 8}}}
    same = merge(below, {"search": {"space": {"name": "chain", "vocabulary": 9}}})
    assert same["search"]["space"] == {"name": "chain", "num_layers": 5, "vocabulary": 9}
    other = merge(below, {"search": {"space": {"name": "nasbench201"}}})
    assert other["search"]["space"] == {"name": "nasbench201"}


def test_another_method_drops_the_options_of_the_one_below() -> None:
    """What was compiled in for one method must not refuse another in Kubeflow's form."""
    compiled = json.loads(dumps(parse({"method": "nases"})))
    assert compiled["search"]["options"]
    config = parse(apply_overrides(compiled, "method=random seed=4"))
    assert (config.method, config.seed) == ("random", 4)
    assert config.search.options == METHODS["random"].options()
    kept = merge(compiled, {"seed": 4})
    assert kept["search"]["options"] == compiled["search"]["options"]


def test_overrides_in_one_text_are_quoted_as_in_a_shell() -> None:
    data = apply_overrides({"seed": 1}, "  data.source='npz:my images.npz' \n seed=2 ")
    assert data == {"seed": 2, "data": {"source": "npz:my images.npz"}}
    assert apply_overrides({"seed": 1}, "") == {"seed": 1}


@pytest.mark.parametrize("text", ["seed", "a='b", "a=[1 seed"])
def test_overrides_that_cannot_be_read_are_wrong_input(text: str) -> None:
    with pytest.raises(InputError):
        apply_overrides({}, text)


# --- text -----------------------------------------------------------------------------------


def test_an_empty_text_gives_no_settings() -> None:
    assert read_mapping("# nothing\n", "CONFIG") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: [1, 2\n", "line 3"),
        ("a:\n\tb: 1\n", "line 2, column 1; indent with spaces instead of tabs"),
        (
            "a: 1\nb: 2\na: 3\n",
            "key 'a' is given twice (first in line 1), in line 3, column 1; remove one of them",
        ),
        ("x: {a: 1, a: 1}\n", "is given twice (first in line 1), in line 1, column 11"),
        ("- 1\n- 2\n", "must be a mapping of keys to values"),
        ("!!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("? [a]\n: b\n", "unhashable key"),
        ("a: b: c\n", "line 1, column 5; put a value that contains ': ' in quotes"),
        ("a: @b\n", "line 1, column 4; put a value that begins with this character in quotes"),
        ("a: `b`\n", "line 1, column 4; put a value that begins with this character in quotes"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1; remove the line --- between the documents"),
        ("a: 2026-13-01\n", "month must be in 1..12; put a text that looks like a date in quotes"),
        ("a: !x 1\n", "line 1, column 4; remove the tag that begins with '!'"),
    ],
)
def test_text_that_is_no_configuration_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_mapping(text, "CONFIG", "my.yaml")
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("CONFIG", "my.yaml")
    assert told in problem.message


def test_anchors_and_merge_keys_work() -> None:
    text = "base: &b {lr: 0.1, epochs: 3}\ntrain:\n  <<: *b\n  epochs: 4\n"
    assert read_mapping(text, "CONFIG")["train"] == {"lr": 0.1, "epochs": 4}


@pytest.mark.parametrize("method", ["memory-enas", "enas", "random-ws"])
def test_a_method_with_shared_weights_says_what_it_needs(method: str) -> None:
    """The default budget counts children, and chains share nothing: both are told at once."""
    with pytest.raises(InputError) as caught:
        parse({"method": method})
    problems = {problem.key: problem.message for problem in caught.value.problems}
    assert problems.keys() == {"search.budget.children", "search.space.name"}
    assert "give one of steps, seconds, gpu_hours" in problems["search.budget.children"]
    assert "nasbench201" in problems["search.space.name"]


# --- secrets --------------------------------------------------------------------------------

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.source", f"npz:s3://AKIA:{SECRET}@bucket/key.npz"),
        ("data.source", f"imagefolder:s3://{SECRET}@bucket/key"),
        ("data.root", f"s3://me:{SECRET}@bucket/cifar"),
        ("promote.export_to", f"s3://me:{SECRET}@bucket/models"),
        ("search.study", f"postgresql://me:{SECRET}@db/studies"),
        ("tracking.experiment", f"http://me:{SECRET}@mlflow"),
        ("cluster.gpu_type", f"https://{SECRET}@host"),
        ("cluster.node_selector.pool", f"https://h/x?token={SECRET}"),
        ("cluster.image_pull_secrets", [f"https://me:{SECRET}@registry"]),
        ("cluster.tolerations", [{"key": f"http://me:{SECRET}@h"}]),
    ],
)
def test_a_secret_in_a_setting_is_refused_and_not_repeated(key: str, value: Any) -> None:
    with pytest.raises(InputError) as refused:
        parse(at(key, value))
    (problem,) = refused.value.problems
    assert problem.key.startswith(key)
    assert "Secret" in problem.message
    assert SECRET not in str(refused.value)


def test_addresses_that_the_command_moves_into_the_environment_are_taken() -> None:
    address = f"https://me:{SECRET}@mlflow"
    assert parse({"tracking": {"uri": address}}).tracking.uri == address


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking.password", SECRET),
        ("tracking.url", f"http://me:{SECRET}@mlflow"),
        ("tracking.uri", [f"http://me:{SECRET}@mlflow"]),
        ("tracking.uri", {"of": f"http://me:{SECRET}@mlflow"}),
        ("search.storage", [f"postgresql://me:{'x' * 90}{SECRET}@db/x"]),
        ("search.budget.children", f"postgresql://me:{SECRET}{'x' * 90}@db/x"),
        ("cluster.secrets.MLFLOW_TRACKING_PASSWORD", SECRET),
        ("cluster.config_maps.TOKEN", SECRET),
        ("aws_secret_access_key", SECRET),
        ("registry.model", f"https://me:{SECRET}@host"),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(key: str, value: Any) -> None:
    with pytest.raises(InputError) as refused:
        parse(at(key, value))
    assert key.split(".")[0] in str(refused.value)
    assert SECRET not in str(refused.value)


def at(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def test_instanas_searches_its_own_space_in_one_process() -> None:
    data = {
        "method": "instanas",
        "search": {"space": {"name": "chain"}, "budget": {"children": 8}, "workers": 2},
    }
    with pytest.raises(InputError) as told:
        parse(data)
    assert {problem.key for problem in told.value.problems} == {
        "search.space.name",
        "search.budget.children",
        "search.workers",
    }


def test_augmentation_before_the_search_fits_the_images_too() -> None:
    options = {"pretraining": {"cutout": 8}}
    data = {
        "method": "instanas",
        "data": {"image_size": 8},
        "search": {"space": {"name": "mobile"}, "budget": {"steps": 10}, "options": options},
    }
    assert only_problem(data).key == "search.options.pretraining.cutout"
