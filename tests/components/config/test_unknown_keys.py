"""Unknown keys: the space or the method that has such a setting, or the key that was meant."""

import pytest

from components.config.merge import layer_of
from components.config.schema import parse
from nascore.errors import InputError, Problem


def refused(*settings: str) -> Problem:
    layer, _ = layer_of(settings)
    with pytest.raises(InputError) as caught:
        parse(layer)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("search.space.name=residual", "search.space.vocabulary=8"),
            "is a setting of the space chain; residual has channels, equal_computation, max_depth, "
            "num_stages",
        ),
        (
            ("search.space.name=chain", "search.space.num_stages=3"),
            "is a setting of the space superkernel or residual; chain has channels_per_token, "
            "final_added_channels, min_map_size, num_layers, vocabulary",
        ),
        (
            ("method=tpe", "search.options.population_size=3"),
            "is a setting of regularized-evolution; tpe has startup_trials",
        ),
        (
            ("method=random", "search.options.startup_trials=3"),
            "is a setting of tpe; random has no settings of its own",
        ),
        (
            ("method=tpe", "search.options.schedule.warmup=0.1"),
            "is a setting of nasib; tpe has startup_trials",
        ),
        (
            ("method=tpe", "search.options.weights.batch_size=4"),
            "is a setting of memory-enas, enas, random-ws, instanas or nasib; "
            "tpe has startup_trials",
        ),
    ],
)
def test_a_setting_of_another_space_or_method_names_it(
    settings: tuple[str, ...], message: str
) -> None:
    problem = refused(*settings)
    assert problem.message == message
    assert settings[1].startswith(problem.key)


def test_many_settings_of_the_chosen_method_are_cut_short() -> None:
    message = refused("method=nases", "search.options.startup_trials=3").message
    assert message.startswith("is a setting of tpe; nases has autoencoder, controller_batch, ")
    assert message.endswith(", patience, ...")


def test_a_misspelt_setting_of_the_chosen_space_is_suggested() -> None:
    message = refused("search.space.name=residual", "search.space.max_dept=3").message
    assert message == "unknown key; did you mean 'search.space.max_depth'?"


def test_the_suggested_key_is_a_whole_one() -> None:
    message = refused("cluster.steps.serach.cpu=3").message
    assert message == "unknown key; did you mean 'cluster.steps.search'?"


@pytest.mark.parametrize("setting", ["search.budget.chilren=3", "search.cost.limt=5000"])
def test_a_misspelt_key_is_not_told_to_be_missing_as_well(setting: str) -> None:
    assert refused(setting).key == setting.partition("=")[0]
