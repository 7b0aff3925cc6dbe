"""Auto-Meta against the four convolutions of MAML, over seeds, on characters of unseen alphabets.

    python benchmarks/auto_meta.py --data imagefolder:OMNIGLOT

Each seed is a whole run of the search pipeline (`nas run`), whose final training includes MAML's
network with at least as many weights; both are tested with one and with five shots. A run that has
ended is not repeated, one that was cut off is resumed. Then the speed of a meta-batch is measured:
a loop, `vmap`, a loop with the channels-last layout, and that with autograd alone, as the product
does. Writes docs/results/auto_meta.{json,md}.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nas_runs import nas
from torch import Tensor

from nascore.latency.benchmark import device_name
from nascore.meta_learning.conv4 import Conv4
from nascore.meta_learning.execution import OneTask, run_looped, run_vmapped
from nascore.meta_learning.learners import Inner, Parameters, fomaml_gradient, stateless
from nascore.meta_learning.task_adaptation import Grad, plain_grad

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SETTINGS = Path(__file__).parent / "auto_meta.yaml"
WAYS, QUERIES, TASKS, INNER_STEPS = 5, 5, 8, 5


def run_once(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the pipeline up to the trained network."""
    out = arguments.work / str(seed)
    model = out / "state/train_final/outputs/model/model.json"
    if not (out / "result.json").exists():
        settings = {
            "seed": seed,
            "data.source": arguments.data,
            "tracking.uri": f"sqlite:///{out}/mlflow.db",
        }
        resume = ["--resume"] if (out / "config.json").exists() else []
        given = [str(SETTINGS), *(f"--set={key}={value}" for key, value in settings.items())]
        nas("run", f"--out={out}", *(resume or given))
    result, trained = (json.loads(path.read_text()) for path in (out / "result.json", model))
    details = trained["details"]["auto_meta"]
    for test in details["tests"]:
        print(f"seed {seed}, {test['shots']}-shot: {test['own']['mean']:.4f}", file=sys.stderr)
    return {
        "seed": seed,
        "seconds": result["seconds"],
        "valid_accuracy": trained["valid_accuracy"],
        "duration_s": trained["duration_s"],
        **details,
    }


# --- speed ------------------------------------------------------------------------------------


def speeds(repeats: int) -> list[dict[str, Any]]:
    """Measure the seconds of the gradients of one meta-batch: 8 tasks, 5 inner SGD steps."""
    return [speed(channels, shots, repeats=repeats) for channels in (32, 64) for shots in (1, 5)]


def speed(channels: int, shots: int, *, repeats: int) -> dict[str, Any]:
    """Measure all modes alternately, so that other load on the machine slows all of them.

    With one thread its own time is counted.
    """
    torch.manual_seed(0)
    forward, parameters = stateless(Conv4(1, 28, WAYS, channels=channels))
    labels = torch.arange(WAYS)
    tasks = (
        torch.randn(TASKS, WAYS * shots, 1, 28, 28),
        labels.repeat_interleave(shots).expand(TASKS, -1),
        torch.randn(TASKS, WAYS * QUERIES, 1, 28, 28),
        labels.repeat_interleave(QUERIES).expand(TASKS, -1),
    )

    def gradient(*task: Tensor, grad: Grad = torch.func.grad) -> Parameters:
        inner = Inner("sgd", 0.01, INNER_STEPS)
        given = {name: p.to(task[0].dtype) for name, p in parameters.items()}
        return fomaml_gradient(forward, given, *task, inner=inner, grad=grad)

    modes = {
        "loop": lambda: simple_loop(gradient, *tasks),
        "vmap": lambda: run_vmapped(gradient, *tasks),
        "channels_last": lambda: run_looped(gradient, *tasks),
        "plain": lambda: run_looped(partial(gradient, grad=plain_grad), *tasks),
    }
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in modes}
    for _ in range(repeats):
        for name, run in modes.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {
        "channels": channels,
        "shots": shots,
        **{f"{name}_s": min(values) for name, values in seconds.items()},
        "largest_difference": _difference(gradient, tasks),
    }


def simple_loop(function: OneTask, *tensors: Tensor) -> Parameters:
    """Apply a function to one task after the other, with images as they are."""
    results = [function(*task) for task in zip(*tensors, strict=True)]
    return {name: torch.stack([one[name] for one in results]) for name in results[0]}


def _difference(gradient: Callable[..., Parameters], tasks: Sequence[Tensor]) -> float:
    """Return the largest difference of the modes from the loop, relative to the largest gradient.

    Computed on two tasks, in double precision: in single precision pixels that are nearly equal may
    win a maximum in one mode and not in the other.
    """
    few = [part[:2].double() if part.is_floating_point() else part[:2] for part in tasks]
    one_by_one = simple_loop(gradient, *few)
    most = max(float(one.abs().max()) for one in one_by_one.values())
    others = (
        run_vmapped(gradient, *few),
        run_looped(gradient, *few),
        run_looped(partial(gradient, grad=plain_grad), *few),
    )
    return max(
        float((other[name] - one_by_one[name]).abs().max()) / most
        for other in others
        for name in one_by_one
    )


# --- writing ----------------------------------------------------------------------------------


def markdown(document: Mapping[str, Any]) -> str:
    lines = [
        "# Auto-Meta against the four convolutions of MAML",
        "",
        f"{document['date']}, {document['device']}, seeds {document['seeds']}; settings in "
        "`benchmarks/auto_meta.yaml`. Renewed by",
        "",
        "    python benchmarks/auto_meta.py --data imagefolder:OMNIGLOT",
        "",
        "5-way tasks of characters of alphabets that were seen neither in the search nor in the",
        "training; all query images of a task are one batch (transductive). Accuracies are in",
        "percent with 95 % intervals over 600 tasks; differences are of the same tasks. Depth and",
        "width are those of the cell; rank correlations are of predictions before a stage.",
        f"Minutes are of the whole pipeline, {document['jobs']} at a time. Tasks are learned in "
        f"{_learned(document['runs'][0])}, by four",
        f"convolutions in {_learned(document['runs'][0]['conv4_baseline'])}.",
        "",
        "| shots | seed | Auto-Meta | four convolutions | difference | weights | of MAML's | "
        "depth | width | rank correlations | minutes | cell |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(run, test) for run in document["runs"] for test in run["tests"]),
        *_means(document["runs"]),
        "",
    ]
    if document["speeds"]:
        lines += _speed_lines(document["speeds"])
    return "\n".join(lines)


def _learned(network: Mapping[str, Any]) -> str:
    inner = network["inner"]
    return f"{inner['num_steps']} steps of {inner['optimiser']} at {inner['learning_rate']:g}"


def _row(run: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    cell = run["cell"]
    correlations = [stage["rank_correlation"] for stage in run["stages"]]
    cells = [
        test["shots"],
        run["seed"],
        *(_interval(test[name]) for name in ("own", "conv4_baseline", "difference")),
        run["num_params"],
        run["conv4_baseline"]["num_params"],
        cell["depth"],
        cell["width"],
        ", ".join(f"{value:+.2f}" for value in correlations if value is not None) or "-",
        f"{run['seconds']['total'] / 60:.0f}",
        f"`{cell['architecture']}`",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _interval(score: Mapping[str, Any]) -> str:
    return f"{100 * score['mean']:.1f} ± {100 * score['interval']:.1f}"


def _means(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    tests = [test for run in runs for test in run["tests"]]
    for shots in sorted({test["shots"] for test in tests}):
        own = [test for test in tests if test["shots"] == shots]
        means = [
            f"{100 * statistics.mean(test[name]['mean'] for test in own):.1f}"
            for name in ("own", "conv4_baseline", "difference")
        ]
        lines.append(f"| {shots} | mean | {' | '.join(means)} |{' |' * 7}")
    return lines


def _speed_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "## Speed of a meta-batch",
        "",
        f"First-order gradients of {TASKS} tasks, {WAYS}-way, {QUERIES} queries of each class, "
        f"{INNER_STEPS} inner",
        "SGD steps, four convolutions, 28x28; one CPU thread, and its own time.",
        "`plain`, which is used: one after the other, channels last, by autograd alone.",
        "",
        "| channels | shots | loop, s | vmap, s | channels last, s | plain, s | loop / plain | "
        "difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row['channels']} | {row['shots']} | {row['loop_s']:.3f} | {row['vmap_s']:.3f} | "
            f"{row['channels_last_s']:.3f} | {row['plain_s']:.3f} | "
            f"{row['loop_s'] / row['plain_s']:.2f} times | {row['largest_difference']:.1e} |"
            for row in rows
        ),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="data.source: npz:FILE or imagefolder:DIR")
    # Not 2 and 5: on Omniglot's small set they test on the alphabets that settings were chosen by.
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 3, 4])
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-auto-meta"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--repeats", type=int, default=5, help="of each speed; 0 measures none")
    arguments = parser.parse_args()
    arguments.work = arguments.work.absolute()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda seed: run_once(seed, arguments), arguments.seeds))
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{device_name(torch.device('cpu'))}, one thread a run",
        "seeds": ", ".join(map(str, arguments.seeds)),
        "jobs": arguments.jobs,
        "runs": runs,
        "speeds": speeds(arguments.repeats) if arguments.repeats else [],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "auto_meta.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / "auto_meta.md").write_text(markdown(document))


if __name__ == "__main__":
    main()
