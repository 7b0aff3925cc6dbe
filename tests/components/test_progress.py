"""What the log of a pod shows of a step; `nas run` reads a file instead."""

import json
from pathlib import Path

import pytest

from components import progress
from components.progress import Throttle, describe, is_news, report


def child(number: int, *, accuracy: float | None, best: float) -> dict[str, object]:
    return {
        "arm": "method",
        "number": number,
        "of": 100,
        "valid_accuracy": accuracy,
        "best": best,
        "seconds_left": 60.0,
    }


def test_a_pod_prints_a_line_an_event(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finding M3: the log of a search was silent for hours."""
    monkeypatch.delenv("NAS_PROGRESS_FILE", raising=False)
    monkeypatch.setattr(progress, "_IN_LOG", Throttle())
    report("search", "started")
    report("search", "child", **child(0, accuracy=0.5, best=0.5))
    report("search", "finished", seconds=75.2, busy={}, metrics={"valid_accuracy": 0.51234})
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "search ...",
        "search  child 1 of 100: valid accuracy 0.500, best 0.500, about 1 min 00 s left",
        "search done in 1 min 15 s: valid_accuracy 0.5123",
    ]


def test_thousands_of_children_are_a_line_every_ten_seconds_and_all_news() -> None:
    throttle = Throttle()

    def said(time: float, accuracy: float | None, best: float) -> bool:
        event = {"event": "child", "time": time, **child(5, accuracy=accuracy, best=best)}
        return throttle.is_worth_a_line(event)

    assert said(0, 0.4, 0.5)
    assert not said(1, 0.4, 0.5)
    assert said(2, 0.6, 0.6), "the best so far"
    assert said(3, None, 0.6), "a failure"
    assert not said(12.9, 0.5, 0.6)
    assert said(13, 0.5, 0.6)


def test_with_a_file_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAS_PROGRESS_FILE", str(tmp_path / "progress.jsonl"))
    report("search", "started")
    assert capsys.readouterr().out == ""
    event = json.loads((tmp_path / "progress.jsonl").read_text())
    assert (event["step"], event["event"]) == ("search", "started")


@pytest.mark.parametrize("to_file", [True, False])
def test_texts_are_written_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    to_file: bool,
) -> None:
    """An error of a service may contain its address, a header or a presigned URL."""
    monkeypatch.setattr(progress, "_IN_LOG", Throttle())
    monkeypatch.delenv("NAS_PROGRESS_FILE", raising=False)
    if to_file:
        monkeypatch.setenv("NAS_PROGRESS_FILE", str(tmp_path / "progress.jsonl"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-0123\n")
    for text in (
        "no answer from http://me:planted-0123@host/",
        "Invalid header value b'Bearer planted-4567\\n'",
        "Authorization: Basic cGxhbnRlZC04OTAx",
        "GET https://h/b/k?X-Amz-Signature=planted-2345&x=1",
        "key 'planted-0123' refused",
    ):
        report("search", "note", text=text)
        report("search", "failed", error=text)
    path = tmp_path / "progress.jsonl"
    written = path.read_text() if to_file else capsys.readouterr().out
    assert written.count("***") == (10 if to_file else 5)  # a pod ends with its own line
    assert "planted" not in written
    assert "cGxhbnRlZC04OTAx" not in written


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("rejected", "child 3: not trained, costs too much, best 0.500"),
        ("pruned", "child 3: ended early by the pruner, best 0.500"),
        ("failed", "child 3: failed, best 0.500"),
    ],
)
def test_a_child_without_a_score_is_shown_with_the_reason(status: str, shown: str) -> None:
    event = child(2, accuracy=None, best=0.5) | {"of": None, "seconds_left": None, "status": status}
    text = describe({"step": "search", "event": "child", "time": 0.0, **event})
    assert text == f"search  {shown}"


def test_a_child_with_a_score_is_shown_with_it() -> None:
    event = {**child(2, accuracy=0.5, best=0.5), "status": "finished"}
    text = describe({"step": "search", "event": "child", "time": 0.0, **event})
    assert text == (
        "search  child 3 of 100: valid accuracy 0.500, best 0.500, about 1 min 00 s left"
    )


def test_rejected_children_are_no_news() -> None:
    event = {"event": "child", **child(2, accuracy=None, best=0.5)}
    assert is_news({**event, "status": "failed"})
    assert not is_news({**event, "status": "rejected"})


@pytest.mark.parametrize(("of", "shown"), [(60, "epoch 56 of 60"), (None, "epoch 56")])
def test_a_training_for_a_time_has_no_number_of_epochs(of: int | None, shown: str) -> None:
    event = {"step": "train_final", "event": "epoch", "epoch": 55, "of": of, "valid_accuracy": 0.5}
    assert describe(event) == f"train_final  {shown}, valid accuracy 0.500"
    assert not is_news(event)
