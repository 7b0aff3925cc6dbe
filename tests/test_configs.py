"""Every configuration in the repository is complete and valid, and none is overlooked."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from components.config.parameters import PARAMETERS
from components.config.schema import dumps, loads, parse
from nascore.methods.registry import METHODS
from pipelines.commands.shortcuts import settings_of
from pipelines.config import read_yaml, resolve

ROOT = Path(__file__).parent.parent
NAMES = ("quick", "paper")
FILES = sorted((ROOT / "nascore" / "methods").rglob("*.y*ml"))
EXAMPLES = sorted((ROOT / "manifests").rglob("cluster.yaml"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.yaml"))


def test_every_method_has_its_presets_and_there_are_no_others() -> None:
    expected = {
        method.presets / key / f"{name}.yaml" for key, method in METHODS.items() for name in NAMES
    }
    assert set(FILES) == expected
    assert len(FILES) == 2 * len(METHODS) >= 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_preset_is_valid_and_is_of_the_method_of_its_folder(path: Path) -> None:
    config = parse(read_yaml(path))
    assert config.method == path.parent.name
    assert loads(dumps(config)) == config


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_preset_opens_with_what_it_is_how_to_run_it_and_what_it_costs(path: Path) -> None:
    comment = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
    commands = [line for line in comment if line.startswith("nas run")]
    assert commands, "the comment shows no command"
    given = commands[0].split()[2:]
    options = {one.option: one for one in PARAMETERS}
    chosen = {options[flag]: word for flag, word in pairwise(given) if flag in options}
    settings = settings_of(
        [word for flag, word in pairwise(given) if flag == "--set"], chosen.items()
    )
    preset = given[given.index("--preset") + 1] if "--preset" in given else None
    started, written = resolve(None, preset, settings), parse(read_yaml(path))
    assert (started.method, started.search) == (written.method, written.search)
    assert any(word in " ".join(comment) for word in ("children", "architectures", "minutes"))


def test_the_quick_presets_need_no_file_and_no_network() -> None:
    for method in METHODS:
        config = resolve(None, "quick", [f"method={method}"])
        assert config.data.source == "digits"
        assert config.search.control
        is_proposing = METHODS[method].load_proposing() is not None or method == "auto-meta"
        assert config.search.budget.unit == ("children" if is_proposing else "steps")
        assert config.search.budget.amount >= 12


def test_paper_presets_hold_the_published_numbers_of_nases() -> None:
    config = resolve(None, "paper", ["method=nases"])
    space, child, final = config.search.space, config.search.child, config.train
    assert space.model_dump(exclude={"min_map_size"}) == {
        "name": "chain",
        "num_layers": 15,
        "vocabulary": 29,
        "channels_per_token": 10,
        "final_added_channels": 150,
    }
    assert config.search.budget.children == 120
    assert (child.epochs, final.epochs) == (10, 700)
    for own in (child, final):
        training = config.training.resolve(own)
        assert (training.batch_size, training.lr, training.min_lr) == (128, 0.05, 0.001)
        assert (training.crop_padding, training.flip) == (4, True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_of_a_cluster_are_valid(path: Path) -> None:
    assert resolve(path, None, []).cluster.secrets


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_runs_is_valid(path: Path) -> None:
    config = resolve(path, None, [])
    assert loads(dumps(config)) == config


def test_all_yaml_configurations_under_version_control_are_covered() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.yaml", "*.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git clone")
    other = [name for name in listed.stdout.split() if "/presets/" not in name]
    holders = {ROOT / name for name in other if "\nsearch:" in (ROOT / name).read_text()}
    assert holders == {*EXAMPLES, *BENCHMARKS}, "a configuration that no test validates"
