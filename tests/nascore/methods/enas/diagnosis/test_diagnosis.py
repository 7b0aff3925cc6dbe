"""All instruments at once, on one fixed set of architectures."""

import json
import math
import time

import pytest
import torch

from nascore.methods.enas.controller import Controller
from nascore.methods.enas.diagnosis.diagnosis import (
    FixedSet,
    diagnose,
    fixed_set,
    quick_metrics,
    quick_set,
)
from nascore.methods.enas.diagnosis.distances import GRAPH_DISTANCES, PROPERTIES
from nascore.methods.enas.options import ControllerOptions
from nascore.seeding import Seeds
from nascore.spaces.base import SharedSpace
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.spaces.enas_micro.space import EnasMicroSpace
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.nasbench201.space import Cell201Space

CELL = Cell201Space(Cell201SpaceConfig())
MICRO = EnasMicroSpace(EnasMicroSpaceConfig())


def make_controller(space: SharedSpace = CELL, seed: int = 0) -> Controller:
    torch.manual_seed(seed)
    return Controller(space.cardinalities, ControllerOptions(hidden_size=32))


@pytest.fixture(scope="module")
def fixed() -> FixedSet:
    return fixed_set(CELL, num_compared=60, num_read=120)


def test_the_set_is_the_same_for_all_and_holds_nothing_twice() -> None:
    one, again, other = fixed_set(CELL), fixed_set(CELL), fixed_set(CELL, Seeds(1))
    assert torch.equal(one.tokens_NT, again.tokens_NT)
    assert not torch.equal(one.tokens_NT, other.tokens_NT)
    assert len(set(map(tuple, one.tokens_NT.tolist()))) == 1000
    assert len(one.distances["edit"]) == 200 * 199 / 2
    assert (one.distances["edit"] > 0).all()


def test_a_small_space_is_taken_whole() -> None:
    small = EnasMicroSpace(EnasMicroSpaceConfig(num_blocks=1))
    total = math.prod(small.cardinalities)
    whole = fixed_set(small, num_read=2 * total)
    assert len(set(map(tuple, whole.tokens_NT.tolist()))) == len(whole.tokens_NT) == total


def test_a_diagnosis_is_whole_and_json(fixed: FixedSet) -> None:
    found = json.loads(json.dumps(diagnose(make_controller(), fixed).to_dict(), allow_nan=False))
    assert (found["space"], found["num_compared"], found["num_read"]) == ("nasbench201", 60, 120)
    assert list(found["correlations"]) == ["euclidean", "cosine"]
    for row in found["correlations"].values():
        assert row.keys() == {*GRAPH_DISTANCES, *PROPERTIES}
    for name in ("same_start", "same_prefix"):
        assert found[name].keys() == set(GRAPH_DISTANCES)
    assert len(found["token_probes"]) == len(found["noisy_token_probes"]) == 6
    assert found["property_probes"].keys() == PROPERTIES.keys()
    assert found["conditioning"]["mean_kl"][0] is None
    assert len(found["pairs"]) == 1500


@pytest.mark.parametrize(
    "space",
    [
        Cell201Space(Cell201SpaceConfig(operations=("none", "skip_connect"))),
        EnasMicroSpace(EnasMicroSpaceConfig(operations=("identity",), num_blocks=1)),
    ],
    ids=lambda space: space.identifier,
)
def test_the_smallest_spaces_can_be_looked_at(space: SharedSpace) -> None:
    controller = make_controller(space)
    found = diagnose(controller, fixed_set(space))
    assert found.num_read == found.num_compared == math.prod(space.cardinalities)
    json.dumps(found.to_dict(), allow_nan=False)
    assert all(map(math.isfinite, quick_metrics(controller, quick_set(space)).values()))


def test_looking_changes_nothing_and_gives_the_same_again(fixed: FixedSet) -> None:
    controller = make_controller()
    before = {name: tensor.clone() for name, tensor in controller.state_dict().items()}
    torch.manual_seed(5)
    first = diagnose(controller, fixed), quick_metrics(controller, fixed)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1)), "the global generator is left alone"
    assert (diagnose(controller, fixed), quick_metrics(controller, fixed)) == first
    assert all(torch.equal(before[name], tensor) for name, tensor in controller.named_parameters())
    assert diagnose(make_controller(seed=1), fixed) != first[0]


def test_quick_metrics_are_figures_of_the_diagnosis(fixed: FixedSet) -> None:
    controller = make_controller()
    full, quick = diagnose(controller, fixed), quick_metrics(controller, fixed)
    edit = full.correlations["euclidean"]["edit"]
    assert edit is not None
    assert quick["diagnosis/spearman_edit"] == pytest.approx(edit.spearman)
    known = [value for value in full.conditioning.mean_kl if value is not None]
    assert quick["diagnosis/mean_kl"] == pytest.approx(sum(known) / len(known))
    first = full.token_probes[0]
    assert full.token_probes[-1].gain > 0.7, "the last state has read the last token"
    assert quick["diagnosis/probe_first_token"] == pytest.approx(first.accuracy, abs=0.05)
    assert quick["diagnosis/probe_first_token_gain"] == pytest.approx(first.gain, abs=0.05)


def test_an_untrained_state_fades_in_the_larger_space() -> None:
    """Why a diagnosis is compared with that of random weights: they remember something."""
    near, far = (quick_metrics(make_controller(space), quick_set(space)) for space in (CELL, MICRO))
    assert near["diagnosis/spearman_hamming"] > far["diagnosis/spearman_hamming"] > 0
    assert near["diagnosis/probe_first_token_gain"] > 0.5


@pytest.mark.parametrize("space", [CELL, MICRO], ids=lambda space: space.identifier)
def test_it_takes_seconds_and_the_quick_form_less_than_half_a_second(space: SharedSpace) -> None:
    controller = make_controller(space)
    short = quick_set(space)
    assert short.distances
    start = time.process_time()
    quick_metrics(controller, short)
    assert time.process_time() - start < 0.5
    start = time.process_time()
    diagnose(controller, fixed_set(space))
    assert time.process_time() - start < 15
