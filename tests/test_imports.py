"""Who may import whom. Read from the source: what a library loads by itself is no concern here."""

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The third-party packages that each of ours imports: no more (a new one is a decision, and a
# dependency to declare) and no fewer (what nobody needs should not be installed).
THIRD_PARTY = {
    "nascore": {
        "PIL",
        "jinja2",
        "matplotlib",
        "markupsafe",
        "numpy",
        "onnxruntime",
        "optuna",
        "psutil",
        "pydantic",
        "safetensors",
        "scipy",
        "sklearn",
        "sqlalchemy",
        "tenacity",
        "torch",
        "torchvision",
        "typing_extensions",
        "yaml",
    },
    "components": {
        "boto3",
        "botocore",
        "filelock",
        "kfp",
        "mlflow",
        "numpy",
        "psutil",
        "pydantic",
        "s3transfer",
        "safetensors",
        "sqlalchemy",
        "torch",
        "typing_extensions",
        "urllib3",
        "yaml",
    },
    "pipelines": {
        "click",
        "cronsim",
        "kfp",
        "kfp_server_api",
        "kubernetes",
        "packaging",
        "psutil",
        "pydantic",
        "pydantic_core",
        "rich",
        "sqlalchemy",
        "tenacity",
        "urllib3",
        "yaml",
    },
}
OURS = {
    "nascore": {"nascore"},
    "components": {"components", "nascore"},
    "pipelines": {"components", "nascore", "pipelines"},
}
# The modules that name a heavy or optional package, wherever in the module that is.
ONLY_IN = {
    "boto3": {
        "components.object_store.connection",
        "components.object_store.downloads",
        "components.object_store.s3_errors",
    },
    "botocore": {
        "components.object_store.client",
        "components.object_store.connection",
        "components.object_store.objects",
        "components.object_store.s3_errors",
        "components.object_store.writing",
    },
    "s3transfer": {"components.object_store.downloads", "components.object_store.s3_errors"},
    "matplotlib": {
        "nascore.figures.chart",
        "nascore.figures.plots",
        "nascore.figures.run_charts",
    },
    "safetensors": {
        "components.export.weights",
        "components.registry.teachers",
        "nascore.data.array_files",
        "nascore.pretrained.weight_files",
    },
    "onnxruntime": {
        "nascore.quantization.int8",
        "nascore.quantization.onnx_network",
        "nascore.quantization.quantizers",
    },
    "mlflow": {
        "components.registry.aliases",
        "components.tracking.closing",
        "components.registry.test_sets",
        "components.registry.model_kinds",
        "components.registry.promotion",
        "components.registry.model_registry",
        "components.registry.served.pyfunc_few_shot",
        "components.registry.served.pyfunc_multi_output",
        "components.registry.teachers",
        "components.steps.review",
        "components.tracking.client",
        "components.tracking.pipeline_runs",
        "components.tracking.registered_models",
        "components.tracking.runs",
        "components.tracking.mlflow_writer",
        "components.tracking.experiments",
        "components.tracking.server_checks",
        "components.tracking.system_metrics",
        "components.registry.champion_check",
        "components.registry.lookup",
        "components.steps.champion",
        "components.steps.registration",
    },
    "cronsim": {"pipelines.kubeflow.schedule_times"},
    "kubernetes": {
        "pipelines.kubeflow.doctor.client",
        "pipelines.kubeflow.doctor.kubeconfig",
        "pipelines.kubeflow.doctor.quantities",
    },
    "kfp_server_api": {"pipelines.kubeflow.client", "pipelines.kubeflow.pipelines_page"},
    "urllib3": {
        "components.supervisor.artifact_store",
        "pipelines.kubeflow.client",
        "pipelines.kubeflow.doctor.client",
        "pipelines.kubeflow.errors",
    },
    "kfp": {
        "components.kfp_components",
        "components.execute",
        "pipelines.definitions.compiling",
        "pipelines.kubeflow.connection",
        "pipelines.local.run",
        "pipelines.definitions.resources",
        "pipelines.definitions.retrain",
        "pipelines.definitions.search",
        "pipelines.definitions.tasks",
    },
}
# Loaded without torch, mlflow or kfp (docs/architecture.md); a whole run starts through them.
LIGHT = [
    "nascore.config",
    "nascore.data.prepared",
    "nascore.errors",
    "nascore.methods.registry",
    "components.config.schema",
    "components.image",
    "components.steps.prepare_data",
    "components.tracking",
]
DISTRIBUTIONS = {
    "PIL": "pillow",
    "kfp_server_api": "kfp-server-api",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# By boto3, by jinja2, by pydantic: types of theirs.
BROUGHT_ALONG = {"botocore", "markupsafe", "pydantic_core", "s3transfer"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules(package: str) -> dict[str, ast.Module]:
    return {name_of(p): ast.parse(p.read_text()) for p in sorted((ROOT / package).rglob("*.py"))}


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all imports, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(tree: ast.AST) -> set[str]:
    found = {name.partition(".")[0] for name in imported(tree)}
    return found - sys.stdlib_module_names


def test_only_the_folder_that_is_copied_next_to_models_has_relative_imports() -> None:
    relative = {
        name
        for package in THIRD_PARTY
        for name, tree in modules(package).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level > 0
    }
    folder = "nascore.meta_learning.task_adaptation"
    assert relative == {folder, f"{folder}.adapter"}


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_each_package_imports_what_it_may_and_nothing_else(package: str) -> None:
    found = set().union(*(roots(tree) for tree in modules(package).values()))
    assert found - set(OURS) == THIRD_PARTY[package]
    assert found & set(OURS) <= OURS[package]


def test_the_rule_sees_imports_inside_functions() -> None:
    tree = ast.parse("def f():\n    import kfp.dsl\n    from pipelines import cli\n    import os")
    assert roots(tree) == {"kfp", "pipelines"}


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_package_is_named_by_few_modules(package: str) -> None:
    named = {
        name
        for ours in THIRD_PARTY
        for name, tree in modules(ours).items()
        if package in roots(tree)
    }
    assert named == ONLY_IN[package]


def test_every_third_party_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    client = {_distribution(line) for line in project["dependencies"]}
    full = {_distribution(line) for line in project["optional-dependencies"]["full"]}
    names = set().union(*THIRD_PARTY.values()) - BROUGHT_ALONG
    assert {DISTRIBUTIONS.get(name, name) for name in names} <= client | full
    assert not {"torch", "torchvision", "mlflow", "optuna"} & client


def _distribution(requirement: str) -> str:
    name = requirement
    for mark in "[=<>~!;":
        name = name.partition(mark)[0]
    return name.strip().lower()


def test_nothing_is_unpacked_unpickled_or_given_to_a_shell() -> None:
    """An archive's members could leave their folder, and a pickle could run anything."""
    forbidden = {
        *("extract", "extractall", "unpack_archive", "os.system", "popen"),
        *("pickle.load", "pickle.loads", "Unpickler"),
    }
    wanted = {"shell": "False", "allow_pickle": "False", "weights_only": "True"}
    for package in OURS:
        for name, tree in modules(package).items():
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
                called = ast.unparse(call.func)
                assert not {called, called.rpartition(".")[2]} & forbidden, f"{name}: {called}"
                given = {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg in wanted}
                assert given.items() <= wanted.items(), f"{name}: {called}"
                assert called != "torch.load" or "weights_only" in given, name


def test_declarations_do_no_work() -> None:
    """Every step waits for its imports."""
    tree = modules("components")["components.kfp_components"]
    top = ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef)], [])
    assert roots(top) == {"kfp"}
    assert not any("__future__" in name for name in imported(tree))


_PROBE = """
import importlib, json, sys
seen, report = set(), {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    loaded = {"torch", "mlflow", "kfp", "torchvision", "scipy", "matplotlib"} & sys.modules.keys()
    report[name] = sorted(loaded - seen)
    seen |= loaded
print(json.dumps(report))
"""


def _loaded_by(names: list[str]) -> dict[str, list[str]]:
    """What each module loads of the heavy packages, imported one after the other."""
    command = [sys.executable, "-c", _PROBE, json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    report: dict[str, list[str]] = json.loads(done.stdout)
    return report


def test_what_starts_a_run_loads_neither_torch_nor_mlflow_nor_kfp() -> None:
    light = [name for name in modules("pipelines") if name not in ONLY_IN["kfp"]]
    wiring = ["pipelines.local.run"]  # imports kfp when it runs, not when it is loaded
    report = _loaded_by([*LIGHT, *light, *wiring])
    assert {name: loaded for name, loaded in report.items() if loaded} == {}
    assert "pipelines.cli" in report


def test_the_compiler_loads_kfp_alone() -> None:
    report = _loaded_by(["components.kfp_components", "pipelines.definitions.search"])
    assert report == {"components.kfp_components": ["kfp"], "pipelines.definitions.search": []}


def test_a_step_loads_what_it_computes_with_and_nothing_else() -> None:
    steps = ["prepare_data", "pretrain_controller", "search", "train_final", "profile_latency"]
    steps += ["train_references", "promote"]
    report = _loaded_by([f"components.steps.{step}" for step in steps])
    *before_the_end, promote = report.values()
    assert before_the_end == [[], ["torch"], [], [], [], []]  # once loaded, it stays
    assert "mlflow" in promote


def test_the_probe_sees_torch() -> None:
    assert "torch" in _loaded_by(["nascore.spaces.ops"])["nascore.spaces.ops"]
