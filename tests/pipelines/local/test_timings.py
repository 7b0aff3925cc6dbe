"""Where the time of a run has gone."""

from typing import Any

import pytest

from pipelines.local.timings import table, timings_of

START = 1000.0


def event(time: float, step: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"time": START + time, "step": step, "event": kind, **fields}


EVENTS = [
    event(1, "fork_server", "imported", module="torch", seconds=2.5),
    event(3, "prepare_data", "started"),
    event(5, "prepare_data", "finished", seconds=2.0, busy={"data": 1.5}, parts={}),
    event(6, "search", "started"),
    event(6, "fork_server", "imported", module="mlflow", seconds=1.5),
    event(16, "search", "finished", seconds=10.0, busy={"data": 0.5, "training": 9.0}, parts={}),
    event(16.5, "profile_latency", "started"),
    event(18, "profile_latency", "finished", seconds=1.5, busy={"profiling": 1.0}),
    event(18.5, "promote", "started"),
    event(20, "promote", "finished", seconds=1.5, busy={}, parts={"report": 0.25}),
]


def test_the_parts_add_up_to_the_whole() -> None:
    timings = timings_of(EVENTS, start_s=START, total_s=22.0)
    assert timings["overhead_s"] == 22.0 - 1.5 - 9.5 - 1.0
    steps = timings["steps"].values()
    parts = sum(step["start_up_s"] + step["rest_s"] for step in steps)
    assert timings["begin_s"] + parts + timings["end_s"] == pytest.approx(timings["overhead_s"])
    assert [step["start_up_s"] for step in steps] == [0.0, 1.0, 0.5, 0.5]
    expected = {"data_s": 2.0, "search_s": 9.0, "profile_s": 1.0, "report_s": 0.25}
    expected |= {"imports_s": 4.0, "train_s": 0.0, "total_s": 22.0}
    assert timings.items() >= expected.items()


def test_the_table_names_every_step_and_the_report() -> None:
    text = "\n".join(table(timings_of(EVENTS, start_s=START, total_s=22.0)))
    for word in ("prepare_data", "search", "promote", "report", "overhead 10.0 of 22.0"):
        assert word in text


def test_a_step_that_was_done_before_costs_nothing() -> None:
    events = [
        event(3, "prepare_data", "started"),
        event(3.1, "prepare_data", "finished", seconds=0.0, busy={}, restored=True),
    ]
    timings = timings_of(events, start_s=START, total_s=4.0)
    assert timings["overhead_s"] == 4.0
    assert timings["steps"]["prepare_data"]["rest_s"] == 0.0
