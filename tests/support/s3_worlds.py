"""S3-compatible stores as they are found: `nas doctor` and `nas run` at the address of one."""

import functools
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from field_commands import TINY, nas, soon_s, together
from s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server

SETTINGS = (*TINY, "data.max_train=null", "data.source=npz:s3://data/field.npz")
EXPORT = {"promote.export_to": "s3://data/handed-over"}
Ask = Callable[..., "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the two commands said.

    Attributes:
        doctor: rows of `nas doctor --json` by their check.
        seconds: of the run, from its start to its end.
        out: folder of the run.
    """

    doctor: dict[str, dict[str, str]]
    status: int
    stderr: str
    seconds: float
    out: Path

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "result.json").read_text())
        return found

    def row(self, check: str) -> str:
        """Status and message of a check, short enough for the table."""
        found = self.doctor[check]
        return f"{found['status']} {check}: {found['remedy'] or found['detail']}"[:380]

    @property
    def message(self) -> str:
        """Exit status and the last message, short enough for the table."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        text = " ".join(line.strip() for line in lines[-3:])
        return f"exit {self.status}: {text}"[:380]


def put_images(server: S3Server) -> None:
    """Put the data set of `SETTINGS` into the bucket `data`."""
    server.bucket("data")
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = (rng.integers(0, 120, (240, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
    np.savez(file, x_train=images, y_train=labels)
    server.client().put_object(Bucket="data", Key="field.npz", Body=file.getvalue())


def asking(url: str, folder: Path) -> Ask:
    """Return `ask({setting: value}, VARIABLE=value)`: doctor, then the run, both at the store.

    `before` has the words before both commands, such as those of a mount namespace.

    Args:
        url: address of the store.
        folder: current folder of both commands.
    """

    def call(
        changed: dict[str, Any] | None = None,
        *,
        before: tuple[str, ...] = (),
        out: str = "run",
        **variables: str | None,
    ) -> Seen:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(folder / "aws-config"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "1000",
        }
        environment |= {name: value for name, value in variables.items() if value is not None}
        for name in [name for name, value in variables.items() if value is None]:
            environment.pop(name, None)
        given = {"tracking.uri": f"sqlite:///{folder}/mlflow.db", **(changed or {})}
        settings = together(*SETTINGS, *(f"{key}={value}" for key, value in given.items()))
        called = functools.partial(
            nas, folder=folder, settings=settings, environment=environment, before=before
        )
        examined, done = called("doctor", "--json"), called("run", f"--out={out}")
        assert SECRET_KEY not in examined.out + examined.err + done.out + done.err
        assert examined.out, examined.err
        rows = {row["check"]: row for row in json.loads(examined.out)}
        return Seen(rows, done.status, done.err, done.seconds, folder / out)

    return call


def refused(seen: Seen, check: str, *expected: str) -> None:
    """Check that both commands name the cause before anything is trained."""
    assert seen.status == 2, seen.stderr
    assert seen.doctor[check]["status"] == "problem", seen.doctor[check]
    for text in expected:
        assert text in seen.stderr
        assert text in seen.doctor[check]["remedy"]
    assert not seen.out.exists()
    assert seen.seconds < soon_s()
