"""Records what each method finds at a fixed seed and a small budget, to the last bit.

    python benchmarks/same_results.py --write FILE     before a change that must change no result
    python benchmarks/same_results.py --compare FILE   after it; exit status 1 where a value differs

The steps of the search pipeline run in this process, on one thread, on the digits of scikit-learn.
Values are hexadecimal, so that equal means equal to the last bit on the same machine.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NAS_CPUS="1")

COMMON = [
    "seed=7",
    "data.max_train=240",
    "search.child.epochs=1",
    "search.child.max_steps=6",
    "train.epochs=1",
    "train.max_steps=6",
]
CHILDREN = ["search.budget.children=4"]
AUTOENCODER = [f"search.options.autoencoder.{part}" for part in ("steps=50", "num_strings=500")]
META = [f"search.options.{name}.outer_steps=5" for name in ("meta", "final")]
STEPS = ["search.budget.steps=24"]
SETTINGS = {
    "nases": [*CHILDREN, *AUTOENCODER],
    "nases-paper": [*CHILDREN, *AUTOENCODER],
    "random": CHILDREN,
    "regularized-evolution": CHILDREN,
    "local-search": CHILDREN,
    "tpe": CHILDREN,
    "enas": STEPS,
    "memory-enas": STEPS,
    "random-ws": STEPS,
    "nasib": STEPS,
    "instanas": [*STEPS, "search.options.table=macs", "search.options.reward.end=1.0"],
    "auto-meta": ["search.budget.children=2", *META],
}


def record(method: str, more: list[str]) -> dict[str, Any]:
    """Return what a search and the final training of a method give."""
    from components.steps import prepare_data, pretrain_controller, search, train_final
    from components.steps.compiled import Compiled, run_key_of
    from pipelines.config import resolve

    config = resolve(None, "quick", [f"method={method}", *COMMON, *more])
    text = importlib.import_module(type(config).__module__).dumps(config)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(NAS_STATE_DIR=str(folder / "state"), NAS_SPOOL_DIR=str(folder / "spool"))
        dataset = folder / "dataset"
        prepare_data.run(
            config=text,
            compiled=Compiled(searches=True),
            parameters={},
            job_name="",
            dataset=dataset,
        )
        given = {"run_key": run_key_of(dataset), "dataset": dataset}
        controller, weights = folder / "controller", folder / "weights"
        result, model = folder / "search_result.json", folder / "model"
        pretrain_controller.run(**given, controller=controller)
        search.run(**given, controller=controller, search_result=result, weights=weights)
        train_final.run(**given, search_result=result, weights=weights, model=model)
        return {
            "search": _exact(json.loads(result.read_text())),
            "final": _exact(json.loads((model / "model.json").read_text())),
        }


_CLOCKS = (
    "busy",
    "duration",
    "seconds",
    "_s",
    "time",
    "started",
    "ended",
    "versions",
    "wait",
    "device",
)


def _exact(value: Any) -> Any:
    """Return JSON with numbers in hexadecimal and without what a clock or the machine says."""
    if isinstance(value, dict):
        return {k: _exact(v) for k, v in value.items() if not any(c in k for c in _CLOCKS)}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    return value.hex() if isinstance(value, float) else value


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """Return the places where two records differ; keys that only one has are named, too."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            found
            for key in sorted(before.keys() | after.keys())
            for found in differences(before.get(key), after.get(key), f"{place}.{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [found for i, (a, b) in pairs for found in differences(a, b, f"{place}[{i}]")]
    return [] if before == after else [f"{place}: {before} became {after}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE")
    what.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("--methods", default=",".join(SETTINGS), metavar="A,B,...")
    arguments = parser.parse_args()
    found = {method: record(method, SETTINGS[method]) for method in arguments.methods.split(",")}
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return 0
    before = json.loads(arguments.compare.read_text())
    lines = differences({method: before.get(method) for method in found}, found)
    print("\n".join(lines) if lines else f"{len(found)} methods: the same to the last bit")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
