"""Pipelines and versions on KFP's Pipelines page: uploaded once, by whoever is first."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import stored_version
import urllib3
from kfp_commands import BASE, IMAGE, SCHEDULE, SEARCH, done, nas, only, refused
from kfp_http import Fault, Request
from kfp_nodes import Step
from kfp_server import PREFIX, KfpServer, Look

from components.config.parameters import NAMES
from pipelines.kubeflow import starting
from pipelines.kubeflow.client import Cluster
from pipelines.kubeflow.connection import connect
from pipelines.kubeflow.run_origin import origin_of

GATEWAY = Fault(504, "<html>upstream request timeout", "text/html", count=1)
OLD = {name: {"parameterType": "STRING", "defaultValue": ""} for name in ("config", "overrides")}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_PAUSE_S", 0.05)
    monkeypatch.setattr(starting, "_LOOK_S", 1.0)


def parameters(kfp: KfpServer) -> list[Any]:
    return [one.body["runtime_config"]["parameters"] for one in kfp.sent("POST", "/runs")]


def uploads(kfp: KfpServer) -> list[Request]:
    return kfp.sent("POST", "/pipelines/upload_version")


def test_runs_that_differ_in_parameters_are_of_one_version(kfp: KfpServer) -> None:
    """What differs stands in plain rows of "Compare runs", and in the fields of "Clone run"."""
    given = ("--data=npz:s3://bucket/flowers.npz", "--objective=macro_f1", "--image-size=16")
    done(*BASE, "--method=random", "--budget=8 children", "--seed=7", "--no-check")
    done(*BASE, "--set=promote.min_gain=0.01", "--model=flowers", *given, "--no-check")
    done(*SCHEDULE, "--budget=30m", "--seed=3")
    assert len(kfp.versions) == len(uploads(kfp)) == 1
    assert parameters(kfp) == [
        {"method": "random", "budget": "8 children", "seed": "7"},
        {
            "min_gain": "0.01",
            "model": "flowers",
            "data": "npz:s3://bucket/flowers.npz",
            "objective": "macro_f1",
            "image_size": "16",
        },
    ]
    schedule = only(kfp.sent("POST", "/recurringruns")).body
    replaces = {"settings": "registry.unusable_champion=replace"}
    assert schedule["runtime_config"]["parameters"] == {"budget": "30m", "seed": "3", **replaces}
    reference = {key: kfp.versions[0][key] for key in ("pipeline_id", "pipeline_version_id")}
    assert schedule["pipeline_version_reference"] == reference
    for run in kfp.sent("POST", "/runs"):
        assert run.body["pipeline_version_reference"] == reference
        assert "pipeline_spec" not in run.body


def test_what_shapes_the_pods_is_a_new_version(kfp: KfpServer) -> None:
    database = ("--set=search.storage=env:URL", "--set=cluster.secrets.URL=nas/url")
    done(*BASE)
    done(*BASE, *database, "--workers=3", "--seed=1")
    done(*BASE, "--set=cluster.steps.search.cpu=2")
    done(*BASE, "--image=repo/nas:1.3")
    done(*BASE, "--set=train.epochs=3")
    assert len(kfp.versions) == 5
    assert len({version["name"] for version in kfp.versions}) == 5
    assert parameters(kfp)[1] == {"workers": "3", "seed": "1"}
    assert len(kfp.pipelines) == 1


def test_the_page_says_what_a_pipeline_does(kfp: KfpServer) -> None:
    done(*BASE, "--seed=7")
    (pipeline,), (version,) = kfp.pipelines, kfp.versions
    assert pipeline["name"] == pipeline["display_name"] == "nas-search"
    assert "Finds, trains" in pipeline["description"]
    assert "docs/kubeflow.md" in pipeline["description"]
    assert version["name"].startswith("nas-search-")
    assert version["description"].startswith("Without parameters: nases on digits, ")
    assert "seed 0, 1 worker." in version["description"]


def test_a_version_is_found_behind_many(kfp: KfpServer) -> None:
    kfp.page_of_pipelines.page = 1
    done(*BASE)
    done(*BASE, "--set=train.epochs=3")
    done(*BASE, "--set=train.epochs=4")
    done(*BASE)
    assert len(uploads(kfp)) == len(kfp.versions) == 3
    assert (
        kfp.sent("POST", "/runs")[0].body["pipeline_version_reference"]
        == (kfp.sent("POST", "/runs")[3].body["pipeline_version_reference"])
    )


@pytest.mark.parametrize("path", ["/pipelines", "/pipelines/upload_version"])
def test_an_upload_whose_answer_is_lost_is_not_repeated(kfp: KfpServer, path: str) -> None:
    def make(request: Request) -> None:
        if request.method == "POST" and request.path == PREFIX + path and kfp.fault is None:
            kfp.answer(request)
            kfp.fault = dataclasses.replace(GATEWAY)

    kfp.before = make
    result = nas(*BASE, "--no-check", "--json")
    assert result.exit_code == 0, result.output
    assert "was made\nIt was.\n" in result.stderr
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.runs)) == (1, 1, 1)


def test_a_pipeline_that_stayed_without_a_version_gets_one(kfp: KfpServer) -> None:
    kfp.fault = Fault(503, "<html>", "text/html", where="/upload_version")
    assert nas(*BASE, "--no-check").exit_code == 1
    assert (len(kfp.pipelines), kfp.runs) == (1, {})
    kfp.fault = None
    done(*BASE)
    assert (len(kfp.pipelines), len(kfp.versions)) == (1, 1)


@pytest.mark.parametrize("path", ["/pipelines", "/pipelines/upload_version"])
def test_two_people_at_once_make_one_version(kfp: KfpServer, path: str) -> None:
    """The other one's request comes between our look and our request: ours is a 409.

    What was made is listed a little later (storage/pipeline_store.go lists what is READY).
    """
    others: list[Request] = []

    def be_first(request: Request) -> None:
        if request.method == "POST" and request.path == PREFIX + path and not others:
            others.append(request)
            kfp.page_of_pipelines.hide(kfp.answer(request), looks=1)

    kfp.before = be_first
    done(*BASE)
    assert others
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.runs)) == (1, 1, 1)


@pytest.mark.parametrize("has_pipeline", [False, True])
def test_an_account_that_may_not_upload_is_shown_the_way_out(
    kfp: KfpServer, has_pipeline: bool
) -> None:
    """KFP answers an upload of a version that is not allowed with 400 and no reason."""
    if has_pipeline:
        kfp.page_of_pipelines.create({"name": "nas-search"})
    kfp.page_of_pipelines.may_create = False
    message = nas(*SEARCH).stderr
    assert "--pipeline = nas-search: cannot be uploaded: " in message
    assert ("refuses this (400): Failed to create" if has_pipeline else "(403)") in message
    assert "give --inline to send the compiled pipeline with the run" in message
    assert kfp.runs == {}
    run_id = done(*SEARCH, "--inline")["run_id"]
    assert kfp.runs[run_id]["runtime_config"]["parameters"] == {"method": "random", "seed": "7"}
    assert done(*SCHEDULE, "--inline")["name"] == "weekly"
    assert "contradicts --inline" in refused(*SEARCH, "--inline", "--pipeline=p")


def test_the_pipeline_of_somebody_else_is_left_alone(kfp: KfpServer) -> None:
    done(*BASE, "--pipeline=theirs")
    spec = kfp.versions[0]["pipeline_spec"]["pipeline_spec"]
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"].pop("env", None)
    result = nas(*BASE, "--pipeline=theirs", "--set=train.epochs=3")
    assert result.exit_code == 2
    assert "--pipeline = theirs: holds a pipeline that this project has not" in result.stderr
    assert "name another pipeline with --pipeline" in result.stderr
    done(*BASE)
    assert (
        "holds the pipeline nas-search, with"
        in nas(*BASE, "--kind=retrain", "--pipeline=nas-search").stderr
    )
    assert len(kfp.versions) == 2


def test_schedules_that_a_new_version_breaks_are_named(kfp: KfpServer) -> None:
    """Those of an older release set `overrides`, which the latest version no longer has."""
    done(*BASE)
    version = kfp.versions[0]
    version["name"] = "older"
    version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"] = OLD
    ours = {"pipeline_id": kfp.pipelines[0]["pipeline_id"]}
    for name, given in (("old", {"overrides": "seed=1"}), ("plain", {})):
        kfp.schedules[name] = {
            "recurring_run_id": name,
            "display_name": name,
            "pipeline_version_reference": ours,
            "runtime_config": {"parameters": given},
        }
    result = nas(*BASE)
    assert result.exit_code == 0
    assert "warning: the schedules old run the latest version with parameters" in result.stderr


def test_a_pipeline_belongs_to_its_namespace(kfp: KfpServer) -> None:
    for team in ("team-a", "team-b", "team-a"):
        done(*BASE, f"--namespace={team}")
    assert [one["namespace"] for one in kfp.pipelines] == ["team-a", "team-b"]
    assert len(kfp.versions) == 2


# --- as KFP's pages do it ---------------------------------------------------------------------


def post(kfp: KfpServer, path: str, body: Any) -> Any:
    answer = urllib3.request("POST", f"{kfp.url}{PREFIX}{path}", json=body)
    return answer.status, answer.json()


FORM = {"method": "random", "budget": "8 children"}


def from_the_form(kfp: KfpServer, given: Any, **more: Any) -> Any:
    """What the form sends (frontend/src/pages/NewRunV2.tsx, startRun)."""
    version = {key: kfp.versions[0][key] for key in ("pipeline_id", "pipeline_version_id")}
    return {
        "description": "",
        "display_name": "Run of nas-search",
        "experiment_id": kfp.experiments[0]["experiment_id"],
        "pipeline_version_reference": version,
        "runtime_config": {"parameters": given},
        "service_account": "",
        **more,
    }


def test_a_run_from_the_form_needs_no_command_line(kfp: KfpServer) -> None:
    done(*BASE)
    status, made = post(kfp, "/runs", from_the_form(kfp, FORM))
    assert status == 200
    kfp.plan(made["run_id"], Look("FAILED", (Step("prepare-data"), Step("search", "FAILED"))))
    told = done("status", made["run_id"])
    assert [each["name"] for each in told["tasks"]][:3] == [
        "prepare-data",
        "pretrain-controller",
        "search",
    ]
    again = done("retry", made["run_id"])
    assert kfp.runs[again["run_id"]]["runtime_config"]["parameters"] == FORM


def test_the_configuration_of_such_a_run_is_known(kfp: KfpServer) -> None:
    done(*BASE, "--set=cluster.state=pvc:nas-state")
    given = {**FORM, "experiment": "forms", "settings": "train.epochs=3"}
    for parameters, method in ((given, "random"), ({**given, "method": "nasess"}, "nasess")):
        _, made = post(kfp, "/runs", from_the_form(kfp, parameters))
        origin = origin_of(Cluster(connect(kfp.url)), kfp.runs[made["run_id"]])
        assert origin.is_ours
        assert origin.setting("method") == method  # also of one that its first step refuses
        assert origin.setting("tracking", "experiment") == "forms"
        assert origin.setting("tracking", "uri") == "http://mlflow.invalid:5000"
        assert origin.setting("train", "epochs") == 3
        assert origin.setting("cluster", "state") == "pvc:nas-state"


def test_a_schedule_from_the_form_is_listed_and_its_runs_are_followed(kfp: KfpServer) -> None:
    done(*BASE)
    trigger = {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    schedule = {"max_concurrency": "10", "no_catchup": False, "mode": "ENABLE", "trigger": trigger}
    body = from_the_form(kfp, FORM, **schedule, display_name="from the form")
    status, made = post(kfp, "/recurringruns", body)
    assert status == 200
    run_id = kfp.fire(made["recurring_run_id"], Look("SUCCEEDED", (Step("prepare-data"),)))
    (told,) = done("schedule", "list", "--runs")
    assert (told["name"], told["when"]) == ("from the form", "At 03:00 on Monday")
    assert told["runs"][0]["pipeline"] == "nas-search"
    assert done("status", run_id)["state"] == "succeeded"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"methode": "random"}, "parameter(s) provided are not required by pipeline: methode"),
        ({"seed": 7}, "input parameter seed requires type string"),
        ({"budget": None}, "input parameter budget requires type string"),
    ],
)
def test_the_server_checks_parameters_as_kfp_does(kfp: KfpServer, given: Any, told: str) -> None:
    done(*BASE)
    before = dict(kfp.runs)
    status, answer = post(kfp, "/runs", from_the_form(kfp, given))
    assert status == 400
    assert told in answer["message"]
    assert kfp.runs == before


def test_every_parameter_may_be_left_out_and_has_a_description(kfp: KfpServer) -> None:
    """The form keeps its Start button off while one without a default has no value."""
    for kind in ("search", "retrain"):
        done(*BASE, f"--kind={kind}")
        root = kfp.versions[-1]["pipeline_spec"]["pipeline_spec"]["root"]
        declared = root["inputDefinitions"]["parameters"]
        assert set(declared) == set(NAMES)
        for definition in declared.values():
            assert definition["isOptional"]
            assert definition["defaultValue"] == ""
            assert definition["description"]
            assert definition["parameterType"] == "STRING"


@pytest.mark.slow
def test_a_stored_version_does_what_the_form_says(kfp: KfpServer, tmp_path: Path) -> None:
    """The very text that was uploaded, run by kfp's own local runner."""
    store = f"--set=tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    done("submit", IMAGE, store, *stored_version.SMALL)
    given = {**FORM, "budget": "2 children", "seed": "5"}
    result = stored_version.execute(kfp.versions[0]["pipeline_spec"], given, tmp_path)
    assert (result["method"], result["num_children"]) == ("random", 2)
