"""Install the packages of requirements.lock, and print the progress: `python scripts/install.py`.

Called by `make install` with the interpreter of the environment. The stamp that it writes holds the
seconds that it took, which `nas run --timings` shows apart.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
_SAID = (
    "Installing {count} packages into {place}: about 3 GB to fetch and 7 GB on the disk, most of "
    "it PyTorch with CUDA.\nThe first time takes 3 to 10 minutes on a usual line; what pip has "
    "fetched before is not fetched again.\nWho only submits to Kubeflow needs a twentieth of it: "
    "pip install '.[client]'"
)
_EVERY = 10  # packages


def install(count: int) -> int:
    """Call pip, and print a line for every few packages; return its exit status."""
    pip = [sys.executable, "-m", "pip", "install"]
    start, seen = time.monotonic(), 0
    command = [*pip, "--progress-bar=off", "--requirement", str(LOCK)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(("Collecting", "Requirement already")):
                seen += 1
                if seen % _EVERY == 0 or re.search(r"\b(torch|triton|nvidia\S*)==", line):
                    name = line.split()[1 if line.startswith("Collecting") else 3]
                    passed = time.monotonic() - start
                    print(f"  {min(seen, count)} of {count}, {passed:.0f} s: {name}", flush=True)
            elif line.startswith("Installing collected"):
                print(
                    f"  all fetched after {time.monotonic() - start:.0f} s; unpacking", flush=True
                )
            elif line.startswith(("ERROR", "WARNING", "error")):
                print(line, end="", flush=True)
    if process.returncode:
        return process.returncode
    ours = [*pip, "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    return subprocess.run(ours, check=False).returncode


def main(stamp: Path) -> int:
    """Install, and write the duration in seconds to the stamp."""
    count = sum("==" in line for line in LOCK.read_text().splitlines())
    print(_SAID.format(count=count, place=sys.prefix), flush=True)
    start = time.monotonic()
    status = install(count)
    if status == 0:
        stamp.write_text(f"{time.monotonic() - start:.0f}\n")
        print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
