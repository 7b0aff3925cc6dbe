"""What a compiled pipeline says about itself, of this release and of older ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import resolve
from pipelines.definitions.search import compile_search
from pipelines.kubeflow.compiled_text import (
    compiled_config,
    config_of_run,
    declared,
    our_name,
    pods_of,
)

OLDER: dict[str, Any] = {
    "root": {
        "inputDefinitions": {
            "parameters": {
                "config": {
                    "parameterType": "STRING",
                    "defaultValue": json.dumps({"seed": 0, "tracking": {"uri": "http://m"}}),
                },
                "overrides": {"parameterType": "STRING", "defaultValue": ""},
            }
        }
    }
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    settings = ("search.workers=3", "search.storage=env:URL", "cluster.secrets.URL=nas/url")
    compile_search(resolve(None, None, settings), Path(file))
    spec, platform = yaml.safe_load_all(file.read_text())
    return {"pipeline_spec": spec, "platform_spec": platform}


def test_a_pipeline_of_this_release(pipeline: Any) -> None:
    assert our_name(pipeline) == "nas-search"
    assert {"method", "data", "budget", "settings"} <= set(declared(pipeline))
    assert json.loads(compiled_config(pipeline))["cluster"]["secrets"] == {"URL": "nas/url"}
    assert pods_of(pipeline).workers == (1, 1, 1)
    found = config_of_run(pipeline, {"seed": "7", "budget": "", "method": None})
    assert (found["seed"], found["method"]) == (7, "nases")


def test_a_pipeline_of_an_older_release() -> None:
    assert config_of_run(OLDER, {}) == {"seed": 0, "tracking": {"uri": "http://m"}}
    assert config_of_run(OLDER, {"config": "{seed: 1}", "overrides": "seed=2"}) == {"seed": 2}
    assert config_of_run(OLDER, {"overrides": "seed"}) == {}  # malformed, as its first step said
    inline = {"pipeline_spec": OLDER, "platform_spec": {}}
    assert config_of_run(inline, {"overrides": "seed=3"})["seed"] == 3


@pytest.mark.parametrize("spec", [{}, {"root": {}}, {"pipeline_spec": {"root": {"dag": {}}}}])
def test_a_foreign_pipeline_has_no_configuration(spec: dict[str, Any]) -> None:
    assert our_name(spec) == ""
    assert compiled_config(spec) == ""
    assert config_of_run(spec, {"learning_rate": 0.1}) == {}
