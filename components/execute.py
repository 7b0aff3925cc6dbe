"""Runs one step in this process: `python3 -m components.execute STEP --executor_input JSON`.

It does what `kfp.dsl.executor_main` does, on code that is in the image, and works around limits of
KFP's launcher that its documentation does not mention:

- A folder without files is not uploaded, and does not exist for the next step. Every output folder
  therefore gets a file.
- The launcher cannot read outputs with a number that is not finite, and fails after all work is
  done. Such numbers are left out with a line in the log; MLflow has them.
- The launcher turns every failure into exit code 1. The reason is written to the file that
  `NAS_END_FILE` names, for the supervisor.
"""

import argparse
import inspect
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.ending import END_FILE, brief_excepthook, end_of, read_input
from nascore.errors import InputError

EMPTY = "EMPTY"
"""Name of the file in an output folder that would be empty."""


def main() -> int:
    """Run the step that the command line names."""
    parser = argparse.ArgumentParser(prog="python3 -m components.execute")
    parser.add_argument("step", help="name of the step, such as train_final")
    parser.add_argument("--executor_input", required=True, help="JSON, from KFP's launcher")
    arguments = parser.parse_args()
    sys.excepthook = brief_excepthook
    try:
        run(arguments.step, read_input(arguments.executor_input))
    except BaseException as error:
        _write_end(arguments.step, error)
        raise
    return 0


def run(step: str, executor_input: Mapping[str, Any]) -> None:
    """Call the function of a step as KFP's executor does, and make its outputs fit to upload.

    Args:
        step: name of a function in `components.kfp_components`.
        executor_input: argument of KFP's launcher: inputs, and paths of the outputs.

    Raises:
        InputError: there is no such step.
    """
    os.environ["_KFP_RUNTIME"] = "true"  # kfp leaves out its compiler
    from kfp.dsl.executor import Executor

    from components import kfp_components

    function = None if step.startswith("_") else vars(kfp_components).get(step)
    if not inspect.isfunction(function) or function.__module__ != kfp_components.__name__:
        raise InputError.of(
            "step", step, "is no step of the pipelines; see components/kfp_components.py"
        )
    executor = Executor(executor_input=dict(executor_input), function_to_execute=function)
    written = executor.execute()
    fill_empty_folders(Path(output.path) for output in executor.output_artifacts.values())
    if written is not None:
        drop_numbers_that_are_not_finite(Path(written))
    say_what_was_made(step, executor.output_artifacts)


# --- outputs that KFP's launcher can take -----------------------------------------------------


def fill_empty_folders(outputs: Iterable[Path]) -> None:
    """Write the file `EMPTY` into each output folder without files."""
    for folder in outputs:
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
            (folder / EMPTY).write_text("This folder is empty; object stores keep files only.\n")


def drop_numbers_that_are_not_finite(path: Path) -> None:
    """Rewrite the executor's output file without NaN and infinities, if it has any."""
    dropped: list[str] = []
    outputs = _finite(json.loads(path.read_text()), "", dropped)
    if dropped:
        path.write_text(json.dumps(outputs))
        print(f"note: not shown in Kubeflow, since not finite: {', '.join(dropped)}", flush=True)


def _finite(value: Any, where: str, dropped: list[str]) -> Any:
    """Return a value without numbers that are not finite, and add their places to `dropped`."""
    if isinstance(value, dict):
        finite = {}
        for key, item in value.items():
            place = f"{where}.{key}" if where else key
            if isinstance(item, float) and not math.isfinite(item):
                dropped.append(f"{place}={item}")
            else:
                finite[key] = _finite(item, place, dropped)
        return finite
    if isinstance(value, list):
        return [_finite(item, where, dropped) for item in value]
    return value


# --- log --------------------------------------------------------------------------------------


def say_what_was_made(step: str, outputs: Mapping[str, Any]) -> None:
    """End the log of a step with the addresses of its outputs; numbers and figures have no file."""
    made = [
        f"{name} in {output.uri}" for name, output in outputs.items() if Path(output.path).exists()
    ]
    if made:
        print(f"{step} made {', '.join(made)}", flush=True)


# --- failures ---------------------------------------------------------------------------------


def _write_end(step: str, error: BaseException) -> None:
    path = os.environ.get(END_FILE)
    if path and not (isinstance(error, SystemExit) and not error.code):
        Path(path).write_text(json.dumps(asdict(end_of(step, error))))


if __name__ == "__main__":
    sys.exit(main())
