"""Schedules on Kubeflow, against a server that checks every request by KFP's own contract."""

import json
import re

import pytest
from kfp_commands import IMAGE, QUICK, SCHEDULE, SEARCH, TRACKED, done, nas, only, refused
from kfp_http import Fault, Request
from kfp_nodes import Step
from kfp_server import KfpServer, Look

from components.config.parameter_values import resolve as with_parameters
from pipelines.kubeflow.compiled_text import compiled_config


def test_a_schedule_runs_once_at_a_time_and_caches_nothing(kfp: KfpServer) -> None:
    result = nas(*SCHEDULE)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    zone = "in the server's CRON_SCHEDULE_TIMEZONE, UTC by default"
    assert lines[0] == f"At 03:00 on Monday, {zone}. The next times:"
    assert all(line.endswith("03:00:00 UTC") for line in lines[1:4])
    assert lines[4].startswith("Runs start up to 30 s later.")
    assert "not UTC" in lines[4]
    body = only(kfp.sent("POST", "/recurringruns")).body
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert (body["max_concurrency"], body["no_catchup"], body["mode"]) == ("1", True, "ENABLE")
    text = json.dumps(kfp.versions[0]["pipeline_spec"])
    assert '"cachingOptions": {}' in text
    assert "enableCache" not in text
    parameters = {"settings": "registry.unusable_champion=replace"}
    assert body["runtime_config"]["parameters"] == parameters


def test_kubeflows_mlflow_plugin_can_be_turned_off_for_a_schedule(kfp: KfpServer) -> None:
    done(*SCHEDULE, "--set=tracking.kfp_plugin=false")
    body = only(kfp.sent("POST", "/recurringruns")).body
    assert body["plugins_input"] == {"mlflow": {"disabled": True}}


def test_the_times_are_told_before_anything_is_made(kfp: KfpServer) -> None:
    kfp.fault = Fault(500, '{"code": 13, "message": "database is away"}')
    result = nas(*SCHEDULE)
    assert result.exit_code == 1
    assert "03:00 on Monday" in result.stdout
    assert kfp.schedules == {}


def test_five_fields_are_refused(kfp: KfpServer) -> None:
    message = refused(*SCHEDULE[:-1], "--cron=0 3 * * 1")
    assert "'0 0 3 * * 1'" in message
    assert kfp.requests == []


def test_a_schedule_of_a_pinned_version(kfp: KfpServer) -> None:
    done(*SCHEDULE, "--pipeline=p", "--paused")
    body = only(kfp.sent("POST", "/recurringruns")).body
    assert body["mode"] == "DISABLE"
    assert body["pipeline_version_reference"] == {
        key: kfp.versions[0][key] for key in ("pipeline_id", "pipeline_version_id")
    }


LATEST = ("schedule", "create", "--name=w", "--cron=0 0 3 * * 1", "--latest")


def test_a_schedule_of_the_latest_version(kfp: KfpServer) -> None:
    assert "--pipeline = nas-search: has no version" in nas(*LATEST).stderr
    assert "--preset = paper: is part of the version" in refused(*LATEST, "--preset=paper")
    assert "--set = nonsense" in refused(*LATEST, "--set=nonsense")
    message = refused(*LATEST, "--set=tracking.uri=http://me:hunter2@mlflow")
    assert "tracking.uri = http://me:***@mlflow: holds a user name, a password" in message
    assert "--inline: contradicts --latest" in refused(*LATEST, "--inline")
    done(*SEARCH)
    done(*LATEST, "--seed=1", "--set=train.epochs=3", "--set=search.child.epochs=2")
    body = only(kfp.sent("POST", "/recurringruns")).body
    assert body["pipeline_version_reference"] == {"pipeline_id": kfp.pipelines[0]["pipeline_id"]}
    assert body["runtime_config"]["parameters"] == {
        "seed": "1",
        "settings": "train.epochs=3\nsearch.child.epochs=2\nregistry.unusable_champion=replace",
    }


@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_a_schedule_replaces_a_champion_that_cannot_be_used(kfp: KfpServer, kind: str) -> None:
    """No user watches its runs; the value is a parameter, so that the version stays the same."""
    setting = "registry.unusable_champion"
    for value, expected in ((None, "replace"), ("null", "replace"), ("stop", "stop")):
        given = () if value is None else (f"--set={setting}={value}",)
        result = nas(
            *("schedule", "create", IMAGE, TRACKED, "--cron=0 0 3 * * 1", "--inline"),
            *(f"--name={value}", f"--kind={kind}", *given),
        )
        assert result.exit_code == 0, result.stderr
        assert (f"{setting}=replace" in result.stderr) == (expected == "replace")
        body = kfp.sent("POST", "/recurringruns")[-1].body
        parameters = body["runtime_config"]["parameters"]
        config = with_parameters(compiled_config(body["pipeline_spec"]), parameters)
        assert config.registry.unusable_champion == expected
    done(*SEARCH, f"--kind={kind}", f"--set={setting}=stop", "--pipeline=p")
    done(*LATEST, "--pipeline=p", f"--kind={kind}")
    latest = kfp.sent("POST", "/recurringruns")[-1].body
    assert latest["runtime_config"]["parameters"] == {}


def test_a_schedule_of_the_latest_version_is_checked_as_a_run_is(kfp: KfpServer) -> None:
    """KFP would take each value, and each run would be refused by its first step."""
    done(*SEARCH)
    for setting, told in (
        ("--method=nasess", "method = nasess (pipeline parameter): "),
        ("--set=train.epoch=3", "train.epoch = 3 (in pipeline parameter settings): unknown key"),
        ("--workers=40", "workers = 40 (pipeline parameter): this pipeline was compiled for 1"),
        ("--data=imagefolder:/nowhere", "data.source = imagefolder:/nowhere"),
    ):
        result = nas(*LATEST, setting)
        assert result.exit_code == 2
        assert told in result.stderr
    assert kfp.schedules == {}


def test_the_latest_version_may_be_of_an_older_release(kfp: KfpServer) -> None:
    done(*SEARCH)
    version = kfp.versions[0]["pipeline_spec"]["pipeline_spec"]
    version["root"]["inputDefinitions"]["parameters"] = {
        name: {"parameterType": "STRING", "defaultValue": ""} for name in ("config", "overrides")
    }
    result = nas(*LATEST, "--seed=1")
    assert result.exit_code == 2
    assert "its latest version is of an older release and has other parameters" in result.stderr


def test_a_name_is_given_to_one_schedule(kfp: KfpServer) -> None:
    made = done(*SCHEDULE)
    result = nas(*SCHEDULE)
    assert result.exit_code == 2
    assert f"--name = weekly: is taken by {made['schedule_id']}" in result.stderr


def test_schedules_are_listed_with_their_last_run(kfp: KfpServer) -> None:
    kfp.page = 2
    made = done(*SCHEDULE)
    for name in ("b", "c"):
        done("schedule", "create", IMAGE, TRACKED, f"--name={name}", "--cron=0 0 4 * * *")
    kfp.fire(made["schedule_id"], Look("SUCCEEDED"))
    newest = kfp.fire(made["schedule_id"], Look("FAILED"))
    kfp.schedules["old"] = {
        "recurring_run_id": "old",
        "display_name": "from the pages",
        "trigger": {"cron_schedule": {"cron": "0 3 * * 1"}},
        "status": "ENABLED",
    }
    told = {each["name"]: each for each in done("schedule", "list")}
    assert list(told) == ["weekly", "b", "c", "from the pages"]
    assert told["weekly"]["last_run"]["run_id"] == newest
    assert told["weekly"]["last_run"]["state"] == "failed"
    assert told["weekly"]["when"] == "At 03:00 on Monday"
    assert told["weekly"]["next"][0].endswith("03:00:00 UTC")
    assert told["b"]["last_run"] is None
    assert told["from the pages"]["when"] == "0 3 * * 1"
    header, first, *_ = nas("schedule", "list").stdout.splitlines()
    assert header.split() == ["name", "when", "next", "state", "last", "run", "id"]
    assert first.index("At 03:00") == header.index("when")


def test_the_runs_of_a_schedule_are_listed_by_name_and_by_what_they_run(kfp: KfpServer) -> None:
    """KFP names them by the schedule, and not by the pipeline."""
    made = done(*SCHEDULE, "--kind=retrain")
    done("schedule", "create", IMAGE, TRACKED, "--name=b", "--cron=0 0 4 * * *")
    ids = [kfp.fire(made["schedule_id"], Look("SUCCEEDED")) for _ in range(7)]
    told = {each["name"]: each for each in done("schedule", "list", "--runs")}
    assert [run["run_id"] for run in told["weekly"]["runs"]] == ids[:1:-1]  # the newest five
    assert told["b"]["runs"] == []
    newest = told["weekly"]["runs"][0]
    assert (newest["name"], newest["pipeline"]) == ("weekly-7", "nas-retrain")
    lines = nas("schedule", "list", "--runs").stdout.splitlines()
    assert len(lines) == 1 + 1 + 5 + 1
    assert lines[2].split() == ["weekly-7", "nas-retrain", "succeeded", ids[-1]]
    assert "runs" not in done("schedule", "list")[0]


def test_what_becomes_of_missed_times_is_told(kfp: KfpServer) -> None:
    """The controller runs the latest of them at once, whatever `no_catchup` says."""
    for command in ("create", "resume"):
        text = " ".join(nas("schedule", command, "--help").stdout.split())
        assert re.search(r"only the latest (of them )?is run", text)
    done(*SCHEDULE, "--paused")
    assert "the latest of them is run within 30 s" in nas("schedule", "resume", "weekly").stdout
    assert "the latest" not in nas("schedule", "pause", "weekly").stdout


def test_no_schedules(kfp: KfpServer) -> None:
    assert "nas schedule create" in nas("schedule", "list").stdout
    assert done("schedule", "list") == []


def test_pause_resume_and_delete_by_name_or_id(kfp: KfpServer) -> None:
    made = done(*SCHEDULE)
    schedule_id = made["schedule_id"]
    assert made["state"] == "enabled"
    assert nas("schedule", "pause", "weekly").exit_code == 0
    assert done("schedule", "list")[0]["state"] == "disabled"
    assert done("schedule", "list")[0]["next"] == []
    assert done("schedule", "resume", schedule_id)["done"] == "resumed"
    assert done("schedule", "list")[0]["state"] == "enabled"
    assert "no such schedule" in refused("schedule", "delete", "monthly")
    kfp.schedules["twin"] = {"recurring_run_id": "twin", "display_name": "weekly"}
    message = refused("schedule", "delete", "weekly")
    assert schedule_id in message
    assert "twin" in message
    done("schedule", "delete", "twin")
    assert list(kfp.schedules) == [schedule_id]


# --- delete, while a run of it is going on --------------------------------------------------

RUNNING = Look("RUNNING", (Step("prepare-data"), Step("search", "RUNNING")))
SUCCEEDED = Look("SUCCEEDED", (Step("prepare-data"), Step("search")))


def test_a_schedule_whose_runs_go_on_is_not_deleted_with_them(kfp: KfpServer) -> None:
    schedule_id = done(*SCHEDULE)["schedule_id"]
    ended, going_on = kfp.fire(schedule_id, SUCCEEDED), kfp.fire(schedule_id, RUNNING)
    message = refused("schedule", "delete", "weekly")
    assert f"weekly-2 ({going_on})" in message
    assert ended not in message
    assert "--when-idle" in message
    assert "--with-runs" in message
    assert kfp.schedules[schedule_id]["status"] == "ENABLED"
    text = " ".join(nas("schedule", "delete", "--help").stdout.split())
    assert "would show them as running for ever" in text
    assert "contradicts" in refused("schedule", "delete", "weekly", "--when-idle", "--with-runs")


def test_a_run_that_starts_meanwhile_is_not_killed(kfp: KfpServer) -> None:
    schedule_id = done(*SCHEDULE)["schedule_id"]
    started: list[str] = []
    kfp.before = lambda request: (
        started.append(kfp.fire(schedule_id, RUNNING, SUCCEEDED))
        if request.method == "DELETE"
        else None
    )
    assert done("schedule", "delete", "weekly")["done"] == "deleted"
    assert kfp.schedules == {}
    assert nas("status", started[0], "--wait", QUICK).exit_code == 0


def test_a_schedule_is_deleted_when_its_runs_have_ended(kfp: KfpServer) -> None:
    schedule_id = done(*SCHEDULE)["schedule_id"]
    run_id = kfp.fire(schedule_id, RUNNING)
    looks: list[str] = []

    def end(request: Request) -> None:
        if request.path.endswith("/runs") and request.method == "GET":
            looks.append(kfp.schedules[schedule_id]["status"])
            if len(looks) == 4:
                kfp.plan(run_id, SUCCEEDED)

    kfp.before = end
    result = nas("schedule", "delete", "weekly", "--when-idle", QUICK, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"schedule_id": schedule_id, "done": "deleted"}
    assert looks[1:] == ["DISABLED", "DISABLED", "DISABLED"]  # no further run starts meanwhile
    assert result.stderr.count("waiting for the end of weekly-1") == 1
    assert kfp.schedules == {}
    assert kfp.runs[run_id]["state"] == "SUCCEEDED"


def test_a_wait_for_the_runs_of_a_schedule_has_an_end(kfp: KfpServer) -> None:
    schedule_id = done(*SCHEDULE)["schedule_id"]
    kfp.fire(schedule_id, RUNNING)
    message = refused(
        *("schedule", "delete", "weekly", "--when-idle", QUICK, "--json", "--idle-within=0.3"),
        status=1,
    )
    assert "Not deleted: weekly-1" in message
    assert kfp.schedules[schedule_id]["status"] == "DISABLED"


def test_a_schedule_is_deleted_with_its_runs_when_that_is_asked_for(kfp: KfpServer) -> None:
    schedule_id = done(*SCHEDULE)["schedule_id"]
    run_id = kfp.fire(schedule_id, RUNNING)
    result = nas("schedule", "delete", "weekly", "--with-runs", QUICK, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == {"schedule_id": schedule_id, "done": "deleted", "runs_canceled": [run_id]}
    assert kfp.runs[run_id]["state"] == "FAILED"
    assert done("status", run_id)["state"] == "cancelled"
    assert kfp.schedules == {}


def test_a_schedule_stays_where_a_run_of_it_does_not_stop(kfp: KfpServer) -> None:
    schedule_id = done(*SCHEDULE)["schedule_id"]
    kfp.fire(schedule_id, RUNNING)
    kfp.stops = False
    arguments = ("schedule", "delete", "weekly", "--with-runs", QUICK, "--end-within=1")
    result = nas(*arguments)
    assert result.exit_code == 1
    assert "Not deleted" in result.stderr
    assert schedule_id in kfp.schedules


def test_a_run_whose_workflow_is_gone_stands_in_nobodys_way(kfp: KfpServer) -> None:
    """As when somebody has deleted the workflow by hand: KFP calls the run RUNNING for ever."""
    schedule_id = done(*SCHEDULE)["schedule_id"]
    run_id = kfp.fire(schedule_id, RUNNING)
    kfp.collect(run_id)
    result = nas("schedule", "delete", "weekly", "--with-runs", QUICK)
    assert result.exit_code == 0, result.output
    assert "its workflow is gone" in result.stdout
    assert kfp.schedules == {}
