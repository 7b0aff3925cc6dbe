"""The file of a latency table, and how operations are timed."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nascore.config import LatencyConfig, SpaceSection
from nascore.errors import InputError
from nascore.latency import op_profiler, space_profile
from nascore.latency.op_profiler import Profiler
from nascore.latency.operations import unit_key
from nascore.latency.space_profile import Check, profile_space, units
from nascore.latency.table import (
    MeasurementConditions,
    OperationTable,
    TableEntry,
    load,
    settings_sha256,
)
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig

SHAPE = ImageShape(channels=1, size=8, num_classes=3)
QUICK = LatencyConfig(device="cpu", threads=1, warmup_runs=0, runs=20)
MADE_FOR = MeasurementConditions("s", "0" * 64, "final", 3, 32, 10, 1, "a CPU", 2, "2.9.0")


def make_table(**changes: Any) -> OperationTable:
    table = OperationTable(
        made_for=MADE_FOR,
        entries={"a @ 1": TableEntry(1.5, 0.1, 30), "b @ 1": TableEntry(0.25, 0.0, 20)},
        rest=TableEntry(0.5, 0.0, 50),
        date="2026-01-01T00:00:00+00:00",
        warmup_runs=3,
        correction=1.01,
        disturbed=0.1,
    )
    return dataclasses.replace(table, **changes)


# --- the file -------------------------------------------------------------------------------


def test_a_network_costs_the_sum_of_its_operations_and_the_rest() -> None:
    table = make_table()
    assert table.predict(["a @ 1", "b @ 1", "a @ 1"]) == 1.5 + 0.25 + 1.5 + 0.5
    assert table.predict([]) == 0.5
    assert table.missing(["c", "a @ 1", "c"]) == ["c"]
    with pytest.raises(KeyError):
        table.predict(["c"])


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    make_table().save(path)
    assert load(path, MADE_FOR) == make_table()
    assert json.loads(path.read_text())["made_for"]["device"] == "a CPU"


def test_every_difference_is_told_and_how_to_make_one(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    make_table().save(path)
    wanted = dataclasses.replace(MADE_FOR, device="another", size=16, threads=1, space_sha256="1")
    with pytest.raises(InputError) as caught:
        load(path, wanted, key="search.options.table")
    assert len(caught.value.problems) == 4
    text = str(caught.value)
    assert "search.options.table: device = a CPU: here it is another" in text
    assert "search.options.table: image size = 32: here it is 16" in text
    assert "threads = 2: here it is 1" in text
    assert "settings of the space" in text
    assert text.count("nas profile --out table.json") == 4


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "{not json",
        json.dumps({**make_table().to_dict(), "version": 2}),
        json.dumps({**make_table().to_dict(), "made_for": {}}),
        json.dumps({**make_table().to_dict(), "rest": {"ms": -1, "spread_ms": 0, "runs": 1}}),
        json.dumps({**make_table().to_dict(), "rest": {"ms": 1e999, "spread_ms": 0, "runs": 1}}),
    ],
)
def test_what_is_no_table_is_wrong_input(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"is no table that this version reads.*nas profile"):
        load(path, MADE_FOR)


def test_a_table_that_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there; make one"):
        load(tmp_path / "table.json", MADE_FOR)


def test_all_settings_of_a_space_count() -> None:
    base = Cell201SpaceConfig()
    assert settings_sha256(base) == settings_sha256(Cell201SpaceConfig())
    wider = Cell201SpaceConfig(final_channels=17)
    assert make_space(base).identifier == make_space(wider).identifier
    assert settings_sha256(base) != settings_sha256(wider)


# --- how operations are timed ---------------------------------------------------------------


class Sleeper(nn.Module):
    """Takes its time."""

    def __init__(self, ms: float) -> None:
        super().__init__()
        self.ms = ms

    def extra_repr(self) -> str:
        return f"{self.ms}"

    def forward(self, x_BCHW: Tensor) -> Tensor:
        time.sleep(self.ms / 1e3)
        return x_BCHW


def test_equal_work_has_one_key_and_other_work_another() -> None:
    def block(channels: int, kernel: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, 4, kernel, stride=stride))

    size = (1, 2, 8, 8)
    assert unit_key(block(2, 3), size) == unit_key(block(2, 3), size)
    others = [block(2, 1), block(2, 3, stride=2), block(2, 3)[1], nn.Identity()]
    keys = {unit_key(block(2, 3), size), *(unit_key(one, size) for one in others)}
    assert len(keys) == 1 + len(others)
    assert unit_key(block(2, 3), (1, 2, 4, 4)) not in keys


@pytest.mark.timing
def test_time_goes_to_the_operation_that_takes_it() -> None:
    """Each is found within networks in which it never is alone."""
    fast, slow, slower = Sleeper(1.0), Sleeper(4.0), Sleeper(8.0)
    profiler = Profiler({"a": fast, "b": slow, "c": slower}, SHAPE, QUICK)
    orders = [(fast, slow), (slow, slower, fast), (slower, fast)]
    runners = [profiler.runner(nn.Sequential(*order)) for order in orders]
    timings = profiler.run(runners[:2], runners[2:], rng=np.random.default_rng(0))
    of = {module.ms: timings.entries[unit_key(module, (1, 1, 8, 8))].ms for module in orders[1]}
    for ms, found in of.items():
        assert ms <= found / timings.correction <= ms + 1.5
    assert timings.rest.ms < 1.0
    assert 9.0 <= timings.whole[0].ms < 12.0
    # The factor brings the sums to what was measured without marks.
    predicted = of[1.0] + of[8.0] + timings.rest.ms
    assert predicted == pytest.approx(timings.whole[0].ms, rel=0.1)


def test_interrupted_runs_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other run: they are left out, and more runs are made."""
    calls = {"runs": 0, "asked": 0}

    class Now(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            calls["runs"] += 1
            time.sleep(0.01 if calls["runs"] % 2 else 0.001)
            return x_BCHW

    def interruptions() -> int:
        return (calls["runs"] + 1) // 2  # one more in each odd run

    monkeypatch.setattr(op_profiler, "interruptions", interruptions)
    module = Now()
    profiler = Profiler({"a": module}, SHAPE, QUICK)
    calls["runs"] = 0
    runner = profiler.runner(module)  # an odd one, so the next is even
    timings = profiler.run([runner], [runner, runner], rng=np.random.default_rng(0))
    assert timings.disturbed == pytest.approx(0.5, abs=0.05)
    entry = timings.entries[unit_key(module, (1, 1, 8, 8))]
    assert entry.runs >= 20
    assert entry.ms / timings.correction < 5
    assert all(20 <= whole.runs < 60 and whole.ms < 5 for whole in timings.whole)


def test_where_all_runs_are_interrupted_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter(range(10**6))
    monkeypatch.setattr(op_profiler, "interruptions", lambda: next(count))
    profiler = Profiler({"a": nn.Identity()}, SHAPE, QUICK)
    module = profiler._modules[0]
    timings = profiler.run([profiler.runner(module)], rng=np.random.default_rng(0))
    assert timings.disturbed == 1.0
    assert timings.entries[unit_key(module, (1, 1, 8, 8))].runs == 3 * 20


def test_warm_up_does_not_count() -> None:
    class Cold(nn.Module):
        calls = 0

        def forward(self, x_BCHW: Tensor) -> Tensor:
            Cold.calls += 1
            time.sleep(0.03 if Cold.calls <= 7 else 0)
            return x_BCHW

    module = Cold()
    profiler = Profiler({"a": module}, SHAPE, QUICK.model_copy(update={"warmup_runs": 3}))
    runner = profiler.runner(module)  # one call, then two a round
    timings = profiler.run([runner], rng=np.random.default_rng(0))
    entry = timings.entries[runner.keys[0]]
    assert entry.ms + entry.spread_ms < 20
    assert Cold.calls >= 1 + 2 * (3 + 20)


def test_nothing_stays_behind() -> None:
    threads = torch.get_num_threads()
    module = nn.Conv2d(1, 1, 3)
    profiler = Profiler({"a": module}, SHAPE, QUICK)
    profiler.run([profiler.runner(module)], rng=np.random.default_rng(0))
    assert not module._forward_hooks
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no CUDA device here"):
        Profiler({}, SHAPE, LatencyConfig(device="cuda"))


# --- spaces ---------------------------------------------------------------------------------


def test_a_network_is_taken_apart_to_sequences_and_layers() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Identity())
    network = nn.Module()
    network.many = nn.ModuleList([inner, nn.Linear(1, 1)])
    network.one = nn.ReLU()
    assert list(units(network)) == [inner, network.many[1], network.one]


SMALL: dict[str, SpaceSection] = {
    "nasbench201": Cell201SpaceConfig(final_channels=4, final_cells_per_stage=1),
    "enas-micro": EnasMicroSpaceConfig(num_blocks=1, final_channels=4, final_cells_per_stage=1),
    "superkernel": SuperkernelSpaceConfig(
        num_nodes=1, kernel_sizes=(1, 3), dilations=(1,), final_channels=4, final_cells_per_stage=1
    ),
    "chain": ChainSpaceConfig(num_layers=2, vocabulary=4),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_space_has_a_table_that_predicts_networks_it_was_not_made_of(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_profile, "NUM_MEASURED", 6)
    monkeypatch.setattr(op_profiler, "_PATIENCE", 1)
    section = SMALL[name]
    table, check = profile_space(section, SHAPE, QUICK, num_checked=12)
    assert len(set(check.names)) == 12
    assert all(0 < ms < 1000 for ms in check.predicted_ms)
    assert table.made_for.space == make_space(section).identifier
    assert table.made_for.threads == 1
    assert len(check.to_dict()["networks"]) == 12
    assert OperationTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


@pytest.mark.parametrize("name", ["nasbench201", "enas-micro", "superkernel"])
def test_a_space_with_parts_has_all_its_operations_in_the_table(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_profile, "NUM_MEASURED", 1)
    monkeypatch.setattr(op_profiler, "_PATIENCE", 1)
    section = SMALL[name]
    table, _ = profile_space(section, SHAPE, QUICK, num_checked=1)
    space, rng = make_space(section), np.random.default_rng(5)
    parts: dict[str, nn.Module] = {}
    networks = []
    for _ in range(30):
        genotype = make_genotype(space, rng.integers(space.cardinalities))
        networks.append(
            space.assemble(  # type: ignore[attr-defined]
                genotype, SHAPE, lambda n, make: parts.setdefault(n, make()), "final"
            )
        )
    profiler = Profiler(parts, SHAPE, QUICK)
    for network in networks:
        network.eval()
        assert table.missing(profiler.runner(network).keys) == []


def test_figures_of_a_check() -> None:
    measured = tuple(TableEntry(ms, 0.0, 1) for ms in (1.0, 2.0, 4.0))
    check = Check(("a", "b", "c"), (1.1, 1.8, 4.0), measured, 0.0, 0.0)
    assert check.errors == pytest.approx([0.1, -0.1, 0.0])
    assert check.mean_absolute_error == pytest.approx(0.2 / 3)
    assert check.spearman == pytest.approx(1.0)
    turned = dataclasses.replace(check, predicted_ms=(3.0, 2.0, 1.0))
    assert turned.spearman == pytest.approx(-1.0)
    assert dataclasses.replace(check, predicted_ms=(1.0, 1.0, 1.0)).spearman is None
