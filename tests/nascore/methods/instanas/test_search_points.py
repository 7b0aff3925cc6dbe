"""The choice among the points of a search."""

from nascore.methods.instanas.search_points import Point, choose


def point(number: int, accuracy: float, latency: float) -> Point:
    return Point(
        number=number,
        step=10,
        shared_accuracy=0.1,
        train_accuracy=0.1,
        latency=latency,
        num_distinct=2,
        tokens=(1,),
        valid_accuracy=accuracy,
    )


POINTS = [point(0, 0.90, 3.0), point(1, 0.91, 2.0), point(2, 0.905, 1.5), point(3, 0.80, 1.0)]


def test_the_fastest_within_the_tolerance_is_chosen() -> None:
    assert choose(POINTS, tolerance=0.01, target=None).point.name == "C"
    assert choose(POINTS, tolerance=0.0, target=None).point.name == "B"
    assert choose(POINTS, tolerance=0.2, target=None).point.name == "D"


def test_the_most_accurate_within_the_target_is_chosen() -> None:
    assert choose(POINTS, tolerance=0.0, target=1.7).point.name == "C"
    assert choose(POINTS, tolerance=0.0, target=9.0).point.name == "B"
    none = choose(POINTS, tolerance=0.0, target=0.5)
    assert none.point.name == "D"
    assert "none is within latency.target_ms=0.5" in none.rule
