"""The ways to install, as `kubectl kustomize` builds them, with components that may be added."""

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from manifest_objects import Object, containers

MANIFESTS = Path(__file__).parents[2] / "manifests"
SHARED = ("single-user", "profile")
"""Ways into a namespace where others have pods, too."""
CLOSED = ("gpu", "local", "prod")
WAYS = (*SHARED, *CLOSED)
EGRESS = tuple(sorted(f"egress/{path.name}" for path in (MANIFESTS / "egress").iterdir()))
OPTIONAL = ("backup", "clean-state", "small", "state-volume")


@cache
def text(way: str) -> str:
    """Build `WAY`, or `WAY+COMPONENT+...`, as an edited kustomization.yaml would."""
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    assert kubectl is not None
    name, *more = way.split("+")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MANIFESTS, folder, dirs_exist_ok=True)
        overlay = Path(folder) / "overlays" / name
        if more:
            file = overlay / "kustomization.yaml"
            parsed = yaml.safe_load(file.read_text())
            parsed.setdefault("components", []).extend(f"../../{one}" for one in more)
            file.write_text(yaml.safe_dump(parsed))
        command = [kubectl, "kustomize", str(overlay)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), "no errors, no warnings of old fields"
    return done.stdout


def write(folder: Path) -> None:
    """Write every way with every component, for tools that read files.

    `digests` holds what names images by digest alone, `tags` the rest.
    """
    for name in ("digests", "tags"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for way in WAYS:
        variants = [one for one in EGRESS if one != "egress/cilium" or way not in SHARED]
        more = [one for one in OPTIONAL if one != "state-volume" or way != "local"]
        written = text("+".join([way, *more, *variants]))
        (folder / ("digests" if way == "prod" else "tags") / f"{way}.yaml").write_text(written)


def build(way: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text(way)) if one]


def find(objects: list[Object], kind: str, name: str) -> Any:
    [one] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return one


def container(objects: list[Object], name: str) -> Any:
    [one] = [one for _, one, _ in containers(objects) if one["name"] == name]
    return one


def namespace(way: str) -> str:
    return str(find(build(way), "Service", "nas-mlflow")["metadata"]["namespace"])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
