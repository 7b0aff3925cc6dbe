"""NASIB within budgets of time, compared with random search and with a small set of operations.

    python benchmarks/nasib.py --data npz:CIFAR10.npz

Budgets: each seed and budget is a complete run of the search pipeline (`nas run`); the first
`--with-control` seeds also run random search with the same shared weights, at equal cost.
Small set: the same search among 8 operations, as many as DARTS has; time of a step and memory are
measured in the same process in turn. Planted: how often the one right size of a kernel is found
with a short budget, a long one, and by chance. Bytes: the same command on a data set without
pictures. Writes docs/results/nasib.{json,md}. Finished runs are not repeated.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import file_bytes
import numpy as np
import planted_kernel
import torch
from nas_runs import nas
from torch import Tensor, nn

from components.config.schema import parse
from components.steps.context_builder import StepInputs, build_context
from nascore import checkpoint
from nascore.config import DataConfig
from nascore.data.prepared import prepare
from nascore.latency.benchmark import device_name
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.nasib.distribution import Distribution
from nascore.methods.nasib.search import BudgetSearch
from nascore.methods.nasib.supernet import SuperkernelSupernet, make_superkernel_supernet
from nascore.spaces.base import ImageShape
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace
from nascore.tabular_benchmark.statistics import interval

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SETTINGS: dict[str, Any] = {
    "method": "nasib",
    "data.image_size": 16,
    "search.child.epochs": 3,
    "search.child.max_steps": 150,
    "search.options.weights.batch_size": 64,
    "train.max_steps": 600,
    "training.crop_padding": 2,
    "training.flip": "true",
}
# As many operations as DARTS: four convolutions (3x3, standard or separable, dilated or not), the
# poolings, identity and none. DARTS has separable 5x5 in place of the standard ones.
SMALL_SET = {"search.space.kernel_sizes": "[3]", "search.space.dilations": "[1,2]"}
_PAIRS = 12  # of steps that are timed by turns


# --- runs -------------------------------------------------------------------------------------


def run_once(out: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run the pipeline once; return its result."""
    if not (out / "result.json").exists():
        resume = ["--resume"] if (out / "config.json").exists() else []
        tracking = {"tracking.uri": f"sqlite:///{out}/mlflow.db"}
        given = [f"--set={key}={value}" for key, value in {**settings, **tracking}.items()]
        nas("run", f"--out={out}", *(resume or given))
    result = json.loads((out / "result.json").read_text())
    search = json.loads((out / "state/search/search_result.json").read_text())
    model = json.loads((out / "state/train_final/outputs/model/model.json").read_text())
    control = search["control"]
    print(f"{out.name}: test accuracy {result['test_accuracy']:.4f}", file=sys.stderr)
    return {
        "genotype": result["genotype"],
        "valid_accuracy": model["valid_accuracy"],
        "test_accuracy": model["test_accuracy"],
        "num_params": model["num_params"],
        "steps": model["details"]["nasib"]["steps"],
        "search_seconds": checkpoint.load(checkpoint_path(out / "state/search"), "nasib-method")[1][
            "seconds"
        ],
        "exploring_share": model["details"]["nasib"]["exploring_share"],
        "trainings": [child["scores"]["valid_accuracy"] for child in search["arm"]["children"]],
        "control_trainings": None
        if control is None
        else [child["scores"]["valid_accuracy"] for child in control["children"]],
        "verdict": search["verdict"],
    }


def budgets(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each seed and budget that has been run."""
    rows = []
    for seed in range(arguments.seeds):
        for seconds in arguments.budgets:
            settings = {
                **SETTINGS,
                "seed": seed,
                "data.source": arguments.data,
                "search.budget.seconds": seconds,
                "search.control": str(seed < arguments.with_control).lower(),
            }
            row = run_once(arguments.work / f"budget-{seconds}-{seed}", settings)
            rows.append({"seed": seed, "budget_s": seconds, **row})
    return rows


def small_set(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the search among 8 operations with one of the budgets."""
    seconds = arguments.budgets[min(1, len(arguments.budgets) - 1)]
    rows = []
    for seed in range(arguments.seeds):
        settings = {
            **SETTINGS,
            **SMALL_SET,
            "seed": seed,
            "data.source": arguments.data,
            "search.budget.seconds": seconds,
            "search.control": "false",
        }
        row = run_once(arguments.work / f"small-{seconds}-{seed}", settings)
        rows.append({"seed": seed, "budget_s": seconds, **row})
    return rows


def planted(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return by budget and seed the fraction of edges whose kernel has the planted height."""
    found: dict[str, list[float]] = {}
    for seed in range(arguments.planted_seeds):
        for steps in arguments.planted_steps:
            path = arguments.work / f"planted-{steps}-{seed}.json"
            share = _cached(path, partial(_planted_once, arguments.work, steps, seed))
            found.setdefault(str(steps), []).append(share)
    return found


def _planted_once(work: Path, steps: int, seed: int) -> float:
    """Run a search without the final training."""
    data = work / "planted"
    if not data.exists():
        planted_kernel.write(work / "planted.npz")
        prepare(DataConfig(source=f"npz:{work / 'planted.npz'}"), seed=0, folder=data)
    weights = {"batch_size": 32, "lr": 0.1}
    config = parse(
        {
            "method": "nasib",
            "seed": seed,
            "training": {"crop_padding": 0},
            "search": {
                "space": planted_kernel.SPACE.model_dump(mode="json"),
                "budget": {"steps": steps},
                "options": {"weights": weights},
            },
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        inputs = StepInputs(
            config=config, dataset=data, controller=state, state=state, run_key="planted"
        )
        search = BudgetSearch(build_context(inputs))
        search.run()
    heights = search.distribution.best()[:, AXES.index("height")].tolist()
    sizes = planted_kernel.SPACE.kernel_sizes
    print(f"planted, {steps} steps, seed {seed}: {heights}", file=sys.stderr)
    return statistics.fmean(sizes[height] == planted_kernel.HEIGHT for height in heights)


def bytes_of_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the quick preset on signals of two channels."""
    archive = arguments.work / "bytes.npz"
    if not archive.exists():
        file_bytes.write(archive)
    settings = {
        "method": "nasib",
        "data.source": f"npz:{archive}",
        "search.budget.steps": arguments.bytes_steps,
        "search.control": "false",
        "train.max_steps": 300,
    }
    return run_once(arguments.work / "bytes", settings)


# --- what an operation set costs ----------------------------------------------------------------


def costs() -> dict[str, dict[str, float]]:
    """Return CPU seconds of a step, bytes for its backward pass, and weights of an edge.

    Measured are paths through 96 convolutions, the same paths of plain ones, and paths through 8
    operations: medians of pairs in turn, on one thread, with 64 images of 16 x 16.
    """
    torch.set_num_threads(1)
    shape, generator = ImageShape(3, 16, 10), torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(64, 3, 16, 16, generator=generator)
    large = SuperkernelSpaceConfig()
    small = large.model_copy(update={"kernel_sizes": (3,), "dilations": (1, 2)})
    spaces = {"NASIB": SuperkernelSpace(large), "8 operations": SuperkernelSpace(small)}
    supernets = {n: make_superkernel_supernet(s, shape, seed=0) for n, s in spaces.items()}
    seen: dict[str, dict[str, list[float]]] = {}
    for _ in range(_PAIRS):
        networks = _drawn(spaces, supernets, shape, generator)
        for name, network in networks.items():
            _timed(network, x_BCHW)  # the first call of a shape chooses an algorithm
            numbers = seen.setdefault(name, {"step_s": [], "bytes": []})
            numbers["step_s"].append(_timed(network, x_BCHW))
            numbers["bytes"].append(float(_bytes_saved(network, x_BCHW, supernets)))
    found = {
        name: {key: statistics.median(values) for key, values in numbers.items()}
        for name, numbers in seen.items()
    }
    for name, supernet in supernets.items():
        edge = supernet.kernels["cell0/edge2_0"]
        found[name]["weights_of_an_edge"] = sum(p.numel() for p in edge.parameters())
    ratios = [a / b for a, b in zip(seen["NASIB"]["step_s"], seen["plain"]["step_s"], strict=True)]
    found["NASIB"]["step_ratio_to_plain"] = statistics.median(ratios)
    channels = large.search_channels
    largest = large.kernel_sizes[-1] ** 2 * channels**2
    found["NASIB"]["weights_ratio_to_largest"] = found["NASIB"]["weights_of_an_edge"] / largest
    return found


def _drawn(
    spaces: Mapping[str, SuperkernelSpace],
    supernets: Mapping[str, SuperkernelSupernet],
    shape: ImageShape,
    generator: torch.Generator,
) -> dict[str, nn.Module]:
    """Return a uniform path of each supernet, and the first path of plain convolutions."""
    networks: dict[str, nn.Module] = {}
    for name, space in spaces.items():
        distribution = Distribution(space, shape)
        everywhere_E = torch.ones(len(space.edges), dtype=torch.bool)
        sample = distribution.sample(distribution.noise(generator), everywhere_E, temperature=1.0)
        networks[name] = supernets[name].path(sample.tokens_EA)
        if name == "NASIB":
            cells = supernets[name].cells(sample.tokens_EA)
            plain = space.network(cells, shape, lambda _, make: make())
            networks["plain"] = torch.func.replace_all_batch_norm_modules_(plain)
    return networks


def _timed(network: nn.Module, x_BCHW: Tensor) -> float:
    network.zero_grad()
    start = time.process_time()
    network(x_BCHW).square().mean().backward()
    return time.process_time() - start


def _bytes_saved(
    network: nn.Module, x_BCHW: Tensor, supernets: Mapping[str, SuperkernelSupernet]
) -> int:
    """Return the bytes that the backward pass stores besides weights."""
    holders = [network, *supernets.values()]
    weights = {p.untyped_storage().data_ptr() for one in holders for p in one.parameters()}
    saved: dict[int, int] = {}
    alive = []  # so that no address is taken twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x_BCHW).square().mean().backward()
    return sum(saved.values())


# --- writing ------------------------------------------------------------------------------------


def markdown(document: Mapping[str, Any]) -> str:
    lines = [
        "# NASIB within budgets",
        "",
        f"{document['date']}, {document['device']}, {document['images']}. Renewed by",
        "",
        f"    {document['command']}",
        "",
        document["circumstances"],
    ]
    for part, write in (
        ("budgets", _budget_lines),
        ("costs", _cost_lines),
        ("small_set", _small_lines),
        ("planted", _planted_lines),
        ("bytes", _bytes_lines),
    ):
        if document.get(part):
            lines += ["", *write(document)]
    return "\n".join(lines) + "\n"


def _budget_lines(document: Mapping[str, Any]) -> list[str]:
    rows = document["budgets"]
    lines = [
        "## Budgets",
        "",
        "Accuracies of the winner, trained from scratch, in percent: means over seeds, and the",
        "95 % interval of the mean where there are two or more.",
        "",
        "| budget | seeds | the search ended after | updates | exploration | validation | test |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for seconds in sorted({row["budget_s"] for row in rows}):
        own = [row for row in rows if row["budget_s"] == seconds]
        worst = max(own, key=lambda row: abs(row["search_seconds"] - seconds))
        off = worst["search_seconds"] / seconds - 1
        lines.append(
            f"| {seconds} s | {len(own)} | {worst['search_seconds']:.1f} s ({off:+.1%}) | "
            f"{_mean(own, 'steps'):.0f} | {_mean(own, 'exploring_share'):.0%} | "
            f"{_percent(own, 'valid_accuracy')} | {_percent(own, 'test_accuracy')} |"
        )
    lines += ["", "The time is that of the seed which was furthest off."]
    if all(row["control_trainings"] is None for row in rows):
        return lines
    lines += [
        "",
        "Compared with random search with the same shared weights: five trainings, as short as a",
        "child's, of the architecture that each has chosen, percent:",
        "",
        "| budget | seed | NASIB | random search | verdict |",
        "| ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {row['budget_s']} s | {row['seed']} | {100 * statistics.fmean(row['trainings']):.1f} | "
        f"{100 * statistics.fmean(row['control_trainings']):.1f} | {row['verdict']['outcome']} |"
        for row in rows
        if row["control_trainings"] is not None
    ]
    return lines


def _cost_lines(document: Mapping[str, Any]) -> list[str]:
    costs = document["costs"]
    lines = [
        "## What many operations cost",
        "",
        "A step of the weights (forward and backward) along a uniform path, 64 images of 16 x 16,",
        "one thread, medians by turns; memory is what is kept for the backward pass.",
        "",
        "| | operations of an edge | step, ms | memory, MiB | weights of an edge |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, operations in (("NASIB", "96 + 4"), ("plain", "-"), ("8 operations", "4 + 4")):
        one = costs[name]
        weights = one.get("weights_of_an_edge")
        lines.append(
            f"| {'the same paths, plain' if name == 'plain' else name} | {operations} | "
            f"{1000 * one['step_s']:.0f} | {one['bytes'] / 2**20:.1f} | {weights or '-'} |"
        )
    memory = costs["NASIB"]["bytes"] / costs["plain"]["bytes"]
    return [
        *lines,
        "",
        "Against plain convolutions a step takes "
        f"{costs['NASIB']['step_ratio_to_plain']:.3f} times as long and keeps {memory:.3f} "
        "times as much; an edge has "
        f"{costs['NASIB']['weights_ratio_to_largest']:.2f} times the weights of its largest "
        "convolution.",
    ]


def _small_lines(document: Mapping[str, Any]) -> list[str]:
    rows = document["small_set"]
    seconds = rows[0]["budget_s"]
    seeds = {row["seed"] for row in rows}
    large = [r for r in document["budgets"] if r["budget_s"] == seconds and r["seed"] in seeds]
    lines = [
        "## Eight operations at an equal budget",
        "",
        "Four convolutions (3x3, standard or separable, dilated or not) and four others,",
        f"{seconds} s, seeds {', '.join(map(str, sorted(seeds)))}, percent.",
        "",
        "| operations | updates | validation | test |",
        "| --- | ---: | ---: | ---: |",
    ]
    return lines + [
        f"| {name} | {_mean(own, 'steps'):.0f} | {_percent(own, 'valid_accuracy')} | "
        f"{_percent(own, 'test_accuracy')} |"
        for name, own in (("96 + 4", large), ("4 + 4", rows))
    ]


def _planted_lines(document: Mapping[str, Any]) -> list[str]:
    lines = [
        "## A planted kernel",
        "",
        "Share of the edges whose kernel ends with the only height that tells the classes apart,",
        "by weight updates; uniform choices would have it in 25 %.",
        "",
        "| updates | seeds | planted height |",
        "| ---: | ---: | ---: |",
    ]
    return lines + [
        f"| {steps} | {len(shares)} | {statistics.fmean(shares):.0%} |"
        for steps, shares in document["planted"].items()
    ]


def _bytes_lines(document: Mapping[str, Any]) -> list[str]:
    one = document["bytes"]
    return [
        "## A set that is no picture",
        "",
        "Kinds of files by 256 of their bytes, signals of two channels",
        "(`benchmarks/file_bytes.py`):",
        f"{100 * one['test_accuracy']:.1f} % of the windows of files that were held out, of four "
        f"kinds, after {one['steps']} updates.",
    ]


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def _percent(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    values = np.array([100 * row[key] for row in rows])
    found = interval(values)
    inside = "" if found is None else f" [{found[0]:.1f}, {found[1]:.1f}]"
    return f"{values.mean():.1f}{inside}"


def _cached(path: Path, make: Any) -> Any:
    if not path.exists():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="data.source of CIFAR-10")
    parser.add_argument("--images", default="CIFAR-10 at 16x16", help="description of --data")
    parser.add_argument("--budgets", type=int, nargs="+", default=[60, 120, 300], metavar="SECONDS")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--with-control", type=int, default=1, help="seeds that run the control")
    parser.add_argument("--planted-steps", type=int, nargs="+", default=[60, 350])
    parser.add_argument("--planted-seeds", type=int, default=5)
    parser.add_argument("--bytes-steps", type=int, default=150)
    parser.add_argument("--work", type=Path, default=Path("runs/nasib"))
    parser.add_argument(
        "--parts", nargs="+", default=["costs", "budgets", "planted", "bytes", "small_set"]
    )
    parser.add_argument(
        "--circumstances",
        help="what else the machine did meanwhile, as a sentence [its load at the start]",
    )
    arguments = parser.parse_args()
    load = f"Load of the machine at the start: {os.getloadavg()[2]:.1f}."
    arguments.work = arguments.work.absolute()
    arguments.work.mkdir(parents=True, exist_ok=True)
    target = RESULTS / "nasib.json"
    document = json.loads(target.read_text()) if target.exists() else {"version": 1}
    document |= {
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{device_name(torch.device('cpu'))}, {os.cpu_count()} cores",
        "images": arguments.images,
        "circumstances": arguments.circumstances or load,
        "command": "python benchmarks/nasib.py --data npz:CIFAR10.npz --budgets "
        f"{' '.join(map(str, arguments.budgets))} --seeds {arguments.seeds}",
        "settings": SETTINGS,
    }
    makers = {
        "costs": lambda: _cached(arguments.work / "costs.json", costs),
        "budgets": lambda: budgets(arguments),
        "planted": lambda: planted(arguments),
        "bytes": lambda: bytes_of_files(arguments),
        "small_set": lambda: small_set(arguments),
    }
    for part in arguments.parts:
        document[part] = makers[part]()
        target.write_text(json.dumps(document, indent=1) + "\n")
        (RESULTS / "nasib.md").write_text(markdown(document))
    print(markdown(document))


if __name__ == "__main__":
    main()
