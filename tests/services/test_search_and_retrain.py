"""A search and two retrainings as a team has them: data, study, runs and models on real servers.

One run after the other tells what each test looks at; each leaves a model version, so the order is
that of a life: found, beaten, not beaten, rolled back.
"""

import base64
import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from s3 import ACCESS_KEY, REGION, SECRET_KEY
from services import ARTIFACTS, DATA, HANDED_OVER, Ended, Services, planted, traces

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "digits"
CHILDREN = 24  # so many that a second process joins in before they are done
SETTINGS = {
    "method": "random",
    "seed": 3,
    "search.space.num_stages": 1,
    "search.budget.children": CHILDREN,
    "search.child.epochs": 6,
    "search.child.max_steps": 40,
    "search.workers": 2,
    "search.storage": "env:NAS_STUDY_URL",
    "train.epochs": 12,
    "train.max_steps": 400,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
    "registry.model": NAME,
    "promote.export_to": f"s3://{HANDED_OVER}/digits",
}
STEPS = {
    *("prepare_data", "pretrain_controller", "search", "train_final", "profile_latency"),
    "train_references",
    "promote",
}
RETRAINING = {"prepare_data", "review", "reuse", "train_final", "profile_latency", "promote"}
FEW, MANY = 150, 1200  # images that a network learns from


@dataclass(frozen=True)
class Stage:
    """A command that ended well, and the state of the registry just afterwards.

    Attributes:
        champions: the versions that were champion, in order.
        left_over: command lines of processes of the run that still live.
        exported: `champion.json` among the files that were handed over.
    """

    folder: Path
    ended: Ended
    result: dict[str, Any]
    champion: str
    champions: list[str]
    left_over: list[str]
    exported: dict[str, Any]


# --- the life of a model ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Scikit-learn's handwritten digits, in a mixed order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = np.rint(bunch.images[order] * (255 / 16)).astype(np.uint8)
    return images, bunch.target[order].astype(np.int64)


@pytest.fixture(scope="module")
def data(services: Services, digits: Any) -> dict[str, str]:
    """Sources in S3 by name; all have the same images for the test."""
    images, labels = digits
    mixed = labels[: 2 * FEW].copy()
    mixed[FEW:] = np.random.default_rng(1).permutation(mixed[FEW:])
    sources = {}
    for name, learnt in (("few", labels[:FEW]), ("many", labels[:MANY]), ("mixed", mixed)):
        file = io.BytesIO()
        np.savez(
            file,
            x_train=images[: len(learnt)],
            y_train=learnt,
            x_test=images[MANY:],
            y_test=labels[MANY:],
        )
        services.s3.client().put_object(Bucket=DATA, Key=f"{name}.npz", Body=file.getvalue())
        sources[name] = f"npz:s3://{DATA}/{name}.npz"
    return sources


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[Any]:
    """MLflow's own, with the account of the steps."""
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        for name, value in services.steps.environment().items():
            patch.setenv(name, value)
        mlflow.set_tracking_uri(services.mlflow.uri)
        mlflow.set_registry_uri(services.mlflow.uri)
        yield mlflow.MlflowClient(services.mlflow.uri, services.mlflow.uri)


def settings(services: Services, **changed: str) -> list[str]:
    together = {**SETTINGS, "tracking.uri": services.mlflow.uri, **changed}
    return [f"--set={key}={value}" for key, value in together.items()]


@pytest.fixture(scope="module")
def call(services: Services, client: Any) -> Callable[..., Stage]:
    """`call(command, name, {setting: value}, {variable: value})`: runs a pipeline, must succeed."""

    def called(
        command: str,
        name: str,
        changed: dict[str, str],
        environment: dict[str, str] | None = None,
    ) -> Stage:
        out = services.home / name
        arguments = [command, *settings(services, **changed), f"--out={out}", "--json"]
        ended = services.nas(*arguments, name=name, changed=environment)
        assert ended.status == 0, ended.stderr
        result = json.loads((out / "result.json").read_text())
        exported = exported_champion(services)
        return Stage(out, ended, result, *champions(client), processes_of(out), exported)

    return called


def champions(client: Any) -> tuple[str, list[str]]:
    model = client.get_registered_model(NAME)
    return str(model.aliases["champion"]), model.tags["nas.champions"].split(",")


def exported_champion(services: Services) -> dict[str, Any]:
    named: dict[str, Any] = json.loads(services.objects(HANDED_OVER)["digits/champion.json"])
    return named


def processes_of(folder: Path) -> list[str]:
    """All that were started for a run: its folder is in their command or their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            known = [*process.cmdline(), *process.environ().values()]
            if any(str(folder) in text for text in known):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="module")
def found(call: Callable[..., Stage], data: dict[str, str], services: Services) -> Stage:
    """The first model, of few images, with keys from files that end with a line break."""
    keys = {
        "AWS_SECRET_ACCESS_KEY": f"{SECRET_KEY}\n",
        "AWS_REGION": f"{REGION}\r\n",
        "NAS_STUDY_URL": f"{services.study_url}\r\n",
    }
    return call("run", "found", {"data.source": data["few"]}, keys)


@pytest.fixture(scope="module")
def better(call: Callable[..., Stage], found: Stage, data: dict[str, str]) -> Stage:
    keys = {"AWS_SECRET_ACCESS_KEY": f"{SECRET_KEY}\r", "AWS_ACCESS_KEY_ID": f"{ACCESS_KEY}\r\n"}
    return call("retrain", "better", {"data.source": data["many"]}, keys)


@pytest.fixture(scope="module")
def worse(
    call: Callable[..., Stage], better: Stage, data: dict[str, str], services: Services
) -> Stage:
    """Retrained on labels of which half are mixed up, by somebody who writes passwords into
    addresses instead of the environment."""
    password = quote(services.steps.password, safe="")
    account = f"//{services.steps.user}:{password}@"
    return call(
        "retrain",
        "worse",
        {
            "data.source": data["mixed"],
            "tracking.uri": services.mlflow.uri.replace("//", account),
            "search.storage": services.study_url,
        },
        {
            "MLFLOW_TRACKING_USERNAME": "",
            "MLFLOW_TRACKING_PASSWORD": "",
            "NAS_STUDY_URL": "",
        },
    )


@dataclass(frozen=True)
class RolledBack:
    said: str
    champion: str
    champions: list[str]
    reason: str
    exported: dict[str, Any]


@pytest.fixture(scope="module")
def rolled_back(services: Services, worse: Stage, client: Any) -> RolledBack:
    ended = services.nas("rollback", *settings(services), name="rollback")
    assert ended.status == 0, ended.stderr
    champion, history = champions(client)
    reason = client.get_model_version(NAME, champion).tags["nas.decision"]
    return RolledBack(ended.stdout, champion, history, reason, exported_champion(services))


# --- the search -------------------------------------------------------------------------------


def test_a_search_ends_with_a_champion(found: Stage) -> None:
    result = found.result
    assert result["num_children"] == result["control"]["num_children"] == CHILDREN
    assert result["num_failed"] == result["control"]["num_failed"] == 0
    assert 0.2 < result["test_accuracy"] < 1
    assert result["model_uri"] == f"models:/{NAME}/1"
    assert result["promotion"]["alias"] == "champion"
    assert (found.champion, found.champions) == ("1", ["1"])
    assert json.loads(found.ended.stdout) == result


def test_every_step_is_a_run_below_that_of_the_pipeline(found: Stage, client: Any) -> None:
    assert steps_below(client, found) == dict.fromkeys(STEPS, "FINISHED")
    parent = client.get_run(found.result["tracking_run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["nas.data_sha256"] == found.result["data_sha256"]
    assert len(parent.data.tags["nas.source_sha256"]) == 64
    assert parent.data.metrics["test_accuracy"] == pytest.approx(found.result["test_accuracy"])


LINEAGE = {
    *("nas.method", "nas.seed", "nas.data_source", "nas.data_sha256", "nas.source_sha256"),
    *("nas.space", "nas.space_sha256", "nas.genotype", "nas.genotype_sha256"),
    *("nas.kfp_job", "nas.version", "nas.git_revision"),
}


def test_a_model_leads_back_to_data_code_and_run(
    found: Stage, better: Stage, client: Any, data: dict[str, str]
) -> None:
    for version, stage, source in (("1", found, "few"), ("2", better, "many")):
        model = client.get_model_version(NAME, version)
        run = client.get_run(model.run_id)
        assert run.info.run_id == stage.result["tracking_run_id"]
        assert model.tags.keys() >= LINEAGE
        assert {tag: run.data.tags[tag] for tag in LINEAGE} == {
            tag: model.tags[tag] for tag in LINEAGE
        }
        assert model.tags["nas.data_source"] == data[source]
        assert model.tags["nas.data_sha256"] == stage.result["data_sha256"]
        assert run.data.tags["nas.model_uri"] == f"models:/{NAME}/{version}"
    # The retraining's architecture was found by the run before.
    assert run.data.tags["nas.champion_run_id"] == found.result["tracking_run_id"]
    (first,) = client.search_model_versions(
        f"tags.`nas.data_sha256` = '{found.result['data_sha256']}'"
    )
    assert str(first.version) == "1"


def steps_below(client: Any, stage: Stage) -> dict[str, str]:
    """Name and status of the runs right below the pipeline's."""
    parent = stage.result["tracking_run_id"]
    experiment = client.get_experiment_by_name("nas").experiment_id
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run.info.status for run in runs}


def test_the_champion_loads_from_s3_and_predicts_what_was_promised(
    found: Stage, client: Any, digits: Any
) -> None:
    assert model_accuracy(f"models:/{NAME}/1", digits) == pytest.approx(
        found.result["test_accuracy"]
    )


def model_accuracy(uri: str, digits: Any) -> float:
    import mlflow
    import torch

    images, labels = digits
    model = mlflow.pytorch.load_model(uri)
    pixels = torch.from_numpy(images[MANY:, None]).float()
    with torch.inference_mode():
        return float((model(pixels).argmax(1).numpy() == labels[MANY:]).mean())


def test_model_and_artifacts_lie_in_s3(found: Stage, services: Services, client: Any) -> None:
    written = services.objects()
    run_id = found.result["tracking_run_id"]
    (report,) = (key for key in written if key.endswith(f"{run_id}/artifacts/report/report.html"))
    assert written[report] == (found.folder / "report.html").read_bytes()
    model = logged_model(client, "1")
    (weights,) = (key for key in written if key.endswith(f"{model}/artifacts/data/model.pt2"))
    assert len(written[weights]) > 4 * found.result["num_params"]
    assert list((services.home / "server").glob("**/*.pt2")) == [], "nothing lies beside the server"


def logged_model(client: Any, version: str) -> str:
    """Id of the logged model behind a version: the name of its folder."""
    run = client.get_run(client.get_model_version(NAME, version).run_id)
    (output,) = run.outputs.model_outputs
    return str(output.model_id)


def test_the_study_is_in_postgresql_and_two_processes_worked_on_it(
    found: Stage, services: Services
) -> None:
    assert services.count("SELECT count(*) FROM studies") == 2  # the method's and the control's
    complete = "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"
    assert services.count(complete) == 2 * CHILDREN
    workers = "SELECT count(DISTINCT value_json::json ->> 'pid') FROM trial_user_attributes"
    assert services.count(f"{workers} WHERE key = 'worker'") == 2
    assert [*found.folder.glob("**/*.db")] == []


def test_nothing_works_on_behind_the_back_of_a_command(
    found: Stage, better: Stage, worse: Stage
) -> None:
    assert [found.left_over, better.left_over, worse.left_over] == [[], [], []]


def test_nothing_is_left_unsent(found: Stage, better: Stage, worse: Stage) -> None:
    from components.tracking.reading import num_unsent

    for stage in (found, better, worse):
        assert num_unsent(stage.folder / "spool") == 0
        assert not (stage.folder / "spool" / "rejected.jsonl").exists()
        assert "warning: tracking" not in stage.ended.stderr


# --- the retrainings --------------------------------------------------------------------------


def test_retraining_on_more_data_wins(found: Stage, better: Stage, client: Any) -> None:
    review = json.loads((better.folder / "review.json").read_text())
    assert (review["plan"], review["champion_version"]) == ("reuse", "1")
    assert better.result["genotype"] == found.result["genotype"]
    promotion = better.result["promotion"]
    assert (promotion["alias"], promotion["champion_version"]) == ("champion", "1")
    assert promotion["champion_accuracy"] == pytest.approx(found.result["test_accuracy"])
    assert [gate["passed"] for gate in promotion["gates"]] == [True, True]
    assert (better.champion, better.champions) == ("2", ["1", "2"]), "the history is kept"
    assert client.get_model_version(NAME, "2").tags["nas.decision"] == promotion["reason"]
    assert steps_below(client, better) == dict.fromkeys(RETRAINING, "FINISHED")


def test_retraining_on_mixed_labels_must_not_win(
    better: Stage, worse: Stage, client: Any, digits: Any
) -> None:
    promotion = worse.result["promotion"]
    assert promotion["alias"] == "challenger"
    assert promotion["champion_accuracy"] == pytest.approx(better.result["test_accuracy"])
    assert (worse.champion, worse.champions) == ("2", ["1", "2"])
    assert str(client.get_model_version_by_alias(NAME, "challenger").version) == "3"
    # Why, wherever somebody may look.
    assert "any gain is enough" in promotion["reason"]
    assert promotion["comparison"]["difference"] < 0
    tags = client.get_run(worse.result["tracking_run_id"]).data.tags
    assert (tags["nas.alias"], tags["nas.decision"]) == ("challenger", promotion["reason"])
    assert client.get_model_version(NAME, "3").tags["nas.decision"] == promotion["reason"]
    assert promotion["reason"].split(":")[0] in (worse.folder / "report.html").read_text()
    assert model_accuracy(f"models:/{NAME}/2", digits) == pytest.approx(
        better.result["test_accuracy"]
    )


def test_the_champion_before_is_one_command_away(rolled_back: RolledBack) -> None:
    first, second = rolled_back.said.splitlines()
    assert first == f"champion of {NAME}: version 1 (was 2)"
    assert f"s3://{HANDED_OVER}/digits/champion.json names " in second
    assert (rolled_back.champion, rolled_back.champions) == ("1", ["1"])
    assert rolled_back.reason == "rolled back to by hand from version 2"


# --- what was handed over ---------------------------------------------------------------------


def test_every_run_has_handed_over_its_files_with_their_digests(
    found: Stage, better: Stage, worse: Stage, services: Services, client: Any
) -> None:
    objects = services.objects(HANDED_OVER)
    for stage in (found, better, worse):
        tags = client.get_run(stage.result["tracking_run_id"]).data.tags
        address = stage.result["exported_to"]
        assert tags["nas.exported_to"] == address
        prefix = address.removeprefix(f"s3://{HANDED_OVER}/")
        manifest = json.loads(objects[f"{prefix}/manifest.json"])
        files = {name: objects[f"{prefix}/{name}"] for name in manifest["sha256"]}
        assert files.keys() == {
            "model.safetensors",
            *("genotype.json", "latency.json", "result.json", "report.html", "MODEL_CARD.md"),
        }
        for name, digest in manifest["sha256"].items():
            assert hashlib.sha256(files[name]).hexdigest() == digest
        assert files["report.html"] == (stage.folder / "report.html").read_bytes()
        assert json.loads(files["result.json"])["test_accuracy"] == stage.result["test_accuracy"]
    assert len({stage.result["exported_to"] for stage in (found, better, worse)}) == 3


def test_the_champion_that_is_named_there_is_the_one_of_the_registry(
    found: Stage, better: Stage, worse: Stage, rolled_back: RolledBack
) -> None:
    for stage in (found, better, worse, rolled_back):
        assert (stage.exported["model_name"], stage.exported["model_version"]) == (
            NAME,
            stage.champion,
        )
    for stage, winner in ((found, found), (better, better), (worse, better), (rolled_back, found)):
        assert winner.result["exported_to"].endswith(f"/{stage.exported['run_key']}")


# --- no pickle is loaded ----------------------------------------------------------------------


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._mark,))


def swapped(files: dict[str, bytes], trap: bytes) -> dict[str, bytes]:
    """A pickle instead of the archive."""
    return {"data/model.pt2": trap}


def declared(files: dict[str, bytes], trap: bytes) -> dict[str, bytes]:
    """A model that says itself that it is pickled, as MLflow wrote them for years."""
    described = files["MLmodel"].decode().replace("model.pt2", "model.pth")
    return {
        "MLmodel": described.replace("serialization_format: pt2", "serialization_format: pickle")
        .replace("export_model: true", "export_model: false")
        .encode(),
        "data/model.pth": trap,
        "data/pickle_module_info.txt": b"mlflow.pytorch.pickle_module",
    }


def hidden(files: dict[str, bytes], trap: bytes) -> dict[str, bytes]:
    """A good archive whose example inputs, which torch unpickles, are the trap."""
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(files["data/model.pt2"])) as before,
        zipfile.ZipFile(changed, "w") as after,
    ):
        inputs = [name for name in before.namelist() if "sample_inputs" in name]
        assert inputs
        for name in before.namelist():
            after.writestr(name, trap if name in inputs else before.read(name))
    return {"data/model.pt2": changed.getvalue()}


@pytest.fixture
def champion_files(
    services: Services, rolled_back: RolledBack, client: Any
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Where the champion lies in S3, and its files; they are put back afterwards."""
    model = logged_model(client, rolled_back.champion)
    everything = services.objects()
    marked = f"{model}/artifacts/"
    (folder,) = {key.partition(marked)[0] + marked for key in everything if marked in key}
    files = {key.removeprefix(folder): body for key, body in everything.items() if marked in key}
    yield folder, files
    store = services.s3.client()
    for key in services.objects():
        if key.startswith(folder) and key.removeprefix(folder) not in files:
            store.delete_object(Bucket=ARTIFACTS, Key=key)
    for name, body in files.items():
        store.put_object(Bucket=ARTIFACTS, Key=folder + name, Body=body)


@pytest.mark.parametrize("plant", [swapped, declared, hidden])
def test_a_pickle_in_place_of_the_champion_is_refused(
    plant: Callable[[dict[str, bytes], bytes], dict[str, bytes]],
    champion_files: tuple[str, dict[str, bytes]],
    services: Services,
    client: Any,
    digits: Any,
    tmp_path: Path,
) -> None:
    import torch

    from components.config.settings import PromoteConfig
    from components.registry.model_registry import version_of
    from components.registry.promotion import Candidate, promote
    from components.registry.test_sets import ImageTestSet

    folder, files = champion_files
    mark = tmp_path / "unpickled"
    trap = pickle.dumps(Trap(mark))
    pickle.loads(trap)
    assert mark.exists(), "the trap works"
    mark.unlink()
    for name, body in plant(files, trap).items():
        services.s3.client().put_object(Bucket=ARTIFACTS, Key=folder + name, Body=body)
    images, labels = digits
    decision = promote(
        Candidate(version_of(NAME, "2"), np.ones(len(labels[MANY:]), bool), 1, 1.0),
        uri=services.mlflow.uri,
        test_set=ImageTestSet(
            lambda: [torch.from_numpy(images[MANY:, None]).float()], torch.from_numpy(labels[MANY:])
        ),
        config=PromoteConfig(),
        rng=np.random.default_rng(0),
    )
    assert not mark.exists()
    assert decision.alias == "challenger"
    assert "the champion (version 1) cannot be loaded" in decision.reason
    assert "\n" not in decision.reason
    assert champions(client)[0] == "1"


# --- what is wrong is told, and no secret -------------------------------------------------------


REFUSALS = {
    "study": ("search.storage", "password authentication failed"),
    "mlflow": ("tracking.uri", "MLFLOW_TRACKING_PASSWORD"),
    "mlflow token with a line break": ("tracking.uri", "has a line break or a space at an end"),
    "mlflow token with CR": ("tracking.uri", "has a line break or a space at an end"),
    "mlflow token with CRLF inside": ("tracking.uri", "has a line break or a space at an end"),
    "mlflow token with the word before it": ("tracking.uri", "takes a user name and a password"),
    "mlflow password with CRLF": ("tracking.uri", "MLFLOW_TRACKING_PASSWORD has a space or a line"),
    "study with LF after the password": ("search.storage", "has a line break in it"),
    "study with CRLF after the password": ("search.storage", "has a line break in it"),
    "study with CR at the end": ("search.storage", "password authentication failed"),
    "s3": ("data.source", "AWS_SECRET_ACCESS_KEY"),
    "s3 with CR": ("data.source", "AWS_SECRET_ACCESS_KEY"),
    "s3 with CRLF": ("data.source", "AWS_SECRET_ACCESS_KEY"),
    "s3 session with a line break": ("data.source", "does not know the access key"),
    "s3 session with a line break inside": ("data.source", "has a line break or a space"),
    "presigned URL": ("data.source", "holds a user name, a password or a token"),
    "presigned URL of version 2": ("data.source", "holds a user name, a password or a token"),
    "bearer token in a setting": ("tracking.experiment", "holds a user name, a password"),
    "basic-auth header in a setting": ("tracking.experiment", "holds a user name, a password"),
}
"""Kind of a wrong secret: the setting and the advice of its message."""


@dataclass(frozen=True)
class Refused:
    ended: Ended
    wrong: str


@pytest.fixture(scope="module")
def refused(services: Services, data: dict[str, str], found: Stage) -> dict[str, Refused]:
    """Runs with one wrong secret each; a secret made of a file ends with a line break."""
    answers = {}
    no_account = {"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""}
    for kind in REFUSALS:
        wrong = planted()
        environment = {
            "study": {"NAS_STUDY_URL": services.study_url_with(wrong)},
            "mlflow": {"MLFLOW_TRACKING_PASSWORD": wrong},
            "mlflow token with a line break": {**no_account, "MLFLOW_TRACKING_TOKEN": f"{wrong}\n"},
            "mlflow token with CR": {**no_account, "MLFLOW_TRACKING_TOKEN": f"{wrong}\r"},
            "mlflow token with CRLF inside": {
                **no_account,
                "MLFLOW_TRACKING_TOKEN": f"{wrong}\r\n{wrong}",
            },
            "mlflow token with the word before it": {
                **no_account,
                "MLFLOW_TRACKING_TOKEN": f"Bearer {wrong}",
            },
            "mlflow password with CRLF": {"MLFLOW_TRACKING_PASSWORD": f"{wrong}\r\n"},
            "study with LF after the password": {
                "NAS_STUDY_URL": services.study_url_with(wrong).replace("@127", "\n@127")
            },
            "study with CRLF after the password": {
                "NAS_STUDY_URL": services.study_url_with(wrong).replace("@127", "\r\n@127")
            },
            "study with CR at the end": {"NAS_STUDY_URL": f"{services.study_url_with(wrong)}\r"},
            "s3": {"AWS_SECRET_ACCESS_KEY": wrong},
            "s3 with CR": {"AWS_SECRET_ACCESS_KEY": f"{wrong}\r"},
            "s3 with CRLF": {"AWS_SECRET_ACCESS_KEY": f"{wrong}\r\n"},
            "s3 session with a line break": {"AWS_SESSION_TOKEN": f"{wrong}\n"},
            "s3 session with a line break inside": {"AWS_SESSION_TOKEN": f"{wrong}\n{wrong}"},
        }.get(kind, {})
        url, signature = "npz:https://s3.example.org/b/k.npz", quote(wrong, safe="")
        header = base64.b64encode(f"nas-steps:{wrong}".encode()).decode()
        changed = {
            "data.source": data["few"],
            "promote.export_to": "null",
            **{
                "presigned URL": {"data.source": f"{url}?X-Amz-Signature={signature}"},
                "presigned URL of version 2": {
                    "data.source": f"{url}?AWSAccessKeyId=AKIA&Signature={signature}&Expires=1"
                },
                "bearer token in a setting": {"tracking.experiment": f"Bearer {wrong}"},
                "basic-auth header in a setting": {"tracking.experiment": f"Basic {header}"},
            }.get(kind, {}),
        }
        arguments = settings(services, **changed)
        name = f"refused-{kind.replace(' ', '-')}"
        out = f"--out={services.home / name}"
        ended = services.nas("run", *arguments, out, name=name, changed=environment)
        answers[kind] = Refused(ended, wrong)
    return answers


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_wrong_secret_is_reported_before_anything_starts(
    kind: str, refused: dict[str, Refused], services: Services
) -> None:
    key, advice = REFUSALS[kind]
    ended = refused[kind].ended
    assert ended.status == 2
    assert key in ended.stderr
    assert advice in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (services.home / f"refused-{kind.replace(' ', '-')}").exists()
    said = {"stdout": ended.stdout.encode(), "stderr": ended.stderr.encode()}
    assert holding(said, refused[kind].wrong) == []


@pytest.fixture(scope="module")
def commands(services: Services, data: dict[str, str]) -> dict[str, Ended]:
    """What else is called with these secrets at hand, or in hand."""
    image = ["--image=registry.example/nas@sha256:" + "0" * 64]
    shared = settings(services, **{"data.source": data["few"]})
    password = quote(services.steps.password, safe="")
    careless = {
        "tracking.uri": services.mlflow.uri.replace("//", f"//nas-steps:{password}@"),
        "search.storage": services.study_url,
    }
    calls = {
        "compile search": ["compile", *shared, *image, "--out=search.yaml"],
        "compile retrain": ["compile", *shared, *image, "--kind=retrain", "--out=retrain.yaml"],
        "compile secrets": ["compile", *settings(services, **careless), *image, "--out=no.yaml"],
        "doctor": ["doctor", *settings(services, **careless, **{"data.source": data["few"]})],
        "status": ["status", "any", f"--host={services.mlflow.uri}"],
    }
    return {name: services.nas(*call, name=name) for name, call in calls.items()}


def test_a_pipeline_for_the_cluster_is_compiled_without_secrets(
    commands: dict[str, Ended], services: Services
) -> None:
    assert commands["compile search"].status == commands["compile retrain"].status == 0
    assert "env:NAS_STUDY_URL" in (services.home / "search.yaml").read_text()
    refusal = commands["compile secrets"]
    assert refusal.status == 2
    assert "tracking.uri" in refusal.stderr
    assert "search.storage" in refusal.stderr
    assert not (services.home / "no.yaml").exists()


@pytest.fixture(scope="module")
def written(
    services: Services,
    better: Stage,
    worse: Stage,
    rolled_back: RolledBack,
    refused: dict[str, Refused],
    commands: dict[str, Ended],
) -> dict[str, bytes]:
    """All that was written anywhere: files, objects in S3, rows of both databases."""
    files = (path for path in services.home.rglob("*") if path.is_file())
    found = {str(path.relative_to(services.home)): path.read_bytes() for path in files}
    for bucket in (ARTIFACTS, HANDED_OVER):
        found |= {f"s3:{key}": body for key, body in services.objects(bucket).items()}
    for url in (services.study_url, services.mlflow_url):
        for number, (table, row) in enumerate(services.rows(url)):
            found[f"{table} {number}"] = row.encode()
    return found


OPENS = ["study", "postgres", "mlflow", "mlflow admin", "s3", "token"]


@pytest.mark.parametrize("name", OPENS)
def test_a_secret_is_written_nowhere(
    name: str, written: dict[str, bytes], services: Services
) -> None:
    assert holding(written, services.secrets()[name]) == []


@pytest.mark.parametrize("kind", REFUSALS)
def test_nor_is_one_that_was_wrong(
    kind: str, written: dict[str, bytes], refused: dict[str, Refused]
) -> None:
    assert holding(written, refused[kind].wrong) == []


def holding(written: dict[str, bytes], secret: str) -> list[str]:
    marks = traces(secret)
    return [place for place, body in written.items() if any(mark in body for mark in marks)]


def test_all_places_are_looked_at(written: dict[str, bytes], services: Services) -> None:
    assert set(services.secrets()) == set(OPENS)
    names = " ".join(written)
    for place in (
        *("found/pipeline.log", "found/pipeline.yaml", "found/progress.jsonl", "found/config.json"),
        *("found/spool/target.json", "found/spool/events/", "found/pipeline/nas-search"),
        *("found/state/promote/outputs/report", "found/report.html", "better/review.json"),
        *("found.stderr", "refused-mlflow.stderr", "status.stderr", "server/server.log"),
        *("search.yaml", "retrain.yaml", "artifacts/config/config.json", "data/model.pt2"),
        *("s3:digits/champion.json", "result.json", "model.safetensors"),
        *("trial_user_attributes ", "experiments ", "params ", "tags ", "model_version_tags "),
    ):
        assert place in names


@pytest.mark.parametrize(
    "write",
    [
        str,
        quote,
        quote_plus,
        json.dumps,
        repr,
        lambda secret: secret.encode().hex(),
        *(
            lambda secret, before=before: base64.b64encode(f"{before}{secret}=".encode()).decode()
            for before in ("", "u:", "user:")
        ),
    ],
)
def test_a_secret_would_be_seen_in_whatever_form(write: Callable[[str], str]) -> None:
    secret = planted()
    assert holding({"here": f"... {write(secret)} ...".encode()}, secret) == ["here"]
    assert holding({"here": write(planted()).encode()}, secret) == []


# --- in a real browser ------------------------------------------------------------------------


@pytest.mark.browser
def test_the_mlflow_ui_shows_run_data_and_model_card(
    found: Stage, services: Services, client: Any, browser: Any
) -> None:
    from mlflow_pages import MlflowPages

    pages = MlflowPages(browser, services.mlflow.uri, services.steps)
    run = client.get_run(found.result["tracking_run_id"])
    pages.open_runs(run.info.experiment_id, "Description")
    pages.wait_for(run.info.run_name, "Train", "nas run random", "Architecture search with")
    pages.open_run(run.info.experiment_id, run.info.run_id)
    accuracy = f"{found.result['test_accuracy']:.2%}"
    pages.wait_for(f"Test accuracy {accuracy}", "Datasets", "system/cpu_utilization_percentage")
    pages.open_run(run.info.experiment_id, run.info.run_id, "system-metrics")
    pages.wait_for("cpu_utilization_percentage", "network_receive_megabytes")
    pages.open_version(NAME, "1")
    pages.wait_for("Version 1", "How to load", f"models:/{NAME}/1", accuracy, "validation_status")
