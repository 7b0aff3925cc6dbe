"""The image, as far as it can be known without an engine: its recipe, context, install steps."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile"
_USER = 10001
_MOST_CONTEXT_MB = 5


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and argument of each instruction, with continued lines joined as Docker joins them."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [
        (line.partition(" ")[0], line.partition(" ")[2].strip())
        for line in joined.splitlines()
        if line
    ]


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_hadolint_has_nothing_to_say() -> None:
    done = lint(DOCKERFILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("WORKDIR /build", "WORKDIR build"),
        ("FROM packages AS final", "FROM python AS final"),
        ("pip install --requirement sbom.txt", "pip install requests"),
    ],
)
def test_hadolint_sees_a_fault(tmp_path: Path, good: str, bad: str) -> None:
    text = DOCKERFILE.read_text()
    assert good in text
    (tmp_path / "Dockerfile").write_text(text.replace(good, bad))
    assert lint(tmp_path / "Dockerfile").returncode == 1


def test_the_last_stage_is_small_and_runs_as_nobody() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert re.search(
        r"^ARG PYTHON_IMAGE=python:[\d.]+-slim-\w+@sha256:[0-9a-f]{64}$", stages[0], re.M
    )
    assert stages[-1].startswith("packages AS final"), "what was installed is not copied again"
    final = instructions("FROM " + stages[-1])
    runs = [argument for name, argument in final if name == "RUN"]
    assert len(runs) == 1, "one layer: the account"
    assert runs[0].startswith("useradd ")
    assert [argument for name, argument in final if name == "COPY"] == [
        "--from=sbom /sbom /usr/share/nas",
        "--from=code /opt/code /opt/nas",
    ], "what changes most comes last: a node fetches no packages again for a change of the code"
    assert dict(final)["USER"] == f"{_USER}:{_USER}", "a number: Kubernetes cannot judge a name"
    assert json.loads(dict(final)["CMD"]) == ["nas", "doctor"]


def test_the_labels_say_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = " ".join(a for name, a in instructions(DOCKERFILE.read_text()) if name == "LABEL")
    labels = dict(one.split("=", 1) for one in shlex.split(text))
    labels = {key.removeprefix("org.opencontainers.image."): one for key, one in labels.items()}
    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["description"] == project["description"]
    assert labels["revision"] == "$GIT_REVISION"
    assert labels["base.name"] == "${PYTHON_IMAGE}"


def test_the_lock_file_pins_one_version_of_each() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    names = [re.split(r"==", line)[0].lower() for line in lines]
    assert all(re.match(r"^[\w.-]+==[\w.+!-]+( ;.*)?$", line) for line in lines)
    assert len(names) == len(set(names))


def test_the_lock_file_has_all_that_the_project_asks_for_in_a_version_that_it_allows() -> None:
    locked = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        locked[canonicalize_name(requirement.name)] = pin.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        asked += extra
    for wanted in map(Requirement, asked):
        version = locked.get(canonicalize_name(wanted.name))
        assert version is not None, f"{wanted.name} is not locked"
        assert wanted.specifier.contains(version), wanted.name
    assert len(asked) > 30


# --- the build context ----------------------------------------------------------------------


def context() -> Iterator[Path]:
    """Files that .dockerignore lets through; its form is: nothing but what is named."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    wanted = [line.removeprefix("!") for line in patterns if line.startswith("!")]
    unwanted = [line for line in patterns[1:] if not line.startswith("!")]
    assert all(line.startswith("**/") for line in unwanted)
    names = {line.removeprefix("**/") for line in unwanted}
    for path in (ROOT / name for name in wanted):
        assert path.exists(), path
        for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if one.is_file() and not names & set(one.relative_to(ROOT).parts):
                yield one


def test_what_is_sent_to_the_builder_is_small_and_holds_no_more_than_source() -> None:
    files = list(context())
    assert sum(path.stat().st_size for path in files) < _MOST_CONTEXT_MB * 2**20
    assert {path.suffix for path in files} <= {
        ".py",
        ".toml",
        ".lock",
        ".md",
        ".yaml",
        ".j2",
        ".typed",
        ".txt",
    }


def test_all_that_the_recipe_copies_is_sent() -> None:
    sent = {path.relative_to(ROOT).parts[0] for path in context()}
    copied = {
        Path(source).parts[0]
        for name, argument in instructions(DOCKERFILE.read_text())
        if name == "COPY" and not argument.startswith("--from")
        for source in argument.split()[:-1]
    }
    assert copied == sent


# --- the install steps, as another user -----------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """An environment made as the image's is, and the one who runs it."""

    bin: Path
    scratch: Path

    def run(self, *command: str, cwd: Path | str = "/") -> "subprocess.CompletedProcess[str]":
        return _as_user([str(self.bin / command[0]), *command[1:]], self.scratch, cwd=cwd)


def _as_user(
    command: list[str], scratch: Path, *, cwd: Path | str
) -> "subprocess.CompletedProcess[str]":
    """With the image's environment and nothing else; as its user when we may become that one."""
    become: list[str] = []
    if os.geteuid() == 0:
        # Python itself may lie where only root can look: reading is allowed, writing is not.
        become = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
        become += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
        become += ["--bounding-set=-all,+dac_read_search", "--no-new-privs", "--"]
    environment = {
        "PATH": f"{Path(command[0]).parent}:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        environment[name] = str(scratch / name.lower())
    return subprocess.run(
        [*become, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    """The project alone, installed offline from a source tree that nobody may write.

    Its dependencies are those of the environment that runs the tests: installing them anew would
    take minutes and gigabytes.
    """
    # Not below pytest's folders, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="nas-image-"))
    folder.chmod(0o755)
    try:
        source, scratch = folder / "source", folder / "scratch"
        scratch.mkdir()
        if os.geteuid() == 0:
            shutil.chown(scratch, _USER, _USER)
        for path in context():
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        for path in [source, *source.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        yield Installed(_install(source, scratch), scratch)
    finally:
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)


def _install(source: Path, scratch: Path) -> Path:
    def step(*command: str) -> None:
        done = _as_user([*command], scratch, cwd=source)
        assert done.returncode == 0, done.stdout + done.stderr

    step(sys.executable, "-m", "venv", "--without-pip", str(scratch / "nas"))
    [packages] = (scratch / "nas/lib").glob("python3.*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # setuptools builds beside the source unless told otherwise.
    settings = scratch / "setup.cfg"
    settings.write_text(f"[build]\nbuild_base={scratch}/build\n[egg_info]\negg_base={scratch}\n")
    python = str(scratch / "nas/bin/python")
    [install] = [
        a for n, a in instructions(DOCKERFILE.read_text()) if n == "RUN" and a.endswith(" .")
    ]
    # By the pip of the tests' own environment, into this one.
    command = re.sub(r"--prefix \S+ ", "", install).split()
    step("/usr/bin/env", f"DIST_EXTRA_CONFIG={settings}", python, "-m", *command)
    return scratch / "nas/bin"


@pytest.mark.slow
def test_the_project_is_the_installed_one_and_its_user_has_no_rights(installed: Installed) -> None:
    source = installed.scratch.parent / "source"
    code = f"""
import os, nascore, pipelines, components
print(nascore.__file__, os.access({str(source)!r}, os.W_OK), os.getuid())
open({str(source / "pyproject.toml")!r}, "a")
"""
    done = installed.run("python", "-c", code)
    file, may_write, user = done.stdout.split()
    assert file.startswith(str(installed.scratch / "nas"))
    assert (may_write, user) == ("False", str(os.geteuid() or _USER))
    assert "PermissionError" in done.stderr


@pytest.mark.slow
def test_doctor_finds_the_image_sound_where_it_may_write(installed: Installed) -> None:
    done = installed.run("nas", "doctor", "--json", cwd=installed.scratch)
    findings = {one["check"]: one for one in json.loads(done.stdout)}
    assert [f for f in findings.values() if f["status"] == "problem"] == [], done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_doctor_says_that_nothing_can_be_written_here(installed: Installed) -> None:
    done = installed.run("nas", "doctor", "--json")
    if os.geteuid() != 0 and os.access("/", os.W_OK):
        pytest.skip("this user may write everywhere")
    found = {one["check"] for one in json.loads(done.stdout) if one["status"] == "problem"}
    assert found == {"output", "tracking"}
    assert done.returncode == 1


@pytest.mark.slow
def test_compile_works_from_anywhere(installed: Installed) -> None:
    out = installed.scratch / "pipeline.yaml"
    done = installed.run("nas", "compile", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "ghcr.io/nas-pipelines/nas-python" in out.read_text()
