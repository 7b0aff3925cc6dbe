"""Which architectures may be trained again without a search."""

from dataclasses import replace

import pytest

from components.config.schema import parse
from components.steps.review import _Champion, _plan
from nascore.data.drift import DataProfile, drift
from nascore.genotype import Genotype
from nascore.results import Arm, SearchResult
from nascore.spaces.base import make_space

PROFILE = DataProfile(
    classes=("a", "b"),
    channels=1,
    size=8,
    num_images=10,
    class_shares=(0.5, 0.5),
    value_shares=((0.5, 0.5),),
    data_sha256="0",
)


@pytest.mark.parametrize(
    ("method", "space", "expected"),
    [("instanas", "mobile", "search"), ("regularized-evolution", "mobile", "reuse")],
)
def test_what_was_trained_by_its_search_is_searched_again(
    method: str, space: str, expected: str
) -> None:
    budget = {"steps": 10}
    settings = parse({"method": method, "search": {"space": {"name": space}, "budget": budget}})
    genotype = Genotype(make_space(settings.search.space).identifier, (1,) * 40)
    found = SearchResult(method, 0, genotype, 0.9, Arm(method, (), 1.0), None, None)
    champion = _Champion("3", "run", 1.0, PROFILE, found)
    plan, why = _plan(settings, champion, drift(PROFILE, PROFILE))
    assert plan == expected
    assert ("the weights of its search" in why) == (expected == "search")


def test_an_architecture_that_another_objective_chose_is_searched_again() -> None:
    settings = parse({"method": "random", "search": {"objective": "macro_f1"}})
    genotype = Genotype(make_space(settings.search.space).identifier, (1,) * 20)
    found = SearchResult("random", 0, genotype, 0.9, Arm("random", (), 1.0), None, None)
    plans = []
    for one in (found, replace(found, objective="macro_f1", valid_score=0.8)):
        champion = _Champion("3", "run", 1.0, PROFILE, one)
        plans.append(_plan(settings, champion, drift(PROFILE, PROFILE)))
    assert plans[0] == ("search", "the architecture of champion 3 was chosen by its accuracy")
    assert plans[1][0] == "reuse"


@pytest.mark.parametrize(("method", "space"), [("instanas", "mobile"), ("random", "residual")])
def test_a_standard_network_is_trained_again_whatever_method_and_space(
    method: str, space: str
) -> None:
    budget = {"steps": 10} if method == "instanas" else {"children": 2}
    settings = parse({"method": method, "search": {"space": {"name": space}, "budget": budget}})
    genotype = Genotype("mobile-of-other-settings", (1,) * 40)
    found = SearchResult(method, 0, genotype, 0.9, Arm(method, (), 1.0), None, None)
    champion = _Champion("3", "run", 1.0, PROFILE, found)
    assert _plan(settings, champion, drift(PROFILE, PROFILE))[0] == "search"
    standard = replace(found, reference={"name": "standard", "seconds": 1.0})
    champion = replace(champion, search=standard)
    assert _plan(settings, champion, drift(PROFILE, PROFILE))[0] == "reuse"
