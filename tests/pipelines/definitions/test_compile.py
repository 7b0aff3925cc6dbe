"""The compiled pipeline: equal to its golden file, and what Kubeflow makes of it."""

import ast
import dataclasses
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_graph import pages

from components import kfp_components
from components.config.parameters import NAMES, descriptions
from components.config.schema import Config, dumps, loads, parse
from components.image import IMAGE
from nascore.errors import InputError
from pipelines.definitions.compiling import load
from pipelines.definitions.resources import RESOURCES
from pipelines.definitions.retrain import compile_retrain
from pipelines.definitions.search import compile_search, division
from pipelines.local.events import STEPS

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "search_pipeline.yaml"
DIGEST = f"ghcr.io/team/nas@sha256:{'0123456789abcdef' * 4}"


@pytest.fixture(scope="module")
def config() -> Config:
    return parse({"method": "random", "seed": 3})


@pytest.fixture(scope="module")
def compiled(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_search(config, path, image=DIGEST)
    return path


@pytest.fixture(scope="module")
def pipeline(compiled: Path) -> dict[str, Any]:
    return load(compiled)


@pytest.fixture(scope="module")
def local(config: Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("local") / "pipeline.yaml"
    compile_search(config, path, for_cluster=False)
    return load(path)


def normalised(path: Path) -> list[Any]:
    """All of it but the version of the SDK that wrote it."""
    documents = list(yaml.safe_load_all(path.read_text()))
    documents[0]["sdkVersion"] = "any"
    return documents


def test_golden_pipeline(compiled: Path, request: pytest.FixtureRequest) -> None:
    """`make golden` renews the file; read the difference before committing it."""
    if request.config.getoption("--renew-golden"):
        text = (
            "# Compiled by tests/pipelines/definitions/test_compile.py; renew with `make golden`.\n"
        )
        GOLDEN.write_text(text + yaml.safe_dump_all(normalised(compiled), sort_keys=True))
    assert normalised(compiled) == list(yaml.safe_load_all(GOLDEN.read_text()))


def test_another_process_compiles_the_same_bytes(tmp_path: Path) -> None:
    outputs = []
    for seed in "12":
        path = tmp_path / f"{seed}.yaml"
        command = [sys.executable, "-m", "pipelines.cli", "compile", "-o", str(path)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True)
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1]


def test_compiling_leaves_nothing_but_the_file(config: Config, tmp_path: Path) -> None:
    compile_search(config, tmp_path / "p.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


@pytest.mark.parametrize("compile_pipeline", [compile_search, compile_retrain])
def test_a_pipeline_has_a_described_parameter_for_each_setting_that_changes_most(
    compile_pipeline: Any, config: Config, tmp_path: Path
) -> None:
    """Empty texts: KFP's form cannot be sent while a parameter has no default.

    A null would end the driver of the first step (`components.config.parameters`).
    """
    compile_pipeline(config, tmp_path / "p.yaml", image=DIGEST)
    parameters = load(tmp_path / "p.yaml")["root"]["inputDefinitions"]["parameters"]
    assert parameters.keys() == set(NAMES)
    assert set(NAMES) == {
        *("method", "data", "budget", "workers", "seed", "objective", "image_size", "model"),
        *("experiment", "min_gain", "settings"),
    }
    for name, one in parameters.items():
        assert one.pop("description") == descriptions()[name]
        assert one == {"parameterType": "STRING", "isOptional": True, "defaultValue": ""}


def test_the_configuration_is_compiled_into_the_first_and_the_exit_task_alone(
    pipeline: dict[str, Any], config: Config
) -> None:
    """Later steps read it with the data, so that parameters are not drawn to each of them."""
    found = {
        name: task["inputs"]["parameters"]["config"]["runtimeValue"]["constant"]
        for name, task in tasks(pipeline).items()
        if "config" in task["inputs"].get("parameters", {})
    }
    assert found.keys() == {"prepare_data", "close_run"}
    assert found["prepare_data"] == dumps(config)
    assert all(loads(text) == config for text in found.values())
    for name, task in tasks(pipeline).items():
        given = set(task["inputs"].get("parameters", {})) & set(NAMES)
        assert given == (set(NAMES) if name in found else set())


def test_both_tasks_take_each_parameter_by_its_name() -> None:
    for step in (kfp_components.prepare_data, kfp_components.close_run):
        assert [name for name in inspect.signature(step).parameters if name in NAMES] == [*NAMES]


def test_every_step_runs_on_the_one_image_and_installs_nothing(pipeline: dict[str, Any]) -> None:
    executors = pipeline["deploymentSpec"]["executors"]
    assert len(executors) == 8
    for executor in executors.values():
        container = executor["container"]
        assert container["image"] == DIGEST
        assert "pip install" not in " ".join(container["command"])


def test_steps_on_a_cluster_can_tell_what_they_run_in(tmp_path: Path, config: Config) -> None:
    def told(**options: Any) -> list[dict[str, str]]:
        path = tmp_path / "pipeline.yaml"
        compile_search(config, path, image="registry/nas:1", **options)
        executors = load(path)["deploymentSpec"]["executors"].values()
        return [
            {one["name"]: one["value"] for one in executor["container"].get("env", ())}
            for executor in executors
        ]

    wanted = {"NAS_IMAGE": "registry/nas:1", "NAS_PIPELINE": "nas-search"}
    assert all(wanted.items() <= env.items() for env in told())
    assert not any(wanted.keys() & env.keys() for env in told(for_cluster=False))


def test_a_step_starts_by_a_plain_command_from_code_in_the_image(
    pipeline: dict[str, Any], compiled: Path
) -> None:
    for name, executor in pipeline["deploymentSpec"]["executors"].items():
        command, arguments = executor["container"]["command"], executor["container"]["args"]
        assert command == ["python3", "-m", "components.supervisor", "kfp.dsl.executor_main"]
        step = name.removeprefix("exec-").replace("-", "_")
        assert arguments == ["--executor_input", "{{$}}", "--function_to_execute", step]
    assert "import" not in compiled.read_text(), "source text travels through the pipeline"


def test_a_step_runs_where_there_is_no_other_program(
    pipeline: dict[str, Any], tmp_path: Path
) -> None:
    """As its container would start it; neither a shell nor the tools beside one can be found."""
    container = pipeline["deploymentSpec"]["executors"]["exec-prepare-data"]["container"]
    kinds = {"dataset": "Dataset"}
    artifacts = {
        name: {
            "name": name,
            "type": {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"},
            "uri": str(tmp_path / name),
        }
        for name, kind in kinds.items()
    }
    parameters = {**dict.fromkeys(NAMES, ""), "settings": "data.max_train=100"}
    constants = {"config": "{}", "compiled": {"searches": True}, "job_name": "job"}
    executor_input = {
        "inputs": {"parameterValues": constants | parameters},
        "outputs": {
            "artifacts": {name: {"artifacts": [one]} for name, one in artifacts.items()},
            "outputFile": str(tmp_path / "outputs.json"),
        },
    }
    arguments = [json.dumps(executor_input) if a == "{{$}}" else a for a in container["args"]]
    (tmp_path / "spool").mkdir()
    ended = subprocess.run(
        [sys.executable, *container["command"][1:], *arguments],
        env={
            "PATH": str(tmp_path / "empty"),
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "NAS_STATE_DIR": str(tmp_path / "state"),
            "NAS_SPOOL_DIR": str(tmp_path / "spool"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(json.loads((tmp_path / "dataset" / "run.json").read_text())["run_key"]) == 32
    assert ended.stdout.splitlines()[-1] == f"prepare_data made dataset in {tmp_path / 'dataset'}"
    assert json.loads((tmp_path / "dataset" / "dataset.json").read_text())["num_train"] > 0


def test_the_image_has_a_tag_that_is_the_version() -> None:
    from importlib.metadata import version

    name, _, tag = IMAGE.rpartition(":")
    assert tag == version("nas-pipelines")
    assert "python" in name  # or kfp's local runner warns at every step


@pytest.mark.parametrize(
    "image", ["a b:1", "repo/nas@sha256:abc", "https://repo/nas:1", ":1", "nas:", "repo/NAS:1"]
)
def test_what_no_registry_can_hold_is_no_image(image: str, config: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name of an image"):
        compile_search(config, tmp_path / "p.yaml", image=image)


@pytest.mark.parametrize(
    "image", ["team/nas:latest", "team/nas", "localhost:5000/nas", "nas:LATEST", "team/nas:main"]
)
def test_a_moving_image_is_refused_before_anything_is_written(
    image: str, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="digest"):
        compile_search(config, tmp_path / "p.yaml", image=image)
    assert list(tmp_path.iterdir()) == []


def tasks(pipeline: dict[str, Any]) -> dict[str, Any]:
    """The tasks of the pipeline; those in the block that the exit task waits for, if there is."""
    found = pipeline["root"]["dag"]["tasks"]
    if "exit-handler-1" in found:
        found = found | pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
        del found["exit-handler-1"]
    return {name.replace("-", "_"): task for name, task in found.items()}


def compiled_facts(pipeline: dict[str, Any]) -> dict[str, Any]:
    """What the first step gets as a constant (`components.steps.compiled`)."""
    inputs = tasks(pipeline)["prepare_data"]["inputs"]["parameters"]
    facts: dict[str, Any] = inputs["compiled"]["runtimeValue"]["constant"]
    return facts


def test_no_step_is_cached_and_each_has_a_readable_name(pipeline: dict[str, Any]) -> None:
    for name, task in tasks(pipeline).items():
        assert not task.get("cachingOptions", {}).get("enableCache", False), name
        assert task["taskInfo"]["name"] == name.replace("_", " ")


def test_lost_pods_are_made_again_without_a_limit_in_time(pipeline: dict[str, Any]) -> None:
    """Finding C4: Kubeflow takes backoffMaxDuration for the time of all tries together."""
    for name, task in tasks(pipeline).items():
        retry = task["retryPolicy"]
        assert retry["maxRetryCount"] == 20, name
        assert retry["backoffFactor"] == 1.0, "the pause has no cap in Kubeflow"
        assert int(retry["backoffMaxDuration"].removesuffix("s")) >= 365 * 24 * 3600


def test_the_supervisor_is_told_what_it_may_do(pipeline: dict[str, Any], tmp_path: Path) -> None:
    """Finding M5: a step uses the processors that it asked for, not all of its node."""

    def told(pipeline: dict[str, Any], step: str) -> dict[str, str]:
        container = pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
        return {one["name"]: one["value"] for one in container.get("env", ())}

    assert (
        told(pipeline, "search").items()
        >= {
            "NAS_RESTARTS": "20",
            "NAS_CPUS": "4",
            "NAS_MEMORY": "16G",
        }.items()
    )
    assert "NAS_STATE_ROOT" not in told(pipeline, "search")
    cluster = {
        "restarts": 3,
        "restart_pause_s": 0.5,
        "state": "s3://bucket/state/",
        "steps": {"search": {"cpu": "500m"}},
    }
    compile_search(parse({"method": "random", "cluster": cluster}), tmp_path / "p.yaml")
    other = load(tmp_path / "p.yaml")
    assert told(other, "search")["NAS_RESTARTS"] == "3"
    assert told(other, "search")["NAS_CPUS"] == "1"
    assert told(other, "promote")["NAS_RESTARTS"] == "3"
    assert told(other, "promote")["NAS_RESTART_PAUSE_S"] == "0.5"
    assert told(other, "promote")["NAS_STATE_ROOT"] == "s3://bucket/state"
    compile_search(parse({"method": "random"}), tmp_path / "p.yaml", for_cluster=False)
    assert told(load(tmp_path / "p.yaml"), "search") == {}, "somebody is watching"


def test_an_exit_task_closes_what_a_run_on_a_cluster_leaves_open(
    pipeline: dict[str, Any], config: Config, tmp_path: Path
) -> None:
    (exit_task,) = (
        task
        for task in pipeline["root"]["dag"]["tasks"].values()
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
    )
    assert exit_task["taskInfo"]["name"] == "close run"
    assert "taskFinalStatus" in exit_task["inputs"]["parameters"]["status"]
    compile_search(config, tmp_path / "p.yaml", for_cluster=False)
    assert sorted(tasks(load(tmp_path / "p.yaml"))) == sorted(STEPS)


def test_steps_that_compute_ask_for_a_gpu_and_the_others_do_not(pipeline: dict[str, Any]) -> None:
    executors = pipeline["deploymentSpec"]["executors"]
    with_gpu = set()
    for name, executor in executors.items():
        resources = executor["container"]["resources"]
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"], name
        if "accelerator" in resources:
            assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
            with_gpu.add(name.removeprefix("exec-").replace("-", "_"))
    computing = {"pretrain_controller", "search", "train_final", "profile_latency"}
    assert with_gpu == computing | {"train_references"}


def test_what_the_ui_shows_is_explained(pipeline: dict[str, Any], local: dict[str, Any]) -> None:
    """Descriptions come from the docstrings; an undocumented input has none.

    A pipeline for a cluster has those of its own parameters only, which its form shows.
    """
    for one in (pipeline, local):
        parameters = one["root"]["inputDefinitions"]["parameters"]
        assert all(parameter["description"] for parameter in parameters.values())
    assert "description" not in str(pipeline["components"])
    pipeline = local
    steps = {k: one for k, one in pipeline["components"].items() if "executorLabel" in one}
    for name, component in steps.items():
        for key, definition in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            assert definition.get("description"), f"{name}: {key}"


def test_artifacts_have_types_that_the_ui_knows(pipeline: dict[str, Any]) -> None:
    types = {
        key: definition["artifactType"]["schemaTitle"].removeprefix("system.")
        for component in pipeline["components"].values()
        for key, definition in component.get("outputDefinitions", {}).get("artifacts", {}).items()
    }
    assert types == {
        "dataset": "Dataset",
        "controller": "Model",
        "search_result": "Artifact",
        "weights": "Model",
        "model": "Model",
        "latency": "Artifact",
        "references": "Artifact",
        "result": "Artifact",
        "report": "HTML",
        "class_figures": "ClassificationMetrics",
        "overview": "Markdown",
        "run_metrics": "Metrics",
    }


def test_the_graph_is_one_that_a_person_reads(pipeline: dict[str, Any]) -> None:
    """It had 15 artifacts, six of them called `metrics`, and 40 edges for one task less."""
    graph = pages(pipeline)["exit-handler-1"]
    assert len(graph.tasks) == 7
    assert len(graph.artifacts) == len(set(graph.artifacts)) == 12
    assert len(graph.edges) == 34
    promote = pipeline["components"]["comp-promote"]["outputDefinitions"]["artifacts"]
    assert min(promote) == "overview", "the UI sorts them by name"


def test_the_branches_of_a_retraining_have_names(tmp_path: Path) -> None:
    compile_retrain(parse({"method": "random"}), tmp_path / "p.yaml", image=DIGEST)
    graphs = pages(load(tmp_path / "p.yaml"))
    shown = {name for graph in graphs.values() for name in graph.tasks}
    assert {"search or reuse", "search anew", "reuse the champion"} < shown
    assert not [name for name in shown if "condition" in name]
    assert max(len(graph.edges) for graph in graphs.values()) == 26  # it was 33


def test_a_task_waits_for_no_task_that_another_one_waits_for_anyway(
    pipeline: dict[str, Any],
) -> None:
    found = {name: task.get("dependentTasks", []) for name, task in tasks(pipeline).items()}
    assert found["promote"] == ["train-references"]
    assert found["train_references"] == ["profile-latency"]
    assert found["profile_latency"] == ["train-final"]
    assert found["train_final"] == ["search"]
    assert found["search"] == ["pretrain-controller"]
    assert found["pretrain_controller"] == ["prepare-data"]


def test_each_declaration_calls_its_step_with_just_what_it_takes() -> None:
    """Compared in the source: kfp would tell it only when the step runs."""
    tree = ast.parse((ROOT / "components" / "kfp_components.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    declared = [function for function in functions if not function.name.startswith("_")]
    assert [function.name for function in declared] == list(RESOURCES)
    for function in declared:
        module = importlib.import_module(f"components.steps.{function.name}")
        taken = set(inspect.signature(module.run).parameters)
        if "inputs" in taken:
            taken |= {field.name for field in dataclasses.fields(module.Inputs)}
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        assert "step.run" in {ast.unparse(call.func) for call in calls}, function.name
        to_step = ("step.run", "Inputs", "_paths")
        given = [
            keyword.arg
            for call in calls
            if ast.unparse(call.func) in to_step
            for keyword in call.keywords
            if keyword.arg is not None
        ]
        # `_run` reads the key of the run with the data.
        common = [call for call in calls if ast.unparse(call) == "_run(dataset)"]
        given += [name for name in ("run_key", "dataset") if common and name not in given]
        assert len(given) == len(set(given)), function.name
        assert set(given) == taken, function.name
        own = {argument.arg for argument in function.args.args} - {"class_figures", "run_metrics"}
        if own > set(NAMES):
            own = own - set(NAMES) | {"parameters"}
        own |= {"run_key"} if common else set()
        own |= {"message"} if function.name == "close_run" else set()  # a part of the status
        assert set(given) - {"inputs"} == own, function.name


# --- workers --------------------------------------------------------------------------------


WORKERS = {"workers": 4, "storage": "env:NAS_STUDY_URL"}


def test_workers_on_a_cluster_are_tasks_beside_the_search(tmp_path: Path) -> None:
    config = parse({"method": "random", "search": WORKERS})
    compile_search(config, tmp_path / "p.yaml")
    pipeline = load(tmp_path / "p.yaml")
    workers = [task for name, task in tasks(pipeline).items() if name.startswith("search_worker")]
    assert len(workers) == 3
    for worker in workers:
        assert worker["dependentTasks"] == ["pretrain-controller"]
    places = [task["inputs"]["parameters"]["place"]["runtimeValue"] for task in workers]
    assert sorted(place["constant"] for place in places) == [1, 2, 3]
    names = sorted(task["taskInfo"]["name"] for task in workers)
    assert names == ["search worker 1", "search worker 2", "search worker 3"]
    worker = pipeline["deploymentSpec"]["executors"]["exec-search-worker"]["container"]
    search = pipeline["deploymentSpec"]["executors"]["exec-search"]["container"]
    assert worker["resources"] == search["resources"], "a GPU each"
    assert compiled_facts(pipeline)["workers"] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("method", "budget", "gpus_of_search"),
    [
        ("random", {"children": 4}, {"search": "4", "search-worker": "8"}),
        ("enas", {"steps": 10}, {"search": "3"}),
    ],
)
def test_steps_that_train_on_several_devices_ask_for_as_many_gpus(
    method: str, budget: dict[str, int], gpus_of_search: dict[str, str], tmp_path: Path
) -> None:
    search = {"workers": 3, "storage": "env:NAS_STUDY_URL", "budget": budget}
    data = {
        "method": method,
        "search": {**search, "space": {"name": "nasbench201"}},
        "training": {"devices": 4},
        "cluster": {"workers_per_pod": 2},
    }
    compile_search(parse(data), tmp_path / "p.yaml")
    executors = load(tmp_path / "p.yaml")["deploymentSpec"]["executors"]
    gpus = {
        name.removeprefix("exec-"): one["container"]["resources"]["accelerator"]["count"]
        for name, one in executors.items()
        if "accelerator" in one["container"].get("resources", {})
    }
    expected = {"train-final": "4", "train-references": "4", **gpus_of_search}
    assert {name: gpus[name] for name in expected} == expected
    assert gpus["profile-latency"] == "1"
    assert compiled_facts(load(tmp_path / "p.yaml"))["devices"] == 4


def test_fewer_gpus_than_devices_are_refused(tmp_path: Path) -> None:
    data: dict[str, Any] = {"method": "random", "training": {"devices": 4}}
    data["cluster"] = {"steps": {"train_final": {"gpus": 2}, "search": {"gpus": 4}}}
    with pytest.raises(InputError) as refused:
        compile_search(parse(data), tmp_path / "p.yaml", image=DIGEST)
    (problem,) = refused.value.problems
    assert (problem.key, problem.value) == ("training.devices", "4")
    assert problem.message == "cluster.steps.train_final.gpus is 2; give it 4, or remove it"
    data["cluster"] = {"steps": {"train_final": {"gpus": 0}}}
    compile_search(parse(data), tmp_path / "p.yaml", image=DIGEST)  # processes on CPUs


@pytest.mark.parametrize(
    ("count", "per_pod", "expected"),
    [
        (1, None, (1,)),
        (8, None, (1, *7 * (1,))),
        (9, None, (1, *4 * (2,))),
        (64, None, (8, *7 * (8,))),
        (10, 3, (1, 3, 3, 3)),
        (4, 8, (4,)),
    ],
)
def test_workers_share_pods(count: int, per_pod: int | None, expected: tuple[int, ...]) -> None:
    search = {**WORKERS, "workers": count}
    config = parse({"method": "random", "search": search, "cluster": {"workers_per_pod": per_pod}})
    found = division(config, for_cluster=True)
    assert found == expected
    assert sum(found) == count, "neither more nor fewer than was asked for"


def test_a_pod_of_workers_asks_for_what_all_of_them_need(tmp_path: Path) -> None:
    search = {**WORKERS, "workers": 16}
    compile_search(parse({"method": "random", "search": search}), tmp_path / "p.yaml")
    pipeline = load(tmp_path / "p.yaml")
    container = pipeline["deploymentSpec"]["executors"]["exec-search-worker"]["container"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert told["NAS_CPUS"] == "8"
    assert container["resources"]["resourceCpuRequest"] == "8"
    assert container["resources"]["resourceMemoryLimit"] == "32G"
    assert container["resources"]["accelerator"]["resourceCount"] == "2"


def test_workers_on_one_machine_are_processes_of_the_search(tmp_path: Path) -> None:
    config = parse({"method": "random", "search": {"workers": 4}})
    compile_search(config, tmp_path / "p.yaml", for_cluster=False)
    pipeline = load(tmp_path / "p.yaml")
    assert list(tasks(pipeline)) == sorted(STEPS)
    assert "workers" not in compiled_facts(pipeline), "the search starts as many as it should"


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ({"workers": 4}, "share a database"),
        ({"storage": "postgresql://nas:hunter2@db/nas"}, "put the URL into a Secret"),
        ({"storage": "postgresql://nas:hun ter2@db/nas"}, "put the URL into a Secret"),
        ({"storage": "postgresql://db/nas?password=hunter2"}, "put the URL into a Secret"),
        ({"storage": "host=db password=hunter2"}, "neither env:NAME nor the URL"),
        ({"storage": "nas:hunter2@db/nas"}, "neither env:NAME nor the URL"),
    ],
)
def test_workers_without_a_database_in_common_or_with_an_open_password_are_refused(
    search: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=problem) as refused:
        compile_search(parse({"method": "random", "search": search}), tmp_path / "p.yaml")
    assert "ter2" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("http://nas:hunter2@mlflow", "MLFLOW_TRACKING_PASSWORD by cluster.secrets"),
        ("https://hunter2@mlflow", "MLFLOW_TRACKING_PASSWORD by cluster.secrets"),
        ("postgresql://nas:hunter2@db/mlflow", "MLFLOW_TRACKING_PASSWORD by cluster.secrets"),
        ("nas:hunter2@mlflow", "MLFLOW_TRACKING_PASSWORD by cluster.secrets"),
        ("mlruns", "MLflow 3 keeps no runs in plain folders"),
        ("ftp://mlflow", "http(s) address of a server"),
    ],
)
def test_a_tracking_store_with_an_open_password_or_of_no_kind_is_refused(
    uri: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        compile_search(parse({"tracking": {"uri": uri}}), tmp_path / "p.yaml")
    assert problem in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_a_step_is_not_given_is_missed_before_anything_runs(tmp_path: Path) -> None:
    without = ("search", "search_worker", "profile_latency")
    steps = {step: {"gpus": 0} for step in without}
    data = {
        "method": "random",
        "training": {"device": "cuda"},
        "latency": {"device": "cuda"},
        "cluster": {"steps": steps},
    }
    with pytest.raises(InputError) as refused:
        compile_search(parse(data), tmp_path / "p.yaml", image=DIGEST)
    told = [(p.key, p.message.partition(" ")[0]) for p in refused.value.problems]
    assert told == [
        ("training.device", "cluster.steps.search.gpus"),
        ("training.device", "cluster.steps.search_worker.gpus"),
        ("latency.device", "cluster.steps.profile_latency.gpus"),
    ]
    data["cluster"] = {}
    compile_search(parse(data), tmp_path / "p.yaml", image=DIGEST)


@pytest.mark.parametrize(
    ("root", "volume", "is_taken"),
    [
        ("s3://bucket/models", None, True),
        ("/var/lib/nas/models", "pvc:nas-state", True),
        ("/var/lib/nas/models", None, False),
        ("/var/lib/nas/models", "s3://bucket/state", False),
        ("models", "pvc:nas-state", False),
        ("/var/lib/nas-other", "pvc:nas-state", False),
    ],
)
def test_results_are_not_handed_over_to_a_pod_that_ends(
    root: str, volume: str | None, is_taken: bool, tmp_path: Path
) -> None:
    config = parse({"promote": {"export_to": root}, "cluster": {"state": volume}})
    if is_taken:
        compile_search(config, tmp_path / "p.yaml", image=DIGEST)
        return
    with pytest.raises(InputError, match="gone with its pod"):
        compile_search(config, tmp_path / "p.yaml", image=DIGEST)


def test_only_a_search_that_is_sure_to_take_place_has_its_study_looked_at(tmp_path: Path) -> None:
    for compile_pipeline, expected in ((compile_search, True), (compile_retrain, False)):
        compile_pipeline(parse({"method": "random"}), tmp_path / "p.yaml")
        assert compiled_facts(load(tmp_path / "p.yaml"))["searches"] is expected


def test_pods_without_a_gpu_are_known_to_the_first_step(tmp_path: Path) -> None:
    cluster = {"steps": {"train_final": {"gpus": 0}, "promote": {"gpus": 0}}}
    compile_search(parse({"method": "random", "cluster": cluster}), tmp_path / "p.yaml")
    assert compiled_facts(load(tmp_path / "p.yaml"))["without_gpu"] == ["train_final"]


# --- what the configuration says of the cluster ---------------------------------------------


CLUSTER = {
    "gpu_node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
    "node_selector": {"pool": "nas"},
    "tolerations": [{"key": "team", "operator": "Equal", "value": "nas"}],
    "shared_memory": "8Gi",
    "state": "pvc:nas-state",
    "secrets": {
        "NAS_STUDY_URL": "nas-study/url",
        "MLFLOW_TRACKING_PASSWORD": "nas-mlflow/password",
    },
    "config_maps": {"AWS_ENDPOINT_URL": "nas-services/s3"},
    "image_pull_secrets": ["registry"],
    "pod_retries": 10,
    "steps": {
        "search": {"cpu": "8", "memory": "32Gi", "gpus": 2, "timeout_s": 86400},
        "promote": {"gpus": 0},
    },
}
CLUSTER_GOLDEN = GOLDEN.with_name("cluster_pipeline.yaml")


@pytest.fixture(scope="module")
def on_cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "pipeline.yaml"
    config = {"method": "random", "search": WORKERS, "cluster": CLUSTER}
    compile_search(parse(config), path, image=DIGEST)
    return path


def test_golden_pipeline_for_a_cluster(on_cluster: Path, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--renew-golden"):
        text = (
            "# Compiled by tests/pipelines/definitions/test_compile.py; renew with `make golden`.\n"
        )
        CLUSTER_GOLDEN.write_text(text + yaml.safe_dump_all(normalised(on_cluster), sort_keys=True))
    assert normalised(on_cluster) == list(yaml.safe_load_all(CLUSTER_GOLDEN.read_text()))


def test_every_setting_of_the_cluster_arrives(on_cluster: Path) -> None:
    pipeline, platform = yaml.safe_load_all(on_cluster.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(executors) == 11
    for name, one in executors.items():
        labels = one["nodeSelector"]["labels"]
        assert labels["pool"] == "nas"
        has_gpu = name not in ("exec-prepare-data", "exec-promote", "exec-close-run")
        assert ("nvidia.com/gpu.product" in labels) == has_gpu
        assert ("emptyDirMounts" in one) == has_gpu
        assert len(one["tolerations"]) == 1 + has_gpu
        names = {secret["secretName"] for secret in one["secretAsEnv"]}
        assert names == {"nas-study", "nas-mlflow"}
        assert one["pvcMount"][0]["mountPath"] == "/var/lib/nas"
        assert one["fieldPathAsEnv"][0]["name"] == "NAS_RUN_ID"
        assert one["imagePullSecret"]
    assert executors["exec-search"]["activeDeadlineSeconds"] == "86400"
    search = pipeline["deploymentSpec"]["executors"]["exec-search"]["container"]["resources"]
    assert search["accelerator"]["resourceCount"] == "2"
    assert search["resourceMemoryLimit"] == "32Gi"
    retry = tasks(pipeline)["search"]["retryPolicy"]
    assert (retry["maxRetryCount"], retry["backoffDuration"]) == (10, "60s")


def test_the_pipeline_stays_small_with_many_workers(tmp_path: Path) -> None:
    """Parts of Kubeflow keep it in places of 256 KB."""
    search = {**WORKERS, "workers": 64}
    compile_search(parse({"search": search, "cluster": CLUSTER}), tmp_path / "p.yaml", image=DIGEST)
    assert (tmp_path / "p.yaml").stat().st_size < 100_000


@pytest.mark.parametrize(
    ("cluster", "key"),
    [
        ({"steps": {"serach": {}}}, "cluster.steps.serach"),
        ({"steps": {"search": {"memory": "lots"}}}, "cluster.steps.search.memory"),
        ({"secrets": {"URL": "no-key"}}, "cluster.secrets.URL"),
        ({"shared_memory": "2 gigs"}, "cluster.shared_memory"),
        ({"state": "nas-state"}, "write pvc:nas-state"),
        ({"state": "pvc:nas.state"}, "no dots"),
        ({"state_volume": "nas-state"}, "cluster.state"),
        ({"steps": {"search": {"memory": "2,5Gi"}}}, "a number and a unit, such as 16Gi"),
        ({"steps": {"search": {"memory": "2ki"}}}, "a number and a unit, such as 16Gi"),
        ({"steps": {"search": {"cpu": "4Gi"}}}, "not a number of processors"),
        ({"secrets": {"NAS_RESTARTS": "a/b"}}, "choose another name"),
        ({"config_maps": {"PATH": "a/b"}}, "choose another name"),
    ],
)
def test_settings_of_the_cluster_are_checked(cluster: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError) as refused:
        parse({"cluster": cluster})
    assert key in str(refused.value)


def test_quantities_are_compiled_in_kubernetes_notation(tmp_path: Path) -> None:
    steps = {"search": {"cpu": 2.5, "memory": "1.5 GiB"}, "train_final": {"memory": "64000000kb"}}
    config = parse({"cluster": {"steps": steps, "shared_memory": "512MB"}})
    compile_search(config, tmp_path / "p.yaml", image=DIGEST)
    documents = list(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))
    executors = documents[0]["deploymentSpec"]["executors"]
    resources = {
        name: executors[f"exec-{name}"]["container"]["resources"]
        for name in ("search", "train-final")
    }
    assert resources["search"]["resourceCpuRequest"] == "2500m"
    assert resources["search"]["resourceMemoryLimit"] == "1536Mi"
    assert resources["train-final"]["resourceMemoryLimit"] == "64000000000"
    assert "512M" in str(documents[1])


# --- retraining -----------------------------------------------------------------------------


def test_golden_retraining_pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN.with_name("retrain_pipeline.yaml")
    compile_retrain(parse({"method": "random", "seed": 3}), tmp_path / "p.yaml", image=DIGEST)
    if request.config.getoption("--renew-golden"):
        text = (
            "# Compiled by tests/pipelines/definitions/test_compile.py; renew with `make golden`.\n"
        )
        documents = normalised(tmp_path / "p.yaml")
        golden.write_text(text + yaml.safe_dump_all(documents, sort_keys=True))
    assert normalised(tmp_path / "p.yaml") == list(yaml.safe_load_all(golden.read_text()))


def test_a_search_takes_place_on_one_branch_only(tmp_path: Path) -> None:
    compile_retrain(parse({"method": "random"}), tmp_path / "p.yaml", image=DIGEST)
    pipeline = load(tmp_path / "p.yaml")
    branches = {
        name: set(component["dag"]["tasks"])
        for name, component in pipeline["components"].items()
        if "dag" in component
    }
    assert sum("search" in tasks for tasks in branches.values()) == 1
    assert sum("reuse" in tasks for tasks in branches.values()) == 1
    assert sum("promote" in tasks or "promote-2" in tasks for tasks in branches.values()) == 2
