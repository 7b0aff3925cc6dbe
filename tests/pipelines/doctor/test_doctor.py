"""`nas doctor` on machines that are not well; its exit status is tested with the other commands."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres import PASSWORD, Postgres, free_port
from registered_models import Constant, House

from components.config.schema import Config, parse
from pipelines.doctor import examine as doctor
from pipelines.doctor import machine_checks, service_checks
from pipelines.doctor.examine import Finding, examine


@pytest.fixture
def config() -> Config:
    return parse({})


def findings(config: Config) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(config)}


def test_every_check_reports_once_and_a_problem_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"data": {"source": "npz:no.npz"}, "tracking": {"uri": "mlruns"}}
    found = findings(parse(data))
    assert list(found) == [
        "python",
        "packages",
        "torch",
        "memory",
        "disk",
        "output",
        "scratch",
        "shm",
        "study",
        "tracking",
        "data",
        "pretrained",
        "export",
        "state",
    ]
    assert {name for name, one in found.items() if one.state == "problem"} == {"tracking", "data"}
    assert all(one.advice for one in found.values() if one.state != "ok")
    assert list(tmp_path.iterdir()) == [], "an examination leaves nothing behind"


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_disk(config: Config) -> Finding:
        raise OSError("the disk has gone")

    monkeypatch.setattr(doctor, "CHECKS", (check_disk, service_checks.check_data))
    broken, good = examine(config)
    assert (broken.name, broken.state) == ("disk", "problem")
    assert "the disk has gone" in broken.seen
    assert good.state == "ok"


@pytest.mark.parametrize(("version", "state"), [((3, 10), "problem"), ((3, 12), "ok")])
def test_python_versions(
    config: Config, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], state: str
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    assert machine_checks.check_python(config).state == state


def test_packages_that_are_missing_or_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution as pip leaves it, with wishes that this environment does not fulfil."""
    folder = tmp_path / "wishes-1.0.dist-info"
    folder.mkdir()
    lines = (
        "Metadata-Version: 2.1",
        "Name: wishes",
        "Version: 1.0",
        "Requires-Dist: numpy>=999",
        "Requires-Dist: no-such-package-at-all",
        "Requires-Dist: pyyaml>=6",
        "Requires-Dist: another-missing; python_version < '3'",
        "Requires-Dist: a-third; extra == 'more'",
    )
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = list(machine_checks._unmet("wishes"))
    assert len(told) == 2
    assert told[0].startswith("numpy is ")
    assert told[0].endswith("wishes wants >=999")
    assert told[1] == "no-such-package-at-all is missing"
    assert "a-third is missing" in list(machine_checks._unmet("wishes", "more"))


def probe(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(machine_checks, "_TORCH_PROBE", code)


def test_a_torch_that_does_not_load(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, "import os; raise OSError('libcudart.so: cannot open')")
    finding = machine_checks.check_torch(config)
    assert finding.state == "problem"
    assert finding.seen == "OSError: libcudart.so: cannot open"


def test_a_torch_that_takes_the_process_down(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    finding = machine_checks.check_torch(config)
    assert (finding.state, finding.seen) == ("problem", "exit status -11")


NO_GPU = "print('a warning of a library'); print('[\"2.14.1+cpu\", 2, []]')"


def test_a_gpu_that_is_asked_for_but_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, NO_GPU)
    monkeypatch.setenv("PATH", "/nowhere")
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a GPU")
    assert machine_checks.check_torch(parse({})).state == "ok"
    assert machine_checks.check_torch(parse({"training": {"device": "cuda"}})).state == "problem"


def test_a_driver_that_torch_cannot_use(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    probe(monkeypatch, NO_GPU)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = machine_checks.check_torch(config)
    assert finding.state == "warning"
    assert "install a CUDA build" in finding.advice


def test_a_gpu_that_works(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, 'print(\'["2.14.1", 16, ["NVIDIA H100"]]\')')
    finding = machine_checks.check_torch(config)
    assert (finding.state, finding.seen) == ("ok", "2.14.1, GPU NVIDIA H100")


def test_little_disk_and_memory(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_MIN_DISK_GB", 1e9)
    monkeypatch.setattr(machine_checks, "_MIN_MEMORY_GB", 1e9)
    assert machine_checks.check_disk(config).state == "problem"
    assert machine_checks.check_memory(config).state == "warning"


def test_the_cpus_are_those_that_this_process_may_use() -> None:
    command = [
        sys.executable,
        "-c",
        "from pipelines.doctor import machine_checks; print(machine_checks._num_cpus())",
    ]
    only = min(os.sched_getaffinity(0))
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {only}),
    )
    assert float(done.stdout) <= 1


def test_scratch_that_cannot_be_written(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert machine_checks.check_scratch(config).state == "ok"
    monkeypatch.setenv("HOME", "/proc/nothing")  # nobody writes there, root included
    monkeypatch.setenv("TRITON_CACHE_DIR", "/sys/triton/cache")
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "is" / "made" / "when" / "needed"))
    finding = machine_checks.check_scratch(config)
    assert finding.state == "problem"
    assert finding.seen == "not writable: /sys/triton/cache"
    monkeypatch.delenv("TRITON_CACHE_DIR")
    without_home = machine_checks.check_scratch(config)
    assert (without_home.state, without_home.seen) == ("warning", "not writable: /proc/nothing")


def test_no_place_for_temporary_files(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/proc/tmp")
    finding = machine_checks.check_scratch(config)
    assert (finding.state, finding.seen) == ("problem", "not writable: /proc/tmp")


def test_little_shared_memory_matters_to_image_folders(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "_MIN_SHARED_GB", 1e9)
    assert machine_checks.check_shm(config).state == "ok"
    folder = parse({"data": {"source": "imagefolder:here"}})
    assert machine_checks.check_shm(folder).state == "warning"


def study(storage: str) -> Finding:
    return service_checks.check_study(parse({"search": {"storage": storage}}))


def test_the_database_of_the_study(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("NAS_STUDY_URL", url)
    assert study("env:NAS_STUDY_URL").state == "ok"
    assert study(url).state == "ok"
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        made = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert made.fetchone() == (0,), "an examination leaves nothing behind"
    wrong = [postgres.url("nowhere"), postgres.url("postgres", password="wrong-secret")]
    for finding in map(study, wrong):
        assert finding.state == "problem"
        assert PASSWORD not in str(finding)
        assert "wrong-secret" not in str(finding)
    assert 'database "nowhere" does not exist' in study(wrong[0]).seen
    assert "password authentication failed" in study(wrong[1]).seen


def test_a_study_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAS_STUDY_URL", raising=False)
    unset = study("env:NAS_STUDY_URL")
    assert unset.state == "problem"
    assert "NAS_STUDY_URL is not set" in unset.seen
    assert unset.advice == "set it"
    away = study(f"postgresql://nas:secret@127.0.0.1:{free_port()}/studies")
    assert away.state == "problem"
    assert "refused" in away.seen
    assert "secret" not in str(away)
    assert study(f"sqlite:///{tmp_path}/study.db").state == "ok"
    assert study("sqlite:////proc/study.db").state == "problem"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "state"),
    [
        ("digits", "ok"),
        ("cifar10", "warning"),
        ("imagenet", "problem"),
        ("npz:", "problem"),
        ("npz:here.npz", "ok"),
        ("npz:folder", "problem"),
        ("imagefolder:folder", "ok"),
        ("imagefolder:here.npz", "problem"),
        ("imagefolder:photos.tar.gz", "ok"),
        ("imagefolder:none.zip", "problem"),
        ("parquet:here.npz", "ok"),
        ("npy:folder", "problem"),
        ("safetensors:none.safetensors", "problem"),
    ],
)
def test_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, state: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.npz").touch()
    (tmp_path / "photos.tar.gz").touch()
    (tmp_path / "folder").mkdir()
    finding = service_checks.check_data(parse({"data": {"source": source}}))
    assert (finding.state, finding.seen) == (state, source)


def test_a_deleted_experiment_is_named(empty_store: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{shutil.copyfile(empty_store, tmp_path / 'mlflow.db')}"
    client = MlflowClient(uri, registry_uri=uri)
    client.delete_experiment(client.create_experiment("nas"))
    tracking = {"uri": uri, "experiment": "nas"}
    finding = service_checks.check_tracking(parse({"tracking": tracking}))
    assert finding.state == "problem"
    assert finding.seen.startswith(uri)
    assert finding.advice.startswith("tracking.experiment = nas: is deleted")


@pytest.fixture
def only_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (service_checks.check_tracking,))


@pytest.mark.usefixtures("only_tracking")
def test_a_champion_without_files(empty_store: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{shutil.copyfile(empty_store, tmp_path / 'mlflow.db')}"
    house = House(uri, tmp_path)

    def seen(
        model: str | None = "net", *, retrains: bool = False, policy: str | None = None
    ) -> Any:
        registry = {"model": model, "unusable_champion": policy}
        config = parse({"tracking": {"uri": uri}, "registry": registry})
        (found,) = [one for one in examine(config, retrains=retrains) if one.name == "champion"]
        return found

    assert (seen().state, seen(None).state) == ("ok", "ok")
    house.enter(Constant(0))
    assert seen().state == "ok"
    shutil.rmtree(tmp_path / "mlartifacts")
    for found in (seen(), seen(retrains=True, policy="stop")):
        assert found.state == "problem"
        assert found.seen.startswith("net: the champion (version 1) has no files any more in")
        assert "--set registry.unusable_champion=replace" in found.advice
    for found in (seen(policy="replace"), seen(retrains=True)):
        assert found.state == "warning"
        assert found.advice == "the new model replaces it if it passes the other gates"


@pytest.mark.usefixtures("only_tracking")
def test_the_champion_is_looked_for_in_a_sound_store_only() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    (tracking,) = examine(parse({"tracking": {"uri": uri}, "registry": {"model": "net"}}))
    assert (tracking.name, tracking.state) == ("tracking", "warning")


def test_a_password_is_not_shown() -> None:
    uri = "http://someone:secret@127.0.0.1:9"
    finding: Any = service_checks.check_tracking(parse({"tracking": {"uri": uri}}))
    assert finding.state == "warning"
    assert "secret" not in str(finding)


def test_a_place_for_results_that_will_not_do_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root, state in ((tmp_path / "new", "ok"), (tmp_path / "file" / "below", "problem")):
        assert (
            service_checks.check_export(parse({"promote": {"export_to": str(root)}})).state == state
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
