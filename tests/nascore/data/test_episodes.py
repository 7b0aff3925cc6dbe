"""Few-shot tasks: what is in them, which classes they come from, and what is refused."""

import numpy as np
import pytest
import torch
from few_shot_data import few_shot_data

from nascore.data.class_splits import ClassSplits, EpisodeShape, split_classes
from nascore.data.episodes import FewShotData
from nascore.errors import InputError

SPLITS = ClassSplits(train=(0, 1, 2, 3), valid=(4, 5, 6), test=(7, 8, 9))
SHAPE = EpisodeShape(ways=3, shots=2, queries=4)


def make_data(*, per_class: int = 8, splits: ClassSplits = SPLITS) -> FewShotData:
    """Every image is constant and says its class and its number: 20 * class + number."""
    labels = np.repeat(np.arange(10), per_class)
    values = 20 * labels + np.tile(np.arange(per_class), 10)
    images = np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (len(values), 1, 4, 4))
    return few_shot_data(np.ascontiguousarray(images), labels, splits)


def pixels(data: FewShotData, x: torch.Tensor) -> np.ndarray:
    """The value of each constant image, before it was normalised."""
    raw = (x * data._std + data._mean) * 255
    return raw[..., 0, 0, 0].round().long().numpy()


def test_a_task_has_its_classes_and_no_image_twice() -> None:
    data = make_data()
    drawn = data.sampler("valid", SHAPE).draw(50, torch.Generator().manual_seed(0))
    assert drawn.support_x.shape == (50, 6, 1, 4, 4)
    assert drawn.query_x.shape == (50, 12, 1, 4, 4)
    assert drawn.support_y.tolist() == [[0, 0, 1, 1, 2, 2]] * 50
    assert drawn.query_y.tolist() == [[0] * 4 + [1] * 4 + [2] * 4] * 50
    for x, y in ((drawn.support_x, drawn.support_y), (drawn.query_x, drawn.query_y)):
        np.testing.assert_array_equal(pixels(data, x) // 20, drawn.classes.gather(1, y).numpy())
    everything = np.concatenate([pixels(data, drawn.support_x), pixels(data, drawn.query_x)], 1)
    assert all(len(set(task)) == 18 for task in everything.tolist())
    assert len(set(everything.flatten().tolist())) == 24, "every image of the split comes up"
    assert len({tuple(task) for task in drawn.classes.tolist()}) == 6, "in every order"


def test_classes_with_different_numbers_of_images_are_drawn_from_their_own() -> None:
    labels = np.repeat([0, 1, 2], [3, 5, 20])
    images = (60 * labels)[:, None, None, None].astype(np.uint8) * np.ones((1, 1, 2, 2), np.uint8)
    images = np.concatenate([images, images, images])
    labels = np.concatenate([labels, labels + 3, labels + 6])
    data = few_shot_data(images, labels, ClassSplits((0, 1, 2), (3, 4, 5), (6, 7, 8)))
    drawn = data.sampler("train", EpisodeShape(3, 1, 2)).draw(40, torch.Generator().manual_seed(1))
    found = pixels(data, drawn.query_x) // 60
    np.testing.assert_array_equal(found, drawn.classes.gather(1, drawn.query_y).numpy())


def test_draws_follow_the_generator() -> None:
    sampler = make_data().sampler("train", SHAPE)
    first, again, other = (
        sampler.draw(4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.query_x, again.query_x)
    assert not torch.equal(first.query_x, other.query_x)


def test_samplers_log_the_classes_that_they_used() -> None:
    data = make_data()
    train, valid = data.sampler("train", SHAPE), data.sampler("valid", SHAPE)
    assert train.used == set()
    for sampler in (train, valid):
        sampler.draw(30, torch.Generator().manual_seed(0))
    assert train.used == set(SPLITS.train)
    assert valid.used == set(SPLITS.valid)
    assert not (train.used | valid.used) & set(SPLITS.test)


def test_images_are_normalised_by_the_training_classes() -> None:
    data = make_data()
    drawn = data.sampler("train", EpisodeShape(4, 4, 4)).draw(1, torch.Generator())
    every = torch.cat([drawn.support_x, drawn.query_x], dim=1)
    assert abs(float(every.mean())) < 1e-5
    assert abs(float(every.std(correction=0)) - 1) < 1e-5


def test_groups_are_never_cut() -> None:
    groups = np.repeat(["a", "b", "c", "d", "e", "f"], [3, 4, 5, 6, 7, 8]).tolist()
    seen = set()
    for seed in range(20):
        splits = split_classes(groups, valid_fraction=0.2, test_fraction=0.3, seed=seed)
        parts = [
            {groups[label] for label in part} for part in (splits.train, splits.valid, splits.test)
        ]
        assert [len(part) for part in parts] == [3, 1, 2]
        assert set().union(*parts) == set("abcdef")
        assert sum(map(len, parts)) == 6
        seen.add(splits)
    assert len(seen) > 5
    again = split_classes(groups, valid_fraction=0.2, test_fraction=0.3, seed=19)
    assert again == splits


def test_digits_are_cut_four_three_three() -> None:
    splits = split_classes(range(10), valid_fraction=0.3, test_fraction=0.3, seed=0)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [4, 3, 3]


def test_every_problem_is_reported_at_once() -> None:
    data = make_data(per_class=5)
    with pytest.raises(InputError) as caught:
        data.sampler("test", EpisodeShape(ways=5, shots=2, queries=4))
    assert [problem.key for problem in caught.value.problems] == [
        "episode.ways",
        "episode.shots + queries",
    ]
    assert "only 3 test classes" in str(caught.value)
    assert "3 of 3 test classes have fewer images, one of them 5" in str(caught.value)
    with pytest.raises(InputError) as caught:
        EpisodeShape(ways=1, shots=0, queries=0)
    assert len(caught.value.problems) == 3


def test_wrong_splits_are_refused() -> None:
    with pytest.raises(InputError, match="classes of train and test = 2: 1 in both"):
        ClassSplits((0, 1, 2), (3,), (2, 4))
    with pytest.raises(InputError, match="groups of classes = 2"):
        split_classes(["a", "a", "b"], valid_fraction=0.3, test_fraction=0.3, seed=0)
