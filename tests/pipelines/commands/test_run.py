"""The commands that `nas run` prints at its end."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from components.config.schema import parse
from pipelines.commands import run
from pipelines.commands.run import _compile_command


@pytest.mark.parametrize(
    ("source", "following"),
    [
        ("digits", "nas compile 'a b/config.json'"),
        ("imagefolder:s3://bucket/x", "nas compile 'a b/config.json'"),
        ("npz:x.npz", "nas compile 'a b/config.json' --data npz:s3://BUCKET/KEY"),
    ],
)
def test_local_data_are_replaced_for_a_cluster(source: str, following: str) -> None:
    assert _compile_command(Path("a b"), parse({"data": {"source": source}})) == following


@pytest.mark.parametrize("folder", ["runs/one", "/tmp/" + "long-name/" * 12 + "one"])
def test_the_following_commands_are_in_one_column(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.local.progress.summary", lambda result, out: ["summary"])
    printed = StringIO()
    run._say_result({}, Path(folder), Console(file=printed, width=80), parse({}))
    lines = printed.getvalue().split("Next:\n")[1].splitlines()
    assert len(lines) == 3
    assert {line.index("nas ") for line in lines} == {31}
    assert lines[1].endswith(f"{folder}/config.json")
