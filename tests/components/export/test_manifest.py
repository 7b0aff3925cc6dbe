"""Exported files, in a folder and in a real S3: nothing is overwritten, one run is champion."""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from s3 import SECRET_KEY, Relay, S3Server
from unkind_s3 import UnkindRelay

from components.config.schema import Config, parse
from components.export.manifest import (
    CHAMPION,
    GENOTYPE,
    INT8,
    LATENCY,
    MANIFEST,
    RESULT,
    WEIGHTS,
    champion_entry,
    check_outputs,
    export_files,
    manifest_sha256,
    move_champion,
)
from components.export.weights import write_model
from components.object_store.outputs import Outputs, open_outputs
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError, ResourceUnavailable
from nascore.genotype import Genotype
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.training.child import build_network
from nascore.training.final_model import DeployedModel, FinalModel

NAME = "nas-model"


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    s3_server.bucket("out")
    return s3_server


@pytest.fixture
def s3(server: S3Server, aws_account: None, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return server


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each test's own."""
    if request.param == "folder":
        return str(tmp_path / "out")
    request.getfixturevalue("s3")
    name = request.node.name.replace("[", "-").rstrip("]")
    return f"s3://out/{name}"


@pytest.fixture
def outputs(root: str) -> Outputs:
    return open_outputs(root)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files that a run would export; the contents do not matter here."""
    found = {}
    for name in (WEIGHTS, GENOTYPE, LATENCY, RESULT):
        found[name] = tmp_path / "run" / name
        found[name].parent.mkdir(exist_ok=True)
        found[name].write_text(f"content of {name}")
    return found


def stored(outputs: Outputs, name: str) -> bytes:
    there = outputs.read(name)
    assert there is not None, name
    return there[0]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- the files of a run -----------------------------------------------------------------------


def test_the_manifest_has_the_digest_of_each_file(outputs: Outputs, files: dict[str, Path]) -> None:
    digest = export_files(outputs, "run1", files)
    manifest = stored(outputs, f"run1/{MANIFEST}")
    assert digest == sha256(manifest) == manifest_sha256(outputs, "run1")
    described = json.loads(manifest)
    assert (described["run_key"], described["sha256"].keys()) == ("run1", files.keys())
    for name, path in files.items():
        assert stored(outputs, f"run1/{name}") == path.read_bytes()
        assert described["sha256"][name] == sha256(path.read_bytes())
    assert manifest_sha256(outputs, "run2") is None


def test_a_step_that_is_tried_again_exports_nothing_new(
    outputs: Outputs, files: dict[str, Path]
) -> None:
    """Its result tells other times; the first one counts, and the manifest is that one's."""
    first = export_files(outputs, "run1", files)
    before = files[RESULT].read_bytes()
    files[RESULT].write_text("another time")
    assert export_files(outputs, "run1", files) == first
    assert stored(outputs, f"run1/{RESULT}") == before


def test_a_try_that_was_cut_off_is_completed(outputs: Outputs, files: dict[str, Path]) -> None:
    begun = {name: files[name] for name in (WEIGHTS, RESULT)}
    for name, path in begun.items():
        outputs.add(f"run1/{name}", path)
    before = files[RESULT].read_bytes()
    files[RESULT].write_text("another time")
    export_files(outputs, "run1", files)
    described = json.loads(stored(outputs, f"run1/{MANIFEST}"))
    assert described["sha256"][RESULT] == sha256(before)
    assert stored(outputs, f"run1/{GENOTYPE}") == files[GENOTYPE].read_bytes()


@pytest.mark.parametrize("first_has_it", [True, False])
def test_the_first_complete_try_decides_whether_a_network_in_int8_is_offered(
    outputs: Outputs, files: dict[str, Path], tmp_path: Path, first_has_it: bool
) -> None:
    (tmp_path / INT8).write_bytes(b"first" if first_has_it else b"second")
    more = {**files, INT8: tmp_path / INT8}
    first, second = (more, files) if first_has_it else (files, more)
    manifest = export_files(outputs, "run", first)
    (tmp_path / INT8).write_bytes(b"another quantisation")
    assert export_files(outputs, "run", second) == manifest
    assert export_files(outputs, "run", first) == manifest
    assert (outputs.read(f"run/{INT8}") is not None) == first_has_it


def test_other_weights_are_never_overwritten(outputs: Outputs, files: dict[str, Path]) -> None:
    export_files(outputs, "run1", files)
    before = files[WEIGHTS].read_bytes()
    files[WEIGHTS].write_text("other weights")
    with pytest.raises(InputError, match=f"run1/{WEIGHTS}: exists with other content"):
        export_files(outputs, "run1", files)
    assert stored(outputs, f"run1/{WEIGHTS}") == before


def test_a_file_of_another_program_is_compared_by_its_content(
    s3: S3Server, files: dict[str, Path]
) -> None:
    """Without the digest that we store with an object."""
    client = s3.client()
    client.put_object(Bucket="out", Key=f"by-hand/run1/{WEIGHTS}", Body=files[WEIGHTS].read_bytes())
    export_files(open_outputs("s3://out/by-hand"), "run1", files)
    client.put_object(Bucket="out", Key=f"by-hand/run2/{WEIGHTS}", Body=b"other")
    with pytest.raises(InputError, match="other content"):
        export_files(open_outputs("s3://out/by-hand"), "run2", files)


def test_a_file_appears_whole_or_not_at_all(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", cut_short)
    with pytest.raises(ResourceUnavailable, match="No space left on device"):
        export_files(open_outputs(str(tmp_path / "out")), "run1", files)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [".lock"]


# --- who is champion --------------------------------------------------------------------------


class Registry:
    """Which version the alias points to."""

    def __init__(self) -> None:
        self.champion = ""

    def names(self, version: str) -> Callable[[], bool]:
        return lambda: self.champion == version


def entry(version: str) -> dict[str, Any]:
    return champion_entry(
        f"run{version}", model_name=NAME, model_version=version, manifest_sha256="0" * 64
    )


def named(outputs: Outputs) -> str:
    return str(json.loads(stored(outputs, CHAMPION))["model_version"])


def test_the_champion_is_named_and_the_next_one_takes_its_place(outputs: Outputs) -> None:
    registry = Registry()
    for version in ("1", "2", "2", "1"):  # tried again; rolled back
        registry.champion = version
        assert move_champion(outputs, entry(version), is_champion=registry.names(version))
        assert json.loads(stored(outputs, CHAMPION)) == entry(version)


@pytest.mark.parametrize("winner", ["1", "2"])
def test_of_two_that_meet_the_one_whom_the_registry_names_stays(
    outputs: Outputs, winner: str
) -> None:
    """The second comes in between the first one's look and its write."""
    registry = Registry()
    move_champion(outputs, entry("0"), is_champion=lambda: True)
    asked = []

    def is_champion() -> bool:
        asked.append(registry.champion)
        if len(asked) > 1:
            return registry.champion == "1"
        registry.champion = "2"
        move_champion(outputs, entry("2"), is_champion=registry.names("2"))
        registry.champion = winner
        return True

    moved = move_champion(outputs, entry("1"), is_champion=is_champion)
    assert len(asked) == 2, "its write was refused, so it asked again"
    assert moved == (winner == "1")
    assert named(outputs) == winner


def test_whoever_comes_and_when_the_file_names_the_champion_of_the_registry(
    outputs: Outputs,
) -> None:
    registry, lock = Registry(), threading.Lock()
    barrier = threading.Barrier(6)

    def promote(version: str) -> None:
        barrier.wait()
        with lock:
            registry.champion = version
        move_champion(outputs, entry(version), is_champion=registry.names(version))

    threads = [threading.Thread(target=promote, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert named(outputs) == registry.champion


def test_a_write_whose_answer_is_lost_is_no_lost_race(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    relay = Relay(s3.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.url)
    outputs, asked = open_outputs("s3://out/lost", trusted=True), []
    try:
        for version in ("1", "2"):
            registry.champion = version

            def is_champion() -> bool:
                asked.append(relay.num_failed)
                relay.mode = "cut answer"  # of the write that follows
                return True

            assert move_champion(outputs, entry(version), is_champion=is_champion)
            assert named(outputs) == version
        assert (len(asked), relay.num_failed) == (2, 2)
    finally:
        relay.mode = "away"
        relay.close()


def test_the_champion_of_another_model_is_left_alone(outputs: Outputs) -> None:
    registry = Registry()
    registry.champion = "1"
    move_champion(outputs, entry("1"), is_champion=registry.names("1"))
    other = {**entry("1"), "model_name": "birds"}
    for refused in (
        lambda: move_champion(outputs, other, is_champion=lambda: True),
        lambda: check_outputs(outputs, "birds"),
    ):
        with pytest.raises(InputError, match="belongs to the model nas-model, not to birds"):
            refused()
    assert named(outputs) == "1"
    check_outputs(outputs, NAME)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_a_file_of_another_program_is_refused(outputs: Outputs, content: bytes) -> None:
    outputs.replace(CHAMPION, content, None)
    with pytest.raises(InputError, match="is no file of this version"):
        check_outputs(outputs, NAME)


# --- places that will not do ------------------------------------------------------------------


def test_looking_at_a_place_leaves_no_folder(tmp_path: Path) -> None:
    check_outputs(open_outputs(str(tmp_path / "a" / "b")), NAME)
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outputs = open_outputs(str(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match=r"promote.export_to = .*cannot be written"):
        check_outputs(outputs, NAME)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret key is wrong"),
        ("AWS_ACCESS_KEY_ID", "stranger", "s3:PutObject for an output"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "does not answer"),
    ],
)
def test_a_bucket_that_refuses_the_account_is_reported(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ResourceUnavailable, match=message) as refused:
        check_outputs(open_outputs("s3://out/x"), NAME)
    assert SECRET_KEY not in str(refused.value)


def test_a_bucket_that_does_not_exist_is_reported(s3: S3Server) -> None:
    with pytest.raises(ResourceUnavailable, match="there is no such bucket"):
        check_outputs(open_outputs("s3://not-there/x"), NAME)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("s3://user:hunter2@bucket/x", "user name, a password"),
        ("s3://hunter2@bucket/x", "user name, a password"),
        ("s3://B/x", "is no S3 URI"),
        ("s3://bucket/../x", "'.' or '..'"),
        ("https://me:hunter2@host/x", "user name, a password"),
        ("https://host/x", "https:// is not supported; copy the files, and write s3://BUCKET/KEY"),
        ("", "not empty; write export_to: s3://BUCKET/PREFIX"),
    ],
)
def test_a_place_that_is_none_is_refused_without_its_password(root: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse({"promote": {"export_to": root}})
    (problem,) = refused.value.problems
    assert problem.key == "promote.export_to"
    assert message in problem.message
    assert "hunter2" not in str(refused.value)


# --- the weights ------------------------------------------------------------------------------


def test_the_weights_predict_what_the_network_did(tmp_path: Path, digits_folder: Path) -> None:
    """Built from the exported files alone, and read without unpickling anything."""
    from safetensors.torch import load_file

    info, shape = DatasetInfo.load(digits_folder), ImageShape(1, 8, 10)
    settings = Config()
    space = make_space(settings.search.space)
    genotype = make_genotype(space, [i % 8 for i in range(20)])
    network = build_network(space, genotype, shape, seed=1, final=True).eval()
    final = FinalModel(genotype, shape, network, 0.9, 0.9, 0.9, 1, 1, 1, 1.0)
    write_model(tmp_path, final, info, settings)

    described = json.loads((tmp_path / GENOTYPE).read_text())
    again = build_network(
        make_space(ChainSpaceConfig(**described["space"])),
        Genotype.from_dict(described["genotype"]),
        ImageShape(**described["shape"]),
        seed=2,
        final=True,
    )
    loaded = DeployedModel(again, info).eval()
    with torch.no_grad():
        loaded.scale_C11.zero_()  # the normalisation comes out of the file as well
    loaded.load_state_dict(load_file(tmp_path / WEIGHTS))
    pixels = torch.randint(0, 256, (4, 1, 8, 8)).float()
    with torch.inference_mode():
        expected = DeployedModel(network, info).eval()(pixels)
        assert torch.equal(loaded(pixels), expected)
    assert described["classes"] == list(info.classes)


@pytest.mark.parametrize("fault", ["ignore conditions", "501 to conditions", "400 to conditions"])
def test_a_store_without_conditional_writes(
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    relay = UnkindRelay(s3.port)
    relay.fault = fault
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.url)
    first = open_outputs(f"s3://out/{fault.replace(' ', '-')}", trusted=True)
    second = open_outputs(first.root, trusted=True)
    assert "has no conditional writes" in check_outputs(first, NAME)
    for name, content in (("a", b"first"), ("b", b"second")):
        (tmp_path / name).write_bytes(content)
    digests = [
        outputs.add("run/x", tmp_path / "ab"[at]) for at, outputs in enumerate((first, second))
    ]
    assert digests == [hashlib.sha256(b"first").hexdigest()] * 2
    assert first.replace(CHAMPION, b"1", None)
    assert not second.replace(CHAMPION, b"2", None)
    found = second.read(CHAMPION)
    assert found is not None
    assert second.replace(CHAMPION, b"3", found[1])
    assert not first.replace(CHAMPION, b"4", found[1])
    assert len([one for one in caplog.messages if "no conditional writes" in one]) == 1
    relay.close()
