"""Settings of NASIB: each has its range, and a comparison of two names both."""

import pytest
from pydantic import ValidationError

from nascore.methods.nasib.options import NasibOptions


def refused(**schedule: float) -> dict[str, str]:
    """Return messages by the name of the setting, `schedule` where two contradict each other."""
    with pytest.raises(ValidationError) as caught:
        NasibOptions.model_validate({"schedule": schedule})
    return {str(error["loc"][-1]): error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_explore_fraction", 2, "less than or equal to 1"),
        ("max_explore_fraction", 0, "greater than 0"),
        ("min_explore_fraction", 0, "greater than 0"),
        ("min_explore_fraction", 1.1, "less than or equal to 1"),
        ("warmup", 1.0, "less than 1"),
        ("warmup", -0.1, "greater than or equal to 0"),
        ("temperature_start", 0, "greater than 0"),
        ("temperature_end", 0, "greater than 0"),
        ("entropy_weight", -1, "greater than or equal to 0"),
        ("min_steps", 0, "greater than or equal to 1"),
    ],
)
def test_a_value_out_of_its_range_is_refused_under_its_own_name(
    name: str, value: float, message: str
) -> None:
    found = refused(**{name: value})
    assert found.keys() == {name}
    assert found[name].endswith(message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"min_explore_fraction": 0.7},
            "min_explore_fraction=0.7 must be at most max_explore_fraction=0.6",
        ),
        (
            {"max_explore_fraction": 0.05},
            "min_explore_fraction=0.1 must be at most max_explore_fraction=0.05",
        ),
        ({"min_steps": 50, "max_steps": 50}, "min_steps=50 must be below max_steps=50"),
        ({"temperature_end": 9.0}, "temperature_end=9 must be at most temperature_start=5"),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(
    given: dict[str, float], message: str
) -> None:
    assert refused(**given) == {"schedule": f"Value error, {message}"}


def test_all_contradictions_of_a_schedule_are_in_one_message() -> None:
    found = refused(temperature_start=0.1, temperature_end=1.0, min_steps=9, max_steps=3)
    assert found["schedule"].endswith(
        "min_steps=9 must be below max_steps=3; "
        "temperature_end=1 must be at most temperature_start=0.1"
    )


def test_equal_ends_are_accepted() -> None:
    NasibOptions.model_validate(
        {"schedule": {"min_explore_fraction": 1, "max_explore_fraction": 1}}
    )
