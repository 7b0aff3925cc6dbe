"""Large data: 1,000,000 files listed and checked, and cached images against torchvision's loader.

    .venv/bin/python benchmarks/large_data.py [--files N] [--images N] [--repeats N] [--folder DIR]

Two measurements, each in new processes:

1. `nas check-data` on a folder of N files in 100 classes: seconds and peak memory, of it and of the
   processes that it starts. A hundred thousand different pictures of 8 x 8 pixels are written, and
   linked under ten names each (hard links), to keep the disk small; so they are found as copies.
2. Images a second that a training reads, from JPEG files of 160 pixels that networks see at 64:
   from the cache of decoded images, and from torchvision's `ImageFolder` with `Resize` and a
   `DataLoader` of 2 workers. Both give shuffled, mirrored, cropped and normalised batches of 128,
   in turn; the ratio is of medians. What checking the data and writing the cache takes is given.

Writes docs/results/large_data.json. Everything else is in a temporary folder that is removed.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nascore.processors import num_cpus

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "large_data.json"
CLASSES, SAME = 100, 10
SIDE, SIZE, BATCH, WORKERS = 160, 64, 128, 2


def write_many(root: Path, count: int) -> None:
    """Write PNG files of 8 x 8 pixels with `SAME` names each."""
    rng = np.random.default_rng(0)
    folders = [root / f"class{number:03}" for number in range(CLASSES)]
    for folder in folders:
        folder.mkdir(parents=True)
    for number in range(count // SAME):
        first = folders[number % CLASSES] / f"{number:07}_0.png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(first)
        for copy in range(1, SAME):
            os.link(first, first.with_name(f"{number:07}_{copy}.png"))


def write_photographs(root: Path, count: int) -> None:
    """Write JPEG files of smooth noise, about as large as photographs of this size."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        grain = rng.integers(-12, 12, (SIDE, SIDE, 3))
        pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)


# --- many files -------------------------------------------------------------------------------


def listed(root: Path) -> dict[str, float]:
    """Measure the listing of files in this process."""
    from nascore.config import DataConfig
    from nascore.data.file_access import LocalFiles
    from nascore.data.findings import Findings
    from nascore.data.layouts import list_by_image

    start = time.perf_counter()
    config = DataConfig(source=f"imagefolder:{root}")
    found = list_by_image(LocalFiles(root), config, Findings())
    return {
        "files": len(found.entries),
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mb": highest_memory_of(os.getpid()),
    }


def checked(root: Path) -> dict[str, Any]:
    """Measure `nas check-data`; its processes are sampled every half second."""
    command = [sys.executable, "-m", "pipelines.cli", "check-data", str(root), "--json"]
    start = time.perf_counter()
    peak = highest = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            highest = max(highest, highest_memory_of(process.pid))
            time.sleep(0.5)
        seconds = time.perf_counter() - start
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
        errors.seek(0)
        lines = errors.read().decode().splitlines()
    return {
        "seconds": round(seconds, 1),
        "peak_mb": highest,
        "peak_mb_of_all_processes": peak,
        "splits": found["splits"],
        "problems": {problem["kind"]: problem["count"] for problem in found["problems"]},
        "progress_lines": len(lines),
        "progress": lines[1:4],
    }


def highest_memory_of(pid: int) -> int:
    """Return the peak memory of one process in MB, libraries included."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    return sum(int(size) for size in re.findall(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)) // 1024


def memory_of(pid: int) -> int:
    """Return the memory of a process and its children in MB; shared pages count once."""
    total = 0
    for each in [pid, *children_of(pid)]:
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:  # it has just ended
            continue
        total += sum(int(size) for size in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE))
    return total // 1024


def children_of(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            yield from map(int, task.read_text().split())
        except OSError:
            continue


# --- throughput -------------------------------------------------------------------------------


def throughput(root: Path, folder: Path, repeats: int) -> dict[str, Any]:
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from nascore.config import DataConfig, TrainingConfig
    from nascore.data.batches import load
    from nascore.data.prepared import prepare

    torch.set_num_threads(1)  # workers of a DataLoader have one each as well
    os.environ["NAS_CACHE_DIR"] = str(folder / "cache")
    config = DataConfig(source=f"imagefolder:{root}", image_size=SIZE, memory_limit_mb=1)
    start = time.perf_counter()
    info = prepare(config, 0, folder / "data")
    prepare_s = time.perf_counter() - start
    split = load(folder / "data", torch.device("cpu")).train
    training = TrainingConfig(batch_size=BATCH, crop_padding=4, flip=True)
    transform = transforms.Compose(
        [
            transforms.Resize((SIZE, SIZE)),
            transforms.RandomCrop(SIZE, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(info.mean, info.std),
        ]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(str(root), transform), BATCH, shuffle=True, num_workers=WORKERS
    )
    generator = torch.Generator().manual_seed(0)
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(rate(split.train_batches(training, generator)))
        theirs.append(rate(iter(loader)))
    return {
        "images": info.num_images,
        "checked_and_cached_s": round(prepare_s, 1),
        "cache_images_per_s": [round(value) for value in ours],
        "torchvision_images_per_s": [round(value) for value in theirs],
        "ratio_of_medians": round(statistics.median(ours) / statistics.median(theirs), 1),
    }


def rate(batches: Iterator[Any]) -> float:
    start = time.perf_counter()
    count = sum(len(y) for _, y in batches)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="Where files are written for a while.")
    parser.add_argument("--listed", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.listed:
        print(json.dumps(listed(arguments.listed)))
        return
    folder = Path(tempfile.mkdtemp(dir=arguments.folder, prefix="nas-large-data-"))
    results: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpus": num_cpus(),
        "load_before": os.getloadavg()[0],
    }
    try:
        write_photographs(folder / "photographs", arguments.images)
        results["throughput"] = throughput(folder / "photographs", folder, arguments.repeats)
        print(json.dumps(results["throughput"]), flush=True)
        start = time.perf_counter()
        write_many(folder / "many", arguments.files)
        print(f"files written in {time.perf_counter() - start:.0f} s", flush=True)
        command = [sys.executable, __file__, "--listed", str(folder / "many")]
        results["listed"] = json.loads(subprocess.check_output(command))
        print(json.dumps(results["listed"]), flush=True)
        results["checked"] = checked(folder / "many")
        print(json.dumps(results["checked"]), flush=True)
    finally:
        shutil.rmtree(folder)
    results["load_after"] = os.getloadavg()[0]
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
