"""Where the scripts of an installation are run: the real kubectl, a stand-in for the cluster."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kube_api import KubeApi
from manifest_build import MANIFESTS

SCRIPTS = MANIFESTS / "scripts"
# No OpenAPI in the stand-in; what is run in a container is run here, by $EXEC.
KUBECTL = """#!/bin/sh
case "$*" in
  *" exec "*)
    echo "$*" | sed 's/ -- .*//' >> "$CALLS"
    while [ "$1" != -- ]; do shift; done
    shift
    PATH="$INSIDE:$PATH" exec "$@" ;;
  *" create "*) exec "$REAL" "$@" --validate=false ;;
  *) exec "$REAL" "$@" ;;
esac
"""


class Place:
    """A cluster, a `kubectl` that reaches it, and a folder of programs of the containers."""

    def __init__(self, folder: Path) -> None:
        self.api = KubeApi()
        self.api.token = None
        self.api.put("Namespace", "team-a", metadata={"labels": {}})
        self.inside = folder / "inside"
        self.calls = folder / "calls"
        beside = Path(sys.executable).with_name("kubectl")
        self.program(folder / "bin", "kubectl", KUBECTL)
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(self.api.kubeconfig(folder / "kubeconfig")),
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(folder),
            "REAL": str(beside) if beside.exists() else str(shutil.which("kubectl")),
            "INSIDE": str(self.inside),
            "CALLS": str(self.calls),
        }

    def program(self, folder: Path, name: str, text: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def run(self, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["sh", str(SCRIPTS / script), *arguments]
        return subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def secrets(self) -> dict[str, dict[str, str]]:
        return {
            one["metadata"]["name"]: {
                key: base64.b64decode(value).decode() for key, value in one["data"].items()
            }
            for one in self.api.of("Secret")
        }
