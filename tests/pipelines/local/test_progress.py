"""What a person sees: from a progress file as the steps write it, plain and in a terminal."""

import json
import os
import pty
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.local.events import ProgressFile
from pipelines.local.progress import Display, describe, duration, follow, summary


def event(kind: str, step: str = "search", at: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"time": at, "step": step, "event": kind, **fields}


def child(number: int, accuracy: float | None, best: float | None, **fields: Any) -> dict[str, Any]:
    values = {"arm": "method", "number": number, "of": 16, "seconds_left": 75.0, **fields}
    return event("child", valid_accuracy=accuracy, best=best, **values)


RUN = [
    event("started", "prepare_data"),
    event("finished", "prepare_data", seconds=1.2, busy={"data": 1.1}),
    event("started", "pretrain_controller"),
    event("finished", "pretrain_controller", seconds=0.0, busy={}, restored=True),
    event("started"),
    child(0, 0.5, 0.5, at=1.0),
    child(1, 0.4, 0.5, at=2.0),
    child(2, 0.45, 0.5, at=3.0),
    child(3, None, 0.5, at=4.0),
    child(4, 0.9, 0.9, at=5.0),
    child(5, 0.6, 0.9, at=20.0, seconds_left=None, of=None),
    child(15, 0.7, 0.9, at=21.0, seconds_left=0.0),
    child(0, 0.8, 0.8, at=22.0, arm="control"),
    event("finished", seconds=100.0, busy={"data": 2.0, "training": 95.0}),
    event("started", "train_final"),
    event("epoch", "train_final", at=30.0, epoch=0, of=40, valid_accuracy=0.25),
    event("epoch", "train_final", at=31.0, epoch=1, of=40, valid_accuracy=None),
    event("note", "tracking", text="the store is away; [bold]kept[/bold] [/x] :warning:"),
    event("epoch", "train_final", at=32.0, epoch=39, of=40, valid_accuracy=0.9876),
    event("finished", "train_final", seconds=3725.0, busy={"training": 3700.0}),
]
PLAIN = """\
[1/7] prepare_data ...
[1/7] prepare_data done in 1 s
[2/7] pretrain_controller ...
[2/7] pretrain_controller was done before
[3/7] search ...
[3/7] search  child 1 of 16: valid accuracy 0.500, best 0.500, about 1 min 15 s left
[3/7] search  child 4 of 16: failed, best 0.500, about 1 min 15 s left
[3/7] search  child 5 of 16: valid accuracy 0.900, best 0.900, about 1 min 15 s left
[3/7] search  child 6: valid accuracy 0.600, best 0.900
[3/7] search  child 16 of 16: valid accuracy 0.700, best 0.900, about 0 s left
[3/7] search  random control 1 of 16: valid accuracy 0.800, best 0.800, about 1 min 15 s left
[3/7] search done in 1 min 40 s
[4/7] train_final ...
[4/7] train_final  epoch 1 of 40, valid accuracy 0.250
the store is away; [bold]kept[/bold] [/x] :warning:
[4/7] train_final  epoch 40 of 40, valid accuracy 0.988
[4/7] train_final done in 1 h 02 min
"""


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in events))
    return path


def test_plain_lines_say_what_is_new_and_no_more(tmp_path: Path) -> None:
    """Children 2 and 3 and epoch 2 are no news within ten seconds; markup is shown as it is."""
    out = StringIO()
    with Display(Console(file=out, width=40, markup=False, emoji=False)) as display:
        follow(write(tmp_path / "p", RUN), display, is_running=lambda: False)
    assert out.getvalue() == PLAIN
    assert (display.step, display.failure) == ("train_final", None)


@pytest.mark.parametrize("kind", ["failed", "input_error"])
def test_a_failure_is_kept_for_the_last_word(kind: str) -> None:
    out = StringIO()
    failure = event(kind, "train_final", error="ValueError: no", problems=[])
    with Display(Console(file=out)) as display:
        display.show(event("started", "train_final"))
        display.show(failure)
    assert out.getvalue() == "[4/7] train_final ...\n"
    assert display.failure == failure


def test_an_event_of_a_later_version_is_passed_over() -> None:
    assert describe(event("something_new", value=1)) is None


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    events = ProgressFile(path)
    assert list(events.new()) == []
    first, second = (json.dumps(event("started", step)) + "\n" for step in ("search", "promote"))
    path.write_text(first + second[:10])
    assert [one["step"] for one in events.new()] == ["search"]
    with open(path, "a") as file:
        file.write(second[10:])
    assert [one["step"] for one in events.new()] == ["promote"]
    assert list(events.new()) == []


def test_a_line_that_a_killed_process_tore_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    whole = json.dumps(event("started", "promote")) + "\n"
    path.write_text('{"time": 1.0, "step": "sea' + whole + '["no event"]\n' + whole)
    torn, other, good = ProgressFile(path).new()
    assert torn["event"] == other["event"] == "note"
    assert "unreadable" in torn["text"]
    assert good["step"] == "promote"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (119.7, "2 min 00 s"),
        (3599.9, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_durations_are_rounded_once(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def result(**changes: Any) -> dict[str, Any]:
    values = {
        "test_accuracy": 0.98765,
        "valid_accuracy": 0.97,
        "verdict": {"statement": "It is undecided whether nases beats random search."},
        "control": None,
        "references": [],
        "references_left_out": [],
        "shipped": None,
        "recommendation": {"ship": "found", "why": "Nothing was compared."},
        "num_params": 1234567,
        "macs": 2_500_000,
        "latency_ms": {"p50": 1.234, "p95": 2.0, "batch_size": 1, "device": "cpu"},
        "model_uri": "models:/nas-model/3",
        "promotion": {"alias": "challenger"},
        "seconds": {"prepare_data": 1.0, "search": 65.0, "total": 80.04, "overhead": 12.34},
    }
    return {**values, **changes}


def test_the_summary_holds_what_one_wants_to_know(tmp_path: Path) -> None:
    lines = {line[:16].strip(): line[16:] for line in summary(result(), tmp_path)}
    assert lines == {
        "test accuracy": "0.9877",
        "valid accuracy": "0.9700",
        "verdict": "It is undecided whether nases beats random search.",
        "recommendation": "Nothing was compared.",
        "size": "1,234,567 parameters, 2.50 M MACs",
        "latency": "p50 1.23 ms, p95 2.00 ms (batch 1, cpu)",
        "model": "models:/nas-model/3 (challenger)",
        "time": "1 min 06 s in the steps; the command 1 min 20 s, of it overhead 12.3 s",
        "by step": "prepare_data 1 s, search 1 min 05 s",
        "report": str(tmp_path / "report.html"),
    }


def test_the_summary_says_how_long_the_training_waited_for_data(tmp_path: Path) -> None:
    lines = summary(result(data_wait_share=0.125), tmp_path)
    assert "of it overhead 12.3 s; final training waited for data 12%" in "\n".join(lines)


def test_the_summary_compares_the_ensemble_of_finalists(tmp_path: Path) -> None:
    ensemble = {
        "test_accuracy": 0.99,
        "difference": -0.0024,
        "p_value": 0.03,
        "num_params": 2500000,
        "latency": {"p50_ms": 2.5},
    }
    lines = {line[:16].strip(): line[16:] for line in summary(result(ensemble=ensemble), tmp_path)}
    found = "0.9900 (found -0.24 points, p 0.03), 2.50 ms, 2,500,000 parameters"
    assert lines["ensemble"] == found


def test_the_summary_without_a_control_says_so(tmp_path: Path) -> None:
    assert "no control was run" in "\n".join(summary(result(verdict=None), tmp_path))


# --- in a terminal --------------------------------------------------------------------------

_WATCH = """
import sys, time
from pathlib import Path
from rich.console import Console
from pipelines.local.progress import Display, follow
end = time.monotonic() + 1.2
with Display(Console(markup=False, emoji=False)) as display:
    follow(Path(sys.argv[1]), display, is_running=lambda: time.monotonic() < end)
"""


def in_a_terminal(path: Path, feed: list[dict[str, Any]], *, columns: int, **env: str) -> str:
    """What a process writes to a terminal while the progress file grows."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24", **env}
    process = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(path)],
        stdout=secondary,
        stderr=secondary,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    os.close(secondary)
    writer = threading.Thread(target=lambda: write(path, feed))
    writer.start()
    shown = b""
    try:
        while data := os.read(primary, 65536):
            shown += data
    except OSError:  # Linux tells the end of the other side as an error
        pass
    writer.join()
    os.close(primary)
    assert process.wait(timeout=10) == 0, shown.decode()
    return shown.decode()


def test_a_terminal_has_one_live_line_and_the_steps_that_are_done(tmp_path: Path) -> None:
    feed = [*RUN[:2], event("started"), child(7, 0.912, 0.953)]
    shown = in_a_terminal(tmp_path / "p", feed, columns=100)
    live = "[3/7] search  child 8 of 16: valid accuracy 0.912, best 0.953, about 1 min 15 s left"
    assert shown.count(live) > 3, "the line is renewed"
    assert "⠋" in shown
    assert "[1/7] prepare_data done in 1 s" in shown
    assert "\x1b[2K" in shown, "the line is drawn over itself"
    assert "\x1b[?25h" in shown, "the cursor is back at the end"
    assert shown.rstrip().count("prepare_data ...") <= 1


def test_a_narrow_terminal_cuts_the_line_instead_of_wrapping_it(tmp_path: Path) -> None:
    shown = in_a_terminal(tmp_path / "p", [event("started"), child(7, 0.9, 0.9)], columns=30)
    assert "[3/7] search  child 8 of" in shown
    assert "left" not in shown


def test_a_terminal_without_unicode_gets_ascii(tmp_path: Path) -> None:
    shown = in_a_terminal(tmp_path / "p", RUN[:1], columns=80, PYTHONIOENCODING="ascii")
    assert "[1/7] prepare_data ..." in shown
    assert shown.isascii()


def test_the_name_of_a_class_splits_no_line(tmp_path: Path) -> None:
    figures = {"do\ng\x1b[2J": {"recall": 0.5, "support": 4}}
    lines = summary(result(per_class=figures), tmp_path)
    (line,) = [line for line in lines if line.startswith("worst class")]
    assert r"do\ng\x1b[2J, recall 0.5000 of 4 test images" in line
