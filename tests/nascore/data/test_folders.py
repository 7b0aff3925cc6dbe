"""Folders of images: layouts, colours, sizes, and everything that may be wrong with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nascore.config import DataConfig
from nascore.data.prepared import prepare
from nascore.data.raw_dataset import Raw
from nascore.data.sources import read
from nascore.errors import InputError


def save(path: Path, value: int = 100, *, size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes in one tree; the value of a pixel is 10 times the label plus the number."""
    for label, name in enumerate(["ant", "bee"]):
        for number in range(4):
            save(tmp_path / name / f"{number}.png", 10 * label + number)
    return tmp_path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """`train/` and `test/`."""
    for part, count in (("train", 3), ("test", 1)):
        for name in ("ant", "bee"):
            for number in range(count):
                save(tmp_path / part / name / f"{number}.png", number)
    return tmp_path


def read_tree(root: Path, **settings: Any) -> Raw:
    return read(DataConfig(source=f"imagefolder:{root}", **settings))


def problems(root: Path, **settings: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_tree(root, **settings)
    assert {p.key for p in caught.value.problems} == {"data.source"}
    return [p.message for p in caught.value.problems]


def test_one_tree(tree: Path) -> None:
    raw = read_tree(tree)
    assert raw.images is not None
    assert raw.images.shape == (8, 8, 8, 1)
    assert raw.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert raw.labels.tolist() == [0] * 4 + [1] * 4
    assert (raw.classes, raw.num_test) == (("ant", "bee"), 0)


def test_train_and_test(parts: Path) -> None:
    raw = read_tree(parts)
    assert raw.num_test == 2
    assert raw.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]


def test_a_class_may_be_called_train(tree: Path) -> None:
    for number in range(3):
        save(tree / "train" / f"{number}.png")
    assert read_tree(tree).classes == ("ant", "bee", "train")


def test_images_may_lie_deeper_and_hidden_files_are_left_out(tree: Path) -> None:
    save(tree / "bee" / "more" / "9.bmp", 19)
    save(tree / ".cache" / "x.png")
    save(tree / "ant" / ".thumbnail.png")
    (tree / "ant" / "notes.txt").write_text("no image")
    raw = read_tree(tree)
    assert raw.images is not None
    assert raw.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 19]


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "webp"])
def test_one_coloured_image_makes_all_rgb(tree: Path, suffix: str) -> None:
    save(tree / "bee" / f"z.{suffix}", 200, mode="RGB")
    raw = read_tree(tree)
    assert raw.images is not None
    assert raw.images.shape == (9, 8, 8, 3)
    assert raw.images[3, 0, 0].tolist() == [3, 3, 3]
    assert np.abs(raw.images[8, 0, 0].astype(int) - [200, 0, 255]).max() <= 6  # lossy formats


def test_image_size_brings_all_to_one_size(tree: Path) -> None:
    save(tree / "ant" / "wide.png", 7, size=(20, 9))
    raw = read_tree(tree, image_size=6)
    assert raw.images is not None
    assert raw.images.shape == (9, 6, 6, 1)
    assert set(raw.images[4].ravel()) == {7}


def test_large_folder_is_streamed(tree: Path) -> None:
    save(tree / "ant" / "large.png", 7, size=(1024, 1024))
    raw = read_tree(tree, image_size=512, memory_limit_mb=2)
    assert raw.images is None
    assert raw.files is not None
    assert raw.files.root == str(tree)
    assert tuple(entry.name for entry in raw.entries) == (
        *(f"ant/{n}.png" for n in range(4)),
        "ant/large.png",
        *(f"bee/{n}.png" for n in range(4)),
    )
    assert raw.size == 512


# --- what is refused ------------------------------------------------------------------------


def test_no_folder_and_no_images(tmp_path: Path) -> None:
    assert "there is no folder" in problems(tmp_path / "nothing")[0]
    (reported,) = problems(tmp_path)
    assert reported.startswith(
        "has no class folders with images; put the images of each class into a"
    )
    save(tmp_path / "loose.png")
    assert problems(tmp_path)[0].startswith(
        "has no class folders with images, only images such as loose.png; put the images of each "
        "class into a folder of its name"
    )


def test_a_test_part_alone_has_nothing_to_train_on(tmp_path: Path) -> None:
    save(tmp_path / "test" / "ant" / "0.png")
    message = problems(tmp_path)[0]
    assert message.startswith("has a folder test/ but no train/")
    assert f"imagefolder:{tmp_path / 'test'}" in message


def test_folders_beside_train_and_test_are_not_dropped_silently(parts: Path) -> None:
    save(parts / "more" / "ant" / "0.png")
    assert problems(parts)[0].startswith("has folders next to train/ and test/: more; move")


def test_classes_of_test_must_be_known(parts: Path) -> None:
    save(parts / "test" / "wasp" / "0.png")
    found = problems(parts)
    assert found[0].startswith("test/ has classes that train/ does not have: wasp; add training")


def test_all_problems_of_a_folder_are_reported_together(tree: Path) -> None:
    (tree / "cow").mkdir()
    save(tree / "dog" / "0.png")
    (tree / "ant" / "0.png").write_bytes(b"")
    (tree / "bee" / "1.png").write_bytes(b"text, not an image")
    save(tree / "bee" / "wide.png", size=(9, 7))
    found = problems(tree)
    assert found[0].startswith("class folder cow has no image")
    assert found[1].startswith("class 'dog' has 1 training images, needs at least 3")
    unread = "it is no image that can be read"
    assert found[2] == (
        f"cannot read ant/0.png ({unread}), bee/1.png ({unread}); repair or remove them"
    )
    assert found[3] == (
        "images differ in size (2 sizes: ant/1.png is 8x8 and bee/wide.png is 9x7); "
        "set data.image_size to resize them"
    )
    assert len(found) == 4


def test_images_must_be_square(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        for number in range(3):
            save(tmp_path / name / f"{number}.png", size=(8, 6))
    assert problems(tmp_path)[0].startswith("images are 8 wide and 6 high")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
@pytest.mark.parametrize("memory_limit_mb", [4096, 1])
def test_truncated_image_is_named(tree: Path, suffix: str, memory_limit_mb: int) -> None:
    """In memory or streamed: before any training, with the name of the file."""
    path = tree / "bee" / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    config = DataConfig(
        source=f"imagefolder:{tree}", image_size=400, memory_limit_mb=memory_limit_mb
    )
    with pytest.raises(InputError, match=rf"bee/cut\.{suffix}") as caught:
        prepare(config, 0, tree / "out")
    assert len(caught.value.problems) == 1
    assert not (tree / "out").exists()


def test_floating_point_images_are_refused(tree: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tree / "ant" / "deep.tiff")
    assert problems(tree)[0].startswith("1 images have more than 16 bits a channel: ant/deep.tiff")


def test_line_break_in_a_file_name(tree: Path) -> None:
    save(tree / "ant" / "two\nlines.png")
    assert (
        problems(tree)[0]
        == r"file name 'ant/two\nlines.png' has a line break or a tab; rename the file"
    )
