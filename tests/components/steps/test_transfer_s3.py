"""Weights and teachers in S3, on a real server: checked first, read again, never half-read."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from s3 import SECRET_KEY
from transfer_runs import asked, check, config_of, context_of, expected, message, with_code

from components.export.weights import write_model
from components.registry.teacher_files import PROGRAM
from components.steps.transfer import FILE, with_transfer
from nascore.data.batches import Splits
from nascore.errors import InputError, ResourceUnavailable
from nascore.files import sha256_of
from nascore.training.ensemble import FOLDER, save_members
from nascore.training.final_model import DeployedModel, FinalModel
from pipelines.doctor.service_checks import check_pretrained, store_problems

KEY = "training.teacher"


def put(s3: Any, folder: Path, prefix: str) -> None:
    """Copy the files of a folder to a prefix, with the marker that consoles make of a folder."""
    s3.put_object(Bucket="data", Key=f"{prefix}/", Body=b"")
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "data", f"{prefix}/{path.relative_to(folder)}")


def write_program(final: FinalModel, splits: Splits, path: Path) -> None:
    model = DeployedModel(final.network, splits.info).eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path)


def test_weights_in_s3_are_those_of_the_file(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path, s3: Any, aws_account: None
) -> None:
    final.save(tmp_path / "model")
    path = tmp_path / "model" / "weights.pt"
    s3.put_object(Bucket="data", Key="weights/net.pt", Body=path.read_bytes())
    config, said = check(config_of(weights="s3://data/weights/net.pt"), splits, dataset)
    assert said == [f"training.weights: s3://data/weights/net.pt has SHA-256 {sha256_of(path)}"]
    context = context_of(config, splits, tmp_path)
    found = with_transfer(context, config, dataset, state=tmp_path / "s", say=said.append).start
    assert found is not None
    assert found.source == "s3://data/weights/net.pt"
    assert torch.equal(found.tensors["head.bias"], final.network.state_dict()["head.bias"])

    s3.put_object(Bucket="data", Key="weights/net.pt", Body=b"")
    with pytest.raises(InputError, match="is damaged, or no file of weights"):
        with_transfer(context, config, dataset, state=tmp_path / "s", say=said.append)


def test_a_missing_object_and_a_wrong_account_are_problems_of_the_setting(
    splits: Splits, dataset: Path, s3: Any, aws_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(weights="s3://data/weights/none.pt")
    assert message(config, splits, dataset).startswith("training.weights = s3://data/weights/none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ResourceUnavailable) as raised:
        check(config, splits, dataset)
    assert SECRET_KEY not in str(raised.value)


def test_teachers_in_s3_answer_as_their_folders(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path, s3: Any
) -> None:
    final.save(tmp_path / "final")
    for member in ("1", "2"):
        final.save(tmp_path / "final" / FOLDER / member)
    save_members(tmp_path / "final" / FOLDER, ("1", "2"))
    write_model(tmp_path / "exported", final, splits.info, config_of())
    write_program(final, splits, tmp_path / "exported" / "programs" / f"net{PROGRAM}")
    for name in ("final", "exported"):
        put(s3, tmp_path / name, f"teachers/{name}")
    for place in ("final", f"final/{FOLDER}/", "exported", f"exported/programs/net{PROGRAM}"):
        uri = f"s3://data/teachers/{place}"
        config, said = check(config_of(teacher=uri), splits, dataset)
        local, own = check(config_of(teacher=str(tmp_path / place.rstrip("/"))), splits, dataset)
        identity = json.loads((dataset / FILE).read_text())["teacher"]
        assert said == [f"training.teacher: {uri} ({identity})"], place
        assert said[0].endswith(own[0].rpartition(" ")[2]), "the identity is that of the files"
        logits = asked(config, splits, dataset)
        assert torch.allclose(logits, asked(local, splits, dataset), atol=1e-5), place
        if FOLDER not in place:
            assert torch.allclose(logits, expected(final, splits), atol=1e-3), place


def test_a_teacher_that_was_replaced_in_s3_is_refused(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path, s3: Any
) -> None:
    final.save(tmp_path / "final")
    put(s3, tmp_path / "final", "replaced")
    config, _ = check(config_of(teacher="s3://data/replaced"), splits, dataset)
    with torch.no_grad():
        weight = next(final.network.parameters())
        before = weight.clone()
        weight.add_(1)
        final.save(tmp_path / "other")
        weight.copy_(before)
    put(s3, tmp_path / "other", "replaced")
    context = context_of(config, splits, tmp_path)
    with pytest.raises(InputError, match=r"teacher = s3://data/replaced: .* replaced since"):
        with_transfer(context, config, dataset, state=tmp_path / "s", say=print)


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("s3://data/nothing/here", "there is no object below it; correct the bucket or the prefix"),
        (f"s3://data/nothing{PROGRAM}", "there is no such object"),
        ("s3://no-such-bucket/teacher", "there is no such bucket"),
        (
            "s3://data/pictures",
            "contains none of model.json, genotype.json, ensemble.json, MLmodel",
        ),
        ("s3://data/../teacher", "has a key with '.' or '..' in it"),
        ("s3://D/teacher", "is no S3 URI; write s3://BUCKET/KEY"),
    ],
)
def test_a_place_without_a_teacher_is_refused_before_data_is_read(
    uri: str, part: str, splits: Splits, dataset: Path, s3: Any
) -> None:
    s3.put_object(Bucket="data", Key="pictures/a/1.png", Body=b"picture")
    config = config_of(teacher=uri)
    found = message(config, splits, dataset)
    assert found.startswith(f"{KEY} = {uri}")
    assert part in found
    (problem,) = store_problems(config)
    assert str(problem) == found, "nas run says it before it starts the first step"
    finding = check_pretrained(config)
    assert (finding.state, finding.seen, finding.advice) == ("problem", uri, found)


def test_weights_and_teacher_in_s3_are_checked_together(s3: Any) -> None:
    s3.put_object(Bucket="data", Key="there.pt", Body=b"weights")
    missing = config_of(weights="s3://data/no.pt", teacher="s3://data/no")
    assert [one.key for one in store_problems(missing)] == ["training.weights", KEY]
    assert store_problems(config_of(weights="s3://data/there.pt", teacher="digits@champion")) == []


def test_a_teacher_of_other_classes_in_s3_is_refused_with_both_lists(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path, s3: Any
) -> None:
    info = dataclasses.replace(splits.info, classes=tuple(reversed(splits.info.classes)))
    write_model(tmp_path / "exported", final, info, config_of())
    put(s3, tmp_path / "exported", "reversed")
    found = message(config_of(teacher="s3://data/reversed"), splits, dataset)
    assert "has the same classes in another order: the teacher [9, 8, 7," in found
    assert "the data [0, 1, 2," in found


def test_code_in_a_teacher_in_s3_does_not_run(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path, s3: Any
) -> None:
    write_model(tmp_path / "coded", final, splits.info, config_of())
    write_program(final, splits, tmp_path / "coded" / f"net{PROGRAM}")
    with_code(tmp_path / "coded" / f"net{PROGRAM}", tmp_path / "ran")
    put(s3, tmp_path / "coded", "coded")
    found = message(config_of(teacher=f"s3://data/coded/net{PROGRAM}"), splits, dataset)
    assert "cannot be loaded: Deserializing model using pickle is disallowed" in found
    assert not (tmp_path / "ran").exists()


def test_a_damaged_teacher_in_s3_is_refused_by_its_uri(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path, s3: Any
) -> None:
    final.save(tmp_path / "cut")
    path = tmp_path / "cut" / "weights.pt"
    path.write_bytes(path.read_bytes()[:-20])
    put(s3, tmp_path / "cut", "cut")
    found = message(config_of(teacher="s3://data/cut"), splits, dataset)
    assert found.startswith(f"{KEY} = s3://data/cut: is damaged, or of another version (")
    s3.delete_object(Bucket="data", Key="cut/weights.pt")
    assert "there is no such object" in message(config_of(teacher="s3://data/cut"), splits, dataset)
