"""One data set in every layout and lossless kind of file: the same data, the same search."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from image_trees import write

from nascore.config import BudgetConfig, DataConfig, SearchConfig, TrainingConfig
from nascore.context import SearchContext
from nascore.data.batches import load
from nascore.data.prepared import DatasetInfo, prepare
from nascore.methods.baselines.options import RandomOptions
from nascore.methods.registry import METHODS
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.chain.config import ChainSpaceConfig

KINDS = ("png", "bmp", "tiff", "webp")
LAYOUTS = (
    *("folder", "wrapped", "train only", "photos.zip", "photos.tar.gz"),
    *("table", "one column a class", "kaggle", "hugging face"),
)
CLASSES = ("ant", "bee")
SPACE = ChainSpaceConfig(num_layers=2)


def forms(root: Path, kind: str) -> dict[str, Path]:
    """The same 40 pictures in each layout."""
    folder = write(root / "folder", [f"{c}/{n:02}.{kind}" for c in CLASSES for n in range(20)])
    shutil.copytree(folder, root / "wrapped" / "x" / "x")
    shutil.copytree(folder, root / "train only" / "Training")
    for archive in ("zip", "gztar"):
        shutil.make_archive(str(root / "photos"), archive, folder)
    rows = []
    for path in sorted(folder.rglob(f"*.{kind}")):
        name = f"{path.parent.name}{path.name}"
        rows.append((name, path.parent.name))
        for other in ("table/images", "one column a class", "kaggle/train", "hugging face/train"):
            (root / other).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / other / name)
    text = "".join(f"{name},{label}\n" for name, label in rows)
    truths = "".join(f"{name},{label == 'ant':d},{label == 'bee':d}\n" for name, label in rows)
    (root / "table" / "labels.csv").write_text("file,label\n" + text)
    (root / "one column a class" / "_classes.csv").write_text("filename,ant,bee\n" + truths)
    (root / "kaggle" / "train.csv").write_text("id,label\n" + text.replace(f".{kind}", ""))
    (root / "hugging face" / "train" / "metadata.csv").write_text("file_name,label\n" + text)
    return {name: root / name for name in LAYOUTS}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """By layout and kind: nine layouts of four kinds of files."""
    root = tmp_path_factory.mktemp("forms")
    found = {}
    for kind in KINDS:
        for layout, source in forms(root / "in" / kind, kind).items():
            found[layout, kind] = root / "out" / kind / layout
            prepare(DataConfig(source=f"imagefolder:{source}"), 1, found[layout, kind])
    return found


def test_one_data_set_in_many_layouts_and_kinds_is_the_same_data(
    prepared: dict[tuple[str, str], Path],
) -> None:
    infos = [DatasetInfo.load(folder) for folder in prepared.values()]
    assert len(infos) == 36
    assert len({info.data_sha256 for info in infos}) == 1
    assert len({(info.mean, info.std, info.classes) for info in infos}) == 1
    assert len({info.split_sha256 for info in infos}) == 1
    for file in ("images.npy", "labels.npy"):
        assert len({(folder / file).read_bytes() for folder in prepared.values()}) == 1


def searched(data: Path, folder: Path) -> list[Any]:
    """What a short search finds: everything but the clock."""
    folder.mkdir()
    task = SearchContext(
        method="random",
        seeds=Seeds(3),
        space=make_space(SPACE),
        splits=load(data, torch.device("cpu")),
        shape=ImageShape(3, 8, 2),
        search=SearchConfig(
            space=SPACE,
            budget=BudgetConfig(children=2),
            child=TrainingConfig(epochs=1, batch_size=16),
            control=False,
        ),
        final=TrainingConfig(epochs=1),
        options=RandomOptions(),
        controller=folder,
        state=folder,
    )
    result = METHODS["random"].load().search(task)
    children = [
        (child.genotype, child.valid_accuracy, child.scores.train_accuracy)
        for child in result.arm.children
        if child.scores
    ]
    return [result.genotype, result.valid_accuracy, *children]


def test_the_same_search_on_every_form_has_the_same_result(
    prepared: dict[tuple[str, str], Path], tmp_path: Path, one_thread: None
) -> None:
    """Each layout, and each kind of files at least twice."""
    chosen = [(layout, KINDS[number % 4]) for number, layout in enumerate(LAYOUTS)]
    found = [searched(prepared[form], tmp_path / " ".join(form)) for form in chosen]
    assert len(found[0]) == 4
    assert all(result == found[0] for result in found)
