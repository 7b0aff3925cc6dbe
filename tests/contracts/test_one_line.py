"""A new method, a new space, a new kind of network: a folder each and one line, nothing else.

The three packages are copied, the folders of `tests/contracts/added` put next to the others, and
one line inserted in each of three registries. No other file is changed, so whatever would need a
second place to know the newcomers fails here.
"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
ADDED = Path(__file__).parent / "added"
PACKAGES = ("nascore", "components", "pipelines")
METHOD, SPACE, KIND = "copycat", "stripes", "scaled"
LINES = {
    "nascore/methods/registry.py": ("PACKAGES = (\n", '    "nascore.methods.copycat",\n'),
    "nascore/spaces/config.py": ("PACKAGES = (\n", '    "nascore.spaces.stripes",\n'),
    "nascore/training/network_kinds.py": (
        "NETWORK_KINDS: Mapping[str, str] = {\n",
        '    "scaled": "nascore.methods.copycat.network_kind",\n',
    ),
}
IGNORED = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True)
class Copy:
    """The packages with the newcomers, and a finished run of all three.

    Attributes:
        changed: files of the packages that differ from the original.
    """

    folder: Path
    out: Path
    changed: frozenset[str]

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        base = {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**base, **environment},
            capture_output=True,
            text=True,
            timeout=280,
        )

    def nas(self, *arguments: str) -> str:
        done = self.python("-m", "pipelines.cli", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        """Return the message about wrong input."""
        done = self.python("-m", "pipelines.cli", *arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def result(self, out: Path) -> dict[str, Any]:
        """Return the result of a run, without clocks."""
        found: dict[str, Any] = json.loads((out / "result.json").read_text())
        return {k: v for k, v in found.items() if k not in ("seconds", "timings", "latency_ms")}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=IGNORED)
    shutil.copytree(ADDED, folder, ignore=IGNORED, dirs_exist_ok=True)
    for name, (place, line) in LINES.items():
        text = (folder / name).read_text()
        assert text.count(place) == 1
        (folder / name).write_text(text.replace(place, place + line))
    made = Copy(folder, folder / "out", frozenset(_differing(folder)))
    made.nas("run", "--method", METHOD, "--out", str(made.out), "--json")
    return made


def _differing(folder: Path) -> Iterator[str]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(ROOT)
                if not filecmp.cmp(path, folder / name, shallow=False):
                    yield str(name)


def test_nothing_but_the_folders_and_one_line_each_is_new(copy: Copy) -> None:
    folders = [ADDED / "nascore/methods/copycat", ADDED / "nascore/spaces/stripes"]
    added = [path for path in ADDED.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert all(any(path.is_relative_to(folder) for folder in folders) for path in added)
    assert copy.changed == LINES.keys()


def test_it_runs_from_the_command_line_with_random_control_and_verdict(copy: Copy) -> None:
    result = copy.result(copy.out)
    assert result["method"] == METHOD
    assert result["genotype"]["space"] == SPACE
    assert result["num_children"] == 3
    assert (result["control"]["method"], result["control"]["num_children"]) == ("random", 3)
    assert result["verdict"]["outcome"] in ("better", "not better", "undecided")
    assert 0 <= result["test_accuracy"] <= 1
    assert result["model_uri"].startswith("models:/")


def test_its_report_has_its_section_and_its_model_its_kind(copy: Copy) -> None:
    assert "copied with width 2" in (copy.out / "report.html").read_text()
    (model,) = (copy.out / "state").rglob("model.json")
    assert json.loads(model.read_text())["network"] == {"kind": KIND}


def test_a_finished_run_is_resumed_without_work(copy: Copy) -> None:
    before = copy.result(copy.out)
    copy.nas("run", "--method", METHOD, "--out", str(copy.out), "--resume", "--json")
    assert copy.result(copy.out) == before


def test_a_run_that_was_killed_in_its_search_resumes_to_the_same_result(copy: Copy) -> None:
    out, marker = copy.folder / "killed", copy.folder / "marker"
    command = ("-m", "pipelines.cli", "run", "--method", METHOD, "--out", str(out))
    died = copy.python(*command, COPYCAT_DIES_AT_SECOND_CHILD=str(marker))
    assert died.returncode == 1, died.stdout + died.stderr
    assert marker.exists()
    assert not (out / "result.json").exists()
    copy.nas(*command[2:], "--resume")
    resumed, whole = copy.result(out), copy.result(copy.out)
    same = ("genotype", "search_valid_accuracy", "num_children", "verdict", "test_accuracy")
    assert {name: resumed[name] for name in same} == {name: whole[name] for name in same}


def test_its_settings_are_listed_and_checked(copy: Copy) -> None:
    listed = {one["key"]: one for one in json.loads(copy.nas("config", METHOD, "--json"))}
    assert listed["search.options.width"]["default"] in (2, "2")
    assert "report" in listed["search.options.width"]["description"]
    message = copy.refusal("run", "--method", METHOD, "--set", "search.options.widht=3")
    assert "search.options.widht" in message
    assert "width" in message.replace("widht", "")
    message = copy.refusal("run", "--method", METHOD, "--set", "search.budget.children=101")
    assert "search.budget.children = 101: set it to at most 100" in message
    assert f"{METHOD} has no plan" in copy.refusal("plan", "--set", f"method={METHOD}")


def test_it_is_compiled_for_kubeflow(copy: Copy) -> None:
    file = copy.folder / "compiled.yaml"
    copy.nas("compile", "--method", METHOD, "--workers", "1", "--out", str(file))
    text = file.read_text()
    assert METHOD in text
    assert SPACE in text


def test_it_is_a_sampler_of_optuna(copy: Copy) -> None:
    code = (
        "import optuna; from nascore.optuna_sampler import ProposerSampler; "
        f"study = optuna.create_study(sampler=ProposerSampler('{METHOD}', seed=0)); "
        "study.optimize(lambda trial: trial.suggest_int('x', 0, 5), n_trials=6); "
        "print(sorted(trial.params['x'] for trial in study.trials))"
    )
    done = copy.python("-c", code)
    assert done.stdout.strip() == "[0, 1, 2, 3, 4, 5]", done.stderr


def test_it_is_replayed_on_a_table(copy: Copy) -> None:
    table = copy.folder / "table.csv"
    rows = [f"{a}{b},{(a + 2 * b) / 10}" for a in range(3) for b in range(3)]
    table.write_text("\n".join(["arch_str,valid", *rows]) + "\n")
    options = ("--space", "categorical", "--search-metric", "valid", "--report-metric", "valid")
    given = ("--table", str(table), *options, "--methods", f"random,{METHOD}")
    out = copy.folder / "bench"
    copy.nas("bench", *given, "--queries", "5", "--seeds", "2", "--out", str(out))
    assert METHOD in (out / "bench.md").read_text()


def test_other_methods_search_the_new_space_and_it_searches_other_spaces(copy: Copy) -> None:
    for method, space in (("regularized-evolution", SPACE), (METHOD, "nasbench201")):
        file = copy.folder / f"{method}.yaml"
        given = ("--method", method, "--set", f"search.space.name={space}")
        copy.nas("compile", *given, "--out", str(file))
        assert space in file.read_text()
    code = (
        "from nascore.methods.registry import METHODS; "
        "from nascore.seeding import Seeds; from nascore.spaces.base import make_space; "
        "from nascore.results import Child; "
        f"from nascore.spaces.{SPACE}.config import StripesConfig; "
        "method = METHODS['regularized-evolution']; "
        "proposer = method.load_proposing().make_proposer(method.options(), "
        "make_space(StripesConfig()), Seeds(0), 'x', controller=None); "
        "[proposer.update(Child(number=n, genotype=proposer.suggest(n), objective=0.5)) "
        "for n in range(12)]; print('done')"
    )
    done = copy.python("-c", code)
    assert done.stdout.strip() == "done", done.stderr
