"""A new method, a new space, a new kind of network: a folder each and one line, nothing else.

The three packages are copied, the folders added, and one line inserted in each of three registries.
A search with all three then runs from the command line. No other file is changed, so whatever would
need a second place to know the newcomers fails here.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
METHOD, SPACE, KIND = "copycat", "stripes", "scaled"

FILES = {
    "nascore/methods/copycat/__init__.py": '"""A method of this test."""\n',
    "nascore/methods/copycat/options.py": '''
from nascore.methods.common.method_options import MethodOptions

class CopycatOptions(MethodOptions):
    """Settings of the method."""

    width: int = 2
    """Kept by the method."""
''',
    "nascore/methods/copycat/entry.py": """
from nascore.methods.base import Method
from nascore.methods.copycat.options import CopycatOptions

METHODS = {
    "copycat": Method(
        "samples uniformly",
        CopycatOptions,
        "nascore.methods.copycat.method",
        report="nascore.methods.copycat.report",
    )
}
""",
    "nascore/methods/copycat/method.py": """
import dataclasses

import torch
from torch import nn

from nascore.search.random_search import RandomSearch
from nascore.search.runner import Control, search_by_proposing
from nascore.training.final_model import train_network
from nascore.training.child import build_network
from nascore.methods.copycat.network_kind import Scaled

def prepare_proposer(options, space, seeds, controller):
    return {}

def make_proposer(options, space, seeds, stream, *, controller):
    return RandomSearch(space, seeds, stream)

def pretrain(task):
    return {}

def search(task):
    control = Control(RandomSearch(task.space, task.seeds, "control"))
    return search_by_proposing(task, RandomSearch(task.space, task.seeds, "method"), control)

def train_final(task, result):
    seed = task.seeds.integer("final", "weights")
    network = build_network(task.space, result.genotype, task.shape, seed=seed, final=True)
    final = train_network(task, Scaled(network), result.genotype)
    return dataclasses.replace(final, details={"copycat": {"width": task.options.width}})
""",
    "nascore/methods/copycat/network_kind.py": """
from torch import nn

from nascore.training.network_kinds import NetworkKind

class Scaled(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 2 * self.network(x)

    def blueprint(self):
        return {"kind": "scaled"}

class ScaledKind(NetworkKind):
    def rebuild(self, spec, space, genotype, shape):
        return Scaled(super().rebuild(spec, space, genotype, shape))

KIND = ScaledKind()
""",
    "nascore/methods/copycat/report.py": """
from markupsafe import Markup

DETAILS = "copycat"

def places(details):
    return []

def section(details, latency, images):
    return Markup("<section>copied with width {}</section>").format(details["width"])
""",
    "nascore/methods/copycat/presets/copycat/quick.yaml": """
method: copycat
data: {source: digits, max_train: 200}
search:
  space: {name: stripes}
  budget: {children: 2}
  child: {epochs: 1, batch_size: 32}
train: {epochs: 2, batch_size: 32}
latency: {runs: 20, warmup_runs: 1}
""",
    "nascore/spaces/stripes/__init__.py": '"""A space of this test."""\n',
    "nascore/spaces/stripes/config.py": '''
from typing import ClassVar, Literal

from nascore.spaces.section import SpaceSection

class StripesConfig(SpaceSection):
    """Settings of the space."""

    name: Literal["stripes"] = "stripes"
    implementation: ClassVar[str] = "nascore.spaces.stripes.space.StripesSpace"

    @property
    def cardinalities(self):
        return (4, 4)

SECTION = StripesConfig
''',
    "nascore/spaces/stripes/space.py": """
from torch import nn

from nascore.spaces.base import check
from nascore.spaces.drawing import ArchitectureGraph, GraphNode

class StripesSpace:
    identifier = "stripes"

    def __init__(self, config):
        self.config, self.cardinalities = config, config.cardinalities

    def canonical(self, genotype):
        return self.describe(genotype)

    def describe(self, genotype):
        check(self, genotype)
        return "-".join(map(str, genotype.tokens))

    def build(self, genotype, shape, phase="search"):
        check(self, genotype)
        width, depth = genotype.tokens
        layers, channels = [], shape.channels
        for _ in range(depth + 1):
            layers += [nn.Conv2d(channels, 2 + width, 3, padding=1), nn.ReLU()]
            channels = 2 + width
        pool = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, shape.num_classes)]
        return nn.Sequential(*layers, *pool)

    def graph(self, genotype, shape):
        nodes = (GraphNode("in", "image", "input"), GraphNode("out", "classes", "output"))
        return ArchitectureGraph(nodes, (("in", "out", ""),))
""",
}
LINES = {
    "nascore/methods/registry.py": ("PACKAGES = (\n", '    "nascore.methods.copycat",\n'),
    "nascore/spaces/config.py": ("PACKAGES = (\n", '    "nascore.spaces.stripes",\n'),
    "nascore/training/network_kinds.py": (
        "NETWORK_KINDS: Mapping[str, str] = {\n",
        '    "scaled": "nascore.methods.copycat.network_kind",\n',
    ),
}


@dataclass(frozen=True)
class Copy:
    """The packages with the newcomers, and a finished search."""

    folder: Path
    out: Path

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
        )

    def nas(self, *arguments: str) -> str:
        done = self.python("-m", "pipelines.cli", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("copy")
    for package in ("nascore", "components", "pipelines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, (place, line) in LINES.items():
        text = (folder / name).read_text()
        assert text.count(place) == 1
        (folder / name).write_text(text.replace(place, place + line))
    made = Copy(folder, folder / "out")
    made.nas("run", "--set", f"method={METHOD}", "--out", str(made.out), "--json")
    return made


def test_it_runs_from_the_command_line(copy: Copy) -> None:
    result = json.loads((copy.out / "result.json").read_text())
    assert result["method"] == METHOD
    assert result["genotype"]["space"] == SPACE
    assert result["num_children"] == 2
    assert result["control"] is not None
    assert result["verdict"]["outcome"] in ("better", "not better", "undecided")
    assert 0 <= result["test_accuracy"] <= 1
    assert result["model_uri"].startswith("models:/")


def test_its_report_has_its_section_and_its_model_its_kind(copy: Copy) -> None:
    assert "copied with width 2" in (copy.out / "report.html").read_text()
    (model,) = (copy.out / "state").rglob("model.json")
    assert json.loads(model.read_text())["network"] == {"kind": KIND}


def test_a_finished_run_is_resumed_without_work(copy: Copy) -> None:
    before = json.loads((copy.out / "result.json").read_text())
    command = ("run", "--set", f"method={METHOD}", "--out", str(copy.out), "--resume", "--json")
    after = json.loads(copy.nas(*command))
    clocks = {"seconds": None, "timings": None}
    assert after | clocks == before | clocks


def test_it_is_compiled_for_kubeflow(copy: Copy) -> None:
    file = copy.folder / "compiled.yaml"
    copy.nas(
        "compile", "--set", f"method={METHOD}", "--set", "search.workers=1", "--out", str(file)
    )
    assert METHOD in file.read_text()


def test_it_is_a_sampler_of_optuna(copy: Copy) -> None:
    code = (
        "import optuna; from nascore.optuna_sampler import ProposerSampler; "
        f"study = optuna.create_study(sampler=ProposerSampler('{METHOD}', seed=0)); "
        "study.optimize(lambda trial: trial.suggest_int('x', 0, 5), n_trials=3); "
        "print(len(study.trials))"
    )
    done = copy.python("-c", code)
    assert done.stdout.strip() == "3", done.stderr
