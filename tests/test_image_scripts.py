"""The scripts that the image is built with: what is left out of it, the list of what is in it."""

import importlib.machinery
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "images"


def load(path: Path) -> ModuleType:
    """A script as a module; they are no part of the installed project."""
    name = f"image_script_{path.stem.replace('-', '_')}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    loader.exec_module(module)
    return module


trim, sbom = load(IMAGES / "trim.py"), load(IMAGES / "sbom.py")
pip_secrets = load(ROOT / "scripts" / "pip-secrets")

REMOVED = (
    "nvidia/cu13/lib/libcusolverMg.so.12",
    "nvidia/cu13/lib/libnvrtc.alt.so.13",
    "nvidia/cu13/lib/libnvrtc-builtins.alt.so.13.0",
    "nvidia/cu13/lib/libnvperf_host.so",
    "nvidia/cu13/lib/libcudart_static.a",
    "nvidia/nvshmem/lib/libnvshmem_device.bc",
    "nvidia/cudnn/include/cudnn.h",
    "torch/include/ATen/ATen.h",
    "torch/bin/protoc-3.21.12.0",
    "scipy/special/_ufuncs.pyx",
    "pandas/tests/io/data/a.csv",
    "numpy/_core/tests/test_print.py",
)
KEPT = (
    "nvidia/cu13/lib/libcusolver.so.12",
    "nvidia/cu13/lib/libnvrtc.so.13",
    "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
    "nvidia/cu13/lib/libcupti.so.13",
    "nvidia/cudnn/lib/libcudnn_adv.so.9",
    "torch/lib/libtorch_cuda.so",
    "torch/bin/torch_shm_manager",
    "torch/utils/_triton.py",
    "torch/testing/_internal/logging_tensor.py",
    "numpy/testing/__init__.py",
    "tests/__init__.py",
    "nascore/py.typed",
)


def test_what_no_step_needs_is_removed_and_all_else_is_kept(tmp_path: Path) -> None:
    for name in REMOVED + KEPT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("ten bytes.")
    done = subprocess.run(
        [sys.executable, str(IMAGES / "trim.py"), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    left = {one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*") if one.is_file()}
    assert left == set(KEPT)


def test_each_rule_tells_what_it_freed(tmp_path: Path) -> None:
    for name in REMOVED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("ten bytes.")
    freed = trim.trim(tmp_path)
    assert sum(freed.values()) == 10 * len(REMOVED)
    assert all(freed.values()), "a rule that frees nothing"


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    outside, site = tmp_path / "outside", tmp_path / "site"
    (outside / "tests").mkdir(parents=True)
    (site / "package").mkdir(parents=True)
    (site / "package" / "tests").symlink_to(outside / "tests")
    (site / "other").symlink_to(outside)
    trim.trim(site)
    assert (outside / "tests").is_dir()
    assert not (site / "package" / "tests").is_symlink()


def test_what_is_installed_is_asked_for_by_the_project() -> None:
    command = [sys.executable, str(IMAGES / "choose.py"), "wanted", str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted = done.stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert set(project["project"]["dependencies"]) <= set(wanted)
    assert set(extras["full"]) | set(project["build-system"]["requires"]) <= set(wanted)
    assert not set(extras["dev"]) & set(wanted)


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        ("cuda", {"torch", "nvidia-cudnn-cu13", "nvidia-cuda-runtime", "cuda_bindings", "tritons"}),
        ("cpu", {"torch", "nvidia-cuda-runtime", "tritons"}),
    ],
)
def test_dependencies_that_torch_does_without_are_left_out(
    tmp_path: Path, device: str, kept: set[str]
) -> None:
    pins = {
        "torch": "2.14.1",
        "triton": "3.8.0",
        "nvidia-cudnn-cu13": "9.24.0.43",
        "nvidia-cuda-runtime": "13.0.96",
        "cuda_bindings": "13.5.0",
        "tritons": "1",
    }
    install = [{"metadata": {"name": name, "version": one}} for name, one in pins.items()]
    (tmp_path / "report.json").write_text(json.dumps({"install": install}))
    command = [sys.executable, str(IMAGES / "choose.py"), "chosen", "report.json", device]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert dict(line.split("==") for line in done.stdout.split()) == {
        one: pins[one] for one in kept
    }


def test_a_mistyped_device_ends_the_build() -> None:
    command = [sys.executable, str(IMAGES / "choose.py"), "chosen", "report.json", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DEVICE is one of cuda, cpu" in done.stderr
    assert "Traceback" not in done.stderr


RELEASE = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n'


def test_packages_of_debian_join_those_of_python() -> None:
    lines = [
        "libstdc++6:amd64\t12.2.0-14+deb12u1\tamd64\tgcc-12\tinstalled",
        "zlib1g:amd64\t1:1.2.13.dfsg-1\tamd64\tzlib\tinstalled",
        "gone\t1\tall\tgone\tconfig-files",
    ]
    bill = sbom.merged(
        {"bomFormat": "CycloneDX", "components": [{"name": "torch"}]}, lines, RELEASE
    )
    assert [one["name"] for one in bill["components"]] == ["torch", "libstdc++6", "zlib1g"]
    assert bill["components"][2]["version"] == "1:1.2.13.dfsg-1"
    assert bill["components"][2]["purl"] == (
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64&distro=debian-12&upstream=zlib"
    )
    assert bill["bomFormat"] == "CycloneDX"


def test_the_list_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for dpkg-query, since not each machine has one."""
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf 'base-files\\t12\\tall\\tbase-files\\tinstalled\\n'\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "in.json").write_text(json.dumps({"components": []}))
    command = [sys.executable, str(IMAGES / "sbom.py"), "in.json", "out.json"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    [one] = json.loads((tmp_path / "out.json").read_text())["components"]
    assert (one["name"], one["version"]) == ("base-files", "12")


@pytest.mark.parametrize("name", ["sbom.txt", "tools.txt", "tools-cpu.txt"])
def test_tools_of_the_build_are_pinned(name: str) -> None:
    lines = (IMAGES / name).read_text().splitlines()
    assert lines
    assert all("==" in line for line in lines)


# --- settings of pip ------------------------------------------------------------------------

LISTED = """:env:.index-url='https://me:secret@mirror.example/simple'
:env:.find-links='/opt/wheels'
global.cert='/etc/corporate.pem'
global.index-url='https://other.example/simple'
global.timeout='180'
install.no-build-isolation='true'
"""


def test_the_settings_of_pip_reach_the_build_as_secrets(tmp_path: Path) -> None:
    options = pip_secrets.options(pip_secrets.settings(LISTED), tmp_path)
    file = tmp_path / "pip.conf"
    assert options[0::2] == ["--secret", "--secret"]
    assert options[1::2] == [f"id=pip.conf,src={file}", "id=ca.crt,src=/etc/corporate.pem"]
    assert file.stat().st_mode & 0o777 == 0o600, "it may hold a password"
    assert file.read_text().splitlines() == [
        "[global]",
        "index-url = https://me:secret@mirror.example/simple",  # of the environment
        "timeout = 180",
        "cert = /etc/ssl/certs/ca-certificates.crt",  # where the recipe mounts it
    ]


def test_a_machine_without_settings_hands_over_nothing_of_its_own(tmp_path: Path) -> None:
    options = pip_secrets.options(pip_secrets.settings(""), tmp_path)
    assert options == ["--secret", f"id=pip.conf,src={tmp_path / 'pip.conf'}"]
    assert (tmp_path / "pip.conf").read_text() == "[global]\n"


def test_what_the_script_prints_is_what_the_recipe_mounts(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "pip-secrets"), str(tmp_path / "a folder")]
    environment = {**os.environ, "PIP_CERT": "/etc/corporate.pem"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    given = {one.partition(",")[0] for one in shlex.split(done.stdout) if one != "--secret"}
    recipe = (ROOT / "Dockerfile").read_text()
    assert given == set(re.findall(r"--mount=type=secret,(id=[^,]+),", recipe))
