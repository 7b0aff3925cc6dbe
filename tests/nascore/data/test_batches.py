"""Batches: order, normalisation, augmentation; streamed images are the same as those in memory."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nascore.config import DataConfig, TrainingConfig
from nascore.data import images as image_sources
from nascore.data.augmentation import augment, cutout
from nascore.data.batches import Split, Splits, load
from nascore.data.file_access import LocalFiles
from nascore.data.images import ImagesInMemory
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError

CPU = torch.device("cpu")
PLAIN = TrainingConfig(crop_padding=0, batch_size=16)
FULL = TrainingConfig(crop_padding=2, flip=True, cutout=3, batch_size=16)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator(9))


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> Splits:
    return load(digits_folder, CPU)


def small_split(digits: Splits, count: int) -> Split:
    """Image i is filled with i and has label i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 1, 4, 4)
    info = replace(digits.info, mean=(0.0,), std=(1 / 255,))  # normalising changes nothing
    return Split(ImagesInMemory(images.clone()), torch.arange(count), info=info, device=CPU)


# --- splits ---------------------------------------------------------------------------------


def test_splits_hold_their_own_images_normalised(digits_folder: Path, digits: Splits) -> None:
    images, labels = (np.load(digits_folder / name) for name in ("images.npy", "labels.npy"))
    with np.load(digits_folder / "splits.npz") as indices:
        for name in ("train", "valid", "test"):
            split = getattr(digits, name)
            found = list(split.eval_batches(100))
            x, y = torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])
            expected = (images[indices[name]] / 255 - digits.info.mean[0]) / digits.info.std[0]
            np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)
            assert y.tolist() == labels[indices[name]].tolist() == split.labels.tolist()
            assert split.num_images == len(y)


def test_pixels_are_those_at_the_places_in_their_order(digits: Splits) -> None:
    everything = torch.cat(list(digits.valid.pixel_batches(256)))
    assert torch.equal(digits.valid.pixels_at([5, 2, 9]), everything[[5, 2, 9]])


def test_training_split_has_mean_0_and_deviation_1(digits: Splits) -> None:
    x = torch.cat([x for x, _ in digits.train.eval_batches(64)])
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std(correction=0)) - 1) < 1e-5


@pytest.mark.parametrize(
    ("count", "sizes"), [(10, [4, 4, 2]), (9, [4, 4]), (8, [4, 4]), (3, [3]), (5, [4])]
)
def test_an_epoch_sees_each_image_once(digits: Splits, count: int, sizes: list[int]) -> None:
    """A single image that remains is left out: batch normalisation has no variance over it."""
    split = small_split(digits, count)
    config = TrainingConfig(crop_padding=0, batch_size=4)
    found = list(split.train_batches(config, generator()))
    assert [len(y) for _, y in found] == sizes
    assert split.steps_per_epoch(config) == len(sizes)
    labels = torch.cat([y for _, y in found]).tolist()
    assert len(set(labels)) == sum(sizes)
    for x, y in found:
        torch.testing.assert_close(x, y.view(-1, 1, 1, 1).expand_as(x).float())


def test_generator_decides_order_and_augmentation(digits: Splits) -> None:
    def epoch(seed: int) -> Tensor:
        return torch.cat([x for x, _ in digits.train.train_batches(FULL, generator(seed))])

    before = torch.get_rng_state()
    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))
    assert torch.equal(before, torch.get_rng_state())  # the global generator is not touched


def test_second_epoch_has_another_order(digits: Splits) -> None:
    stream = generator()
    first, second = (
        torch.cat([y for _, y in digits.train.train_batches(PLAIN, stream)]) for _ in range(2)
    )
    assert not torch.equal(first, second)


# --- augmentation ---------------------------------------------------------------------------


def test_crop_is_a_slice_of_the_image_padded_with_black() -> None:
    x = pixels(20, 3, 6, 6)
    config = TrainingConfig(crop_padding=2)
    result = augment(x, config, generator(3))
    dy, dx = torch.randint(0, 5, (2, 20), generator=generator(3)).tolist()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    for i in range(20):
        expected = padded[i, :, dy[i] : dy[i] + 6, dx[i] : dx[i] + 6]
        assert np.array_equal(result[i].numpy(), expected)
    assert result.dtype == torch.uint8


def test_every_offset_occurs_equally_often() -> None:
    x = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    x[:, 0, 1, 1] = 1
    result = augment(x, TrainingConfig(crop_padding=1), generator())
    counts = result.sum(0, dtype=torch.long).flatten()
    # 1000 expected each, deviation 30: a fair draw leaves 5 deviations once in 200,000 seeds.
    assert int((counts - 1000).abs().max()) < 150


def test_half_of_the_images_are_mirrored_whole() -> None:
    x = pixels(4000, 2, 3, 3)
    result = augment(x, TrainingConfig(crop_padding=0, flip=True), generator())
    is_same = (result == x).flatten(1).all(1)
    is_mirrored = (result == x.flip(3)).flatten(1).all(1)
    assert bool((is_same | is_mirrored).all())
    assert abs(float(is_mirrored.float().mean()) - 0.5) < 0.04  # 5 standard deviations


def test_augmentation_keeps_its_input_and_can_be_turned_off() -> None:
    x = pixels(8, 1, 5, 5)
    before = x.clone()
    assert not torch.equal(augment(x, FULL, generator()), before)
    assert torch.equal(x, before)
    assert torch.equal(augment(x, PLAIN, generator()), before)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_cutout_blanks_one_square_an_image(side: int) -> None:
    x = torch.ones(3000, 2, 8, 8)
    cutout(x, side, generator())
    hole = x[:, 0] == 0
    assert torch.equal(hole, x[:, 1] == 0)
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), heights * widths)  # a rectangle, in one piece
    # The centre is uniform over the image, so the square is cut off at the border.
    overlap = [sum(0 <= c - side // 2 + d < 8 for d in range(side)) for c in range(8)]
    assert sorted(set(heights.tolist())) == sorted(set(overlap))
    expected = (sum(overlap) / 8) ** 2
    assert abs(float(hole.sum() / 3000) - expected) < 0.05 * expected + 1e-9


def test_cutout_of_a_batch_is_the_mean(digits: Splits) -> None:
    config = TrainingConfig(crop_padding=0, cutout=8, batch_size=64)
    plain = digits.train.train_batches(PLAIN.model_copy(update={"batch_size": 64}), generator())
    for (x, _), (whole, _) in zip(
        digits.train.train_batches(config, generator()), plain, strict=True
    ):
        assert x.shape == whole.shape
        assert bool((x == 0).flatten(1).any(1).all())
        break


# --- streamed -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same coloured images, prepared in memory and streamed."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(40):
        path = root / f"{'käse' if number % 2 else 'brot'}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (150, 150, 3), dtype=np.uint8)).save(path)
    folders = []
    for name, limit in (("memory", 100), ("streamed", 1)):
        out = tmp_path_factory.mktemp("prepared") / name
        config = DataConfig(source=f"imagefolder:{root}", memory_limit_mb=limit, decoded_cache_mb=0)
        prepare(config, 0, out)
        folders.append(out)
    return folders[0], folders[1]


def collect(split: Split, config: TrainingConfig) -> tuple[Tensor, Tensor]:
    found = list(split.train_batches(config, generator(5)))
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streamed_batches_equal_those_in_memory(
    pair: tuple[Path, Path], num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sources, "stream_workers", lambda: num_workers)
    in_memory, streamed = (load(folder, CPU) for folder in pair)
    assert streamed.info.streamed
    config = FULL.model_copy(update={"batch_size": 7})
    for expected, found in zip(
        collect(in_memory.train, config), collect(streamed.train, config), strict=True
    ):
        assert torch.equal(expected, found)
    for name in ("valid", "test"):
        for (x, y), (x_streamed, y_streamed) in zip(
            getattr(in_memory, name).eval_batches(4),
            getattr(streamed, name).eval_batches(4),
            strict=True,
        ):
            assert torch.equal(x, x_streamed)
            assert torch.equal(y, y_streamed)


@pytest.mark.parametrize(
    ("free_mb", "processes"),
    [(64, 0), (2 * 38 * 3, 0), (2 * 38 * 4, 1), (2 * 38 * 10, 4), (9000, 8)],
)
def test_as_many_processes_decode_as_shared_memory_has_room_for(
    free_mb: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 38 MB: a process has two ready, the training uses two, others have half."""
    usage = shutil.disk_usage("/")._replace(free=free_mb * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert image_sources._num_that_fit(8, 38 * 10**6) == processes


def test_threads_decode_where_no_batch_fits_into_shared_memory(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_memory, streamed = (load(folder, CPU) for folder in pair)
    monkeypatch.setattr(image_sources, "stream_workers", lambda: 2)
    image_sources._warn_of_room.cache_clear()
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for _ in range(2):
        assert torch.equal(*(collect(one.train, PLAIN)[0] for one in (in_memory, streamed)))
    assert caplog.text.count("has no room for the batches of the 2 processes") == 1


def test_streaming_does_not_touch_the_global_generator(pair: tuple[Path, Path]) -> None:
    split = load(pair[1], CPU).train
    before = torch.get_rng_state()
    collect(split, FULL)
    assert torch.equal(before, torch.get_rng_state())


def test_streaming_may_end_early(pair: tuple[Path, Path]) -> None:
    stream = load(pair[1], CPU).train.train_batches(FULL, generator())
    x, _ = next(stream)
    assert x.shape == (16, 3, 150, 150)
    del stream


def test_file_that_vanished_is_named(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sources, "stream_workers", lambda: 0)
    split = load(pair[1], CPU).train
    names = split._images._names  # type: ignore[attr-defined]
    monkeypatch.setattr(names, "files", LocalFiles(tmp_path))
    with pytest.raises(InputError, match=r"\.png: .*No such file"):
        next(split.train_batches(PLAIN, generator()))


def test_small_cifar_batches(offline_data: Path, tmp_path: Path) -> None:
    source = f"npz:{offline_data / 'cifar10_small_rgb.npz'}"
    prepare(DataConfig(source=source), 0, tmp_path / "cifar")
    splits = load(tmp_path / "cifar", CPU)
    config = TrainingConfig(crop_padding=4, flip=True, cutout=8, batch_size=128)
    sizes = [x.shape for x, _ in splits.train.train_batches(config, generator())]
    assert sizes == [(128, 3, 32, 32)] * 13 + [(36, 3, 32, 32)]
    assert len(splits.test.labels) == 1000


def test_info_travels_with_the_splits(digits_folder: Path, digits: Splits) -> None:
    assert digits.info == DatasetInfo.load(digits_folder)


@pytest.mark.parametrize("config", [PLAIN, FULL], ids=["plain", "augmented"])
def test_an_epoch_that_starts_later_is_the_end_of_the_whole_one(
    digits: Splits, config: TrainingConfig
) -> None:
    whole = list(digits.train.train_batches(config, generator()))
    rest = list(digits.train.train_batches(config, generator(), start=3))
    assert len(rest) == len(whole) - 3
    for (x, y), (expected_x, expected_y) in zip(rest, whole[3:], strict=True):
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)


def test_a_random_batch_holds_different_images_and_repeats(digits: Splits) -> None:
    x, y = digits.valid.random_batch(20, generator(1))
    again, _ = digits.valid.random_batch(20, generator(1))
    assert torch.equal(x, again)
    assert x.shape == (20, 1, 8, 8)
    assert y.shape == (20,)
    assert len(digits.valid.random_batch(10**6, generator())[1]) == digits.valid.num_images
    other, _ = digits.valid.random_batch(20, generator(2))
    assert not torch.equal(x, other)
