"""What checkov says of every way to install, where it is installed (`make manifests-audit`)."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from manifest_build import CLOSED, SHARED, write

ROOT = Path(__file__).parents[2]
BY_TAG = ["--skip-check", "CKV_K8S_43,CKV_K8S_15"]


def _checkov() -> str:
    beside = ROOT / ".venv-audit" / "bin" / "checkov"
    found = str(beside) if beside.exists() else shutil.which("checkov")
    if found is None:
        pytest.skip("checkov is not installed: make manifests-audit installs it in .venv-audit")
    return found


def _audit(folder: Path, *more: str) -> Any:
    command = [_checkov(), "--framework", "kubernetes", "--skip-download", "--output", "json"]
    command += ["--directory", str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_checkov_finds_nothing_that_is_not_explained(tmp_path: Path) -> None:
    _checkov()
    write(tmp_path)
    seen = {path.stem for path in tmp_path.rglob("*.yaml")}
    assert seen == {*CLOSED, *SHARED}
    for folder, more in (("digests", []), ("tags", BY_TAG)):
        found = _audit(tmp_path / folder, *more)
        assert found["summary"]["passed"] > 200
        failed = [(one["check_id"], one["resource"]) for one in found["results"]["failed_checks"]]
        assert failed == []


@pytest.mark.slow
def test_checkov_sees_a_planted_fault(tmp_path: Path) -> None:
    _checkov()
    write(tmp_path)
    file = tmp_path / "digests" / "prod.yaml"
    text = file.read_text()
    assert "readOnlyRootFilesystem: true" in text
    file.write_text(text.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"))
    found = _audit(tmp_path / "digests")["results"]["failed_checks"]
    assert "CKV_K8S_22" in {one["check_id"] for one in found}
