"""`nas diagnose` on the folder of a real, short search."""

import json
import re
import shutil
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from callbacks import CallbacksOf
from click.testing import CliRunner, Result

from components.config.schema import Config, dumps, parse
from components.steps.context_builder import StepInputs, build_context
from components.tracking import Tracker
from nascore.context import SearchContext
from nascore.methods.enas import method as enas
from nascore.methods.enas.policy import UniformPolicy
from nascore.methods.enas.shared_search import SharedSearch
from nascore.spaces.base import make_genotype
from nascore.spaces.nasbench201.space import Cell201Space
from pipelines.cli import main
from pipelines.commands.diagnose import history

SETTINGS: dict[str, Any] = {
    "method": "memory-enas",
    "seed": 3,
    "search": {
        "space": {"name": "nasbench201", "search_channels": 4, "search_cells_per_stage": 1},
        "budget": {"steps": 24},
        "options": {
            "controller": {"hidden_size": 12, "architectures": 3},
            "controller_every": 4,
            "eval_batch_size": 30,
            "memory": {"capacity": 40, "warmup": 20, "batch_size": 8},
            "weights": {"batch_size": 32},
        },
    },
}


def make_run(folder: Path, data: Path, settings: dict[str, Any] = SETTINGS) -> Path:
    """What `nas run` leaves when it was stopped before the finalists."""
    config: Config = parse(settings)
    outputs = {
        step: folder / "state" / step / "outputs"
        for step in ("prepare_data", "pretrain_controller")
    }
    shutil.copytree(data, outputs["prepare_data"] / "dataset")
    controller = outputs["pretrain_controller"] / "controller"
    for made in (controller, folder / "state" / "search"):
        made.mkdir(parents=True)
    (folder / "config.json").write_text(dumps(config))
    with closing(
        Tracker.open(folder / "spool", uri="sqlite:///none.db", experiment="e")
    ) as tracker:
        tracked = tracker.run("r.search", name="search")
        inputs = StepInputs(
            config=config,
            dataset=outputs["prepare_data"] / "dataset",
            controller=controller,
            state=folder / "state" / "search",
            run_key="r",
        )
        task = build_context(inputs, CallbacksOf(on_metrics=tracked.metrics))
        enas.pretrain(task)
        search_both(task)
    return folder


def search_both(task: SearchContext) -> None:
    policy, _ = enas.load_policy(task)
    SharedSearch(task, "method", policy, diagnose=enas._instruments(task, policy)).run()
    SharedSearch(task, "control", UniformPolicy(task.space, task.seeds, "control")).run()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", digits_folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracies of 3,000 cells by the number of their convolutions."""
    space = Cell201Space(parse(SETTINGS).search.space)
    tokens = np.random.default_rng(0).permutation(5**6)[:3000]
    digits = np.stack([tokens // 5**i % 5 for i in range(6)], axis=1)
    rows = [
        f"{space.to_arch_str(make_genotype(space, one))},{10 * sum(one == 3) + one[0]}\n"
        for one in digits
    ]
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text("arch_str,valid\n" + "".join(rows))
    return path


def diagnose(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["diagnose", *map(str, arguments)])


class Page(HTMLParser):
    """Counts what a page holds, and what it would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.loads += [v for k, v in attrs if k in ("src", "href") and v and v[:1] not in "#d"]


# --- what it finds --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looked(run: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """With everything that can be asked for; and where the files are."""
    out = tmp_path_factory.mktemp("out") / "new"
    result = diagnose(run, "--table", table, "--search-metric", "valid", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    return result, out


def test_a_page_and_a_document_for_a_run(looked: tuple[Result, Path]) -> None:
    result, out = looked
    assert sorted(path.name for path in out.iterdir()) == ["diagnosis.html", "diagnosis.json"]
    found = json.loads((out / "diagnosis.json").read_text())
    assert json.loads(result.stdout) == found, "JSON is all that goes to standard output"
    assert (found["version"], found["method"], found["seed"]) == (1, "memory-enas", 3)
    assert found["now"]["space"] == "nasbench201"
    assert found["now"]["correlations"] != found["initial"]["correlations"]
    page = (out / "diagnosis.html").read_text()
    read = Page(page)
    # Scatters and probes twice, conditioning, and reward and entropy over time.
    assert read.tags["svg"] == 7
    assert not read.loads
    assert "script" not in read.tags
    edit = found["now"]["correlations"]["euclidean"]["edit"]["spearman"]
    assert f"{edit:.3g}" in page


def test_a_table_judges_the_shared_weights_of_both_arms(looked: tuple[Result, Path]) -> None:
    _, out = looked
    found = json.loads((out / "diagnosis.json").read_text())
    assert found["table"] == {"name": "table.csv", "column": "valid"}
    assert found["shared_weights"].keys() == {"method", "control"}
    for one in found["shared_weights"].values():
        assert one["num"] == 100
        assert one["interval"][0] <= one["spearman"] <= one["interval"][1]
    assert "table.csv" in (out / "diagnosis.html").read_text()


def test_without_a_table_it_needs_no_data_and_writes_into_the_run(
    run: Path, table: Path, looked: tuple[Result, Path], tmp_path: Path
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copied / "state" / "prepare_data")
    assert "which is missing" in refused(copied, "--table", table, "--search-metric", "valid")
    result = diagnose(copied)
    assert result.exit_code == 0, result.output
    assert "State and graph" in result.stdout
    assert "No table of trained networks was given" in (copied / "diagnosis.html").read_text()
    found, before = (
        json.loads((folder / "diagnosis.json").read_text()) for folder in (copied, looked[1])
    )
    assert found["shared_weights"] == {}
    for key in ("now", "initial", "history"):
        assert found[key] == before[key], "the same run gives the same figures"


def test_the_course_of_the_search_is_what_it_has_told_its_tracking(run: Path) -> None:
    found = history(run)
    assert [step for step, _ in found["policy/method/entropy"]] == list(range(6))
    assert [step for step, _ in found["diagnosis/spearman_edit"]] == [0]
    assert not any(name.startswith(("weights/", "policy/control")) for name in found)


def test_an_update_that_was_made_again_counts_once(tmp_path: Path) -> None:
    with closing(Tracker.open(tmp_path / "spool", uri="sqlite:///none.db", experiment="e")) as t:
        tracked = t.run("r.search", name="search")
        for step, value in ((0, 1.0), (1, 2.0), (1, 3.0)):
            tracked.metrics({"policy/method/reward": value}, step)
        t.run("r.train_final", name="train_final").metrics({"policy/method/reward": 9.0}, 7)
    assert history(tmp_path) == {"policy/method/reward": [(0, 1.0), (1, 3.0)]}
    assert history(tmp_path / "nothing") == {}


def test_a_restricted_space_is_found_in_the_whole_table(
    digits_folder: Path, table: Path, tmp_path: Path
) -> None:
    """Two operations are 64 cells, of which about 12 are in the table; equal ones are the same."""
    few = ("none", "nor_conv_3x3")
    search = {**SETTINGS["search"], "control": False}
    search["space"] = {**search["space"], "operations": few}
    run = make_run(tmp_path / "run", digits_folder, {**SETTINGS, "search": search})
    result = diagnose(run, "--table", table, "--search-metric", "valid", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["shared_weights"]
    assert found.keys() == {"method"}
    listed = [line.split(",")[0] for line in table.read_text().splitlines()[1:]]
    names = [{part.split("~")[0] for part in re.split(r"[|+]+", one) if part} for one in listed]
    assert found["method"]["num"] == sum(one <= set(few) for one in names)


# --- what it refuses ------------------------------------------------------------------------


def refused(*arguments: str | Path) -> str:
    result = diagnose(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "holds no run" in refused(tmp_path / "nowhere")
    assert "holds no run" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("method", ["random-ws", "nases"])
def test_a_method_without_such_a_controller_is_refused_and_those_with_one_are_named(
    tmp_path: Path, method: str
) -> None:
    settings = {"method": method}
    if method == "random-ws":
        settings |= {"search": {"space": {"name": "nasbench201"}, "budget": {"steps": 5}}}  # type: ignore[dict-item]
    (tmp_path / "config.json").write_text(dumps(parse(settings)))
    said = refused(tmp_path)
    assert method in said
    assert "memory-enas and enas have one" in said


def test_a_search_that_has_saved_nothing_yet_or_damaged_files_is_refused(
    run: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    path = copied / "state" / "search" / "method.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert "damaged" in refused(copied)
    path.unlink()
    assert "has not saved one yet" in refused(copied)
    assert not (copied / "diagnosis.html").exists()


def test_wrong_tables_and_folders_are_told_together(run: Path, table: Path, tmp_path: Path) -> None:
    said = refused(run, "--table", tmp_path / "none.csv", "--out", table)
    assert "needs --search-metric" in said
    assert "is a file; name a folder" in said
    said = refused(run, "--table", table, "--search-metric", "vaild")
    assert re.findall("vaild", said) == ["vaild"], "once, not for two options"
    assert "--report-metric" not in said
    assert "give --table" in refused(run, "--search-metric", "valid")


def test_a_table_of_other_architectures_is_refused(run: Path, table: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("".join(table.read_text().splitlines(keepends=True)[:4]))
    assert "10 are needed" in refused(run, "--table", few, "--search-metric", "valid")
    micro = {**SETTINGS, "search": {**SETTINGS["search"], "space": {"name": "enas-micro"}}}
    (tmp_path / "config.json").write_text(dumps(parse(micro)))
    said = refused(tmp_path, "--table", table, "--search-metric", "valid")
    assert "this run of enas-micro" in said
