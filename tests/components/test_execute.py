"""What a step adds to kfp's executor: outputs that the launcher takes, and the reason of an end."""

import json
import math
from pathlib import Path

import pytest
from kfp.dsl import Metrics, Model

from components.ending import End, brief_excepthook, end_of
from components.execute import (
    EMPTY,
    drop_numbers_that_are_not_finite,
    fill_empty_folders,
    say_what_was_made,
)
from components.steps.state import fingerprint
from nascore.errors import InputError, ResourceUnavailable, ServiceUnavailable


def test_an_empty_folder_gets_a_file(tmp_path: Path) -> None:
    """Finding C1: KFP's launcher uploads files only, and an empty folder is lost on the way."""
    empty, nested, full, missing = (tmp_path / name for name in ("a", "b", "c", "d"))
    empty.mkdir()
    (nested / "below").mkdir(parents=True)
    full.mkdir()
    (full / "file").touch()
    fill_empty_folders([empty, nested, full, missing])
    assert (empty / EMPTY).exists()
    assert (nested / EMPTY).exists()
    assert [path.name for path in full.iterdir()] == ["file"]
    assert not missing.exists(), "a metrics artifact has no file, which is well"


def test_a_folder_that_was_lost_on_the_way_is_the_same_input_as_an_empty_one(
    tmp_path: Path,
) -> None:
    """Finding C1: `train_final` died of it, after the whole search was paid for."""
    from components.config.schema import Config

    (tmp_path / "weights").mkdir()
    kept = fingerprint(Config(), {"weights": tmp_path / "weights"})
    assert fingerprint(Config(), {"weights": tmp_path / "lost"}) == kept


def test_numbers_that_are_not_finite_do_not_reach_the_launcher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finding L6: one NaN among the metrics breaks its reading of all outputs."""
    outputs = {
        "artifacts": {"metrics": {"metadata": {"accuracy": 0.5, "loss": math.nan}}},
        "parameterValues": {"gain": math.inf, "list": [1.0, 2.0]},
    }
    path = tmp_path / "output_metadata.json"
    path.write_text(json.dumps(outputs))
    drop_numbers_that_are_not_finite(path)
    strict = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert strict == {
        "artifacts": {"metrics": {"metadata": {"accuracy": 0.5}}},
        "parameterValues": {"list": [1.0, 2.0]},
    }
    assert "artifacts.metrics.metadata.loss=nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError.of("seed", "x", "is wrong"), "input"),
        (ResourceUnavailable.of("data.source", "x", "is unreachable"), "outage"),
        (ServiceUnavailable("study database", "no answer"), "outage"),
        (RuntimeError("CUDA error"), "crash"),
        (MemoryError(), "memory"),
        (SystemExit(143), "stopped"),
    ],
)
def test_kinds_of_ends(error: BaseException, kind: str) -> None:
    assert end_of("search", error).kind == kind


def test_a_traceback_is_printed_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ConnectionError("http://me:planted@host: Invalid header value b'Bearer planted'")
    except ConnectionError as error:
        brief_excepthook(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "ConnectionError: http://me:***@host: Invalid header value b'Bearer ***'" in printed
    # The line of code above is a part of the traceback, and is redacted as well.
    assert "planted" not in printed


def test_an_end_survives_the_log_of_a_pod() -> None:
    end = End("search", "input", "two\nlines with https://me:secret@host/ and \u20ac")
    log = f"2026-11-29 info\n{end.line()}\ntime=x level=INFO msg=sub-process exited\n"
    found = End.parse_last(log)
    assert found is not None
    assert found.reason == "two\nlines with https://me:***@host/ and \u20ac"
    assert len(end.line().splitlines()) == 1
    assert End.parse_last("nas-end: {not json}\nnothing") is None
    assert End.parse_last('nas-end: {"step": "x", "kind": "odd", "reason": ""}') is None


def test_the_log_of_a_step_ends_with_what_it_made_and_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    model, metrics = Model(uri=str(tmp_path / "model")), Metrics(uri=str(tmp_path / "metrics"))
    say_what_was_made("train_final", {"model": model, "metrics": metrics})
    assert capsys.readouterr().out == f"train_final made model in {tmp_path / 'model'}\n"
    say_what_was_made("search_worker", {})
    assert capsys.readouterr().out == ""
