"""Runs a compiled pipeline on this machine, in local processes: the same file as on Kubeflow.

    python -m pipelines.local --out FOLDER

A child process of `nas run`. FOLDER holds `config.json`; the pipeline is compiled from it to
`pipeline.yaml`, and that file is what runs. The tracking spool is followed for the whole run.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from components.config import loads
from components.tracking import follower

CONFIG = "config.json"
PIPELINE = "pipeline.yaml"
PROGRESS = "progress.jsonl"
LOG = "pipeline.log"
RESULT = "result.json"
REPORT = "report.html"


def environment(out: Path) -> dict[str, str]:
    """What the steps need to know of this run; see docs/architecture.md."""
    return {
        "NAS_STATE_DIR": str(out / "state"),
        "NAS_PROGRESS_FILE": str(out / PROGRESS),
        "NAS_SPOOL_DIR": str(out / "spool"),
    }


def run(out: Path) -> None:
    """Compiles and runs; `result.json` and `report.html` lie in `out` afterwards.

    Raises:
        RuntimeError: a step failed (kfp's own error; the step's is in the log).
    """
    os.environ.update(environment(out))
    spool = out / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    config = loads((out / CONFIG).read_text())
    with follower(spool):
        from kfp import components, local

        from pipelines.search import compile_search

        compile_search(config, out / PIPELINE)
        # The image's name does not matter here: steps run in this environment.
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(out / "pipeline"),
            raise_on_error=True,
        )
        pipeline = components.load_component_from_text(_without_retries(out / PIPELINE))
        outputs = pipeline().outputs
        _collect(out, outputs)


def _without_retries(path: Path) -> str:
    """The compiled file, but a step that fails is not tried again after minutes of back-off: here
    a person is watching, and `--resume` goes on."""
    documents = list(yaml.safe_load_all(path.read_text()))
    for task in documents[0]["root"]["dag"]["tasks"].values():
        task.pop("retryPolicy", None)
    return yaml.safe_dump_all(documents)


def _collect(out: Path, outputs: dict[str, Any]) -> None:
    for name, target in (("result", RESULT), ("report", REPORT)):
        temporary = out / f".{target}"
        shutil.copyfile(outputs[name].path, temporary)
        os.replace(temporary, out / target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    run(parser.parse_args().out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
