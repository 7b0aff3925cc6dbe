"""The commands that `nas run` prints at its end."""

from pathlib import Path

import pytest

from components.config.schema import parse
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
