"""A few-shot network as a product: it learns from a support set, or says what is wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nascore.data.prepared import DatasetInfo
from nascore.errors import CheckpointError, InputError
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.meta_learning.few_shot_model import adapt as adapt_product
from nascore.meta_learning.learners import Inner, adapt, predict, stateless
from nascore.meta_learning.task_adaptation import Adapter, TaskSettings, UnfitTask
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.training.final_model import DeployedModel, FinalModel

SPACE = make_space(FewShotCellSpaceConfig(max_blocks=2, search_channels=4, final_channels=4))
SHAPE = ImageShape(1, 8, 3)
GENOTYPE = make_genotype(SPACE, [1, 0, 0, 1, 3, 2, 1, 1, 0])
INNER = Inner("sgd", 0.1, 3)
Y = np.array([0, 1, 2, 0, 1, 2])


def make_learner(*, transductive: bool = False, inner: Inner = INNER) -> FewShotLearner:
    torch.manual_seed(0)
    settings = TaskSettings(3, (1, 8, 8), inner, transductive)
    return FewShotLearner(SPACE.build(GENOTYPE, SHAPE, "final"), settings).eval()


def pixels(number: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (number, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def info(digits_folder: Path) -> DatasetInfo:
    return DatasetInfo.load(digits_folder)


@pytest.fixture
def adapter(info: DatasetInfo) -> Adapter:
    return DeployedModel(make_learner(), info).adapter()


@pytest.mark.parametrize("transductive", [True, False])
@pytest.mark.parametrize(
    "inner", [INNER, Inner("adam", 1e-2, 4), Inner("sgd", 0.1, 2, prototypes=True)]
)
def test_it_answers_what_training_judged_by(
    info: DatasetInfo, transductive: bool, inner: Inner
) -> None:
    learner = make_learner(transductive=transductive, inner=inner)
    predictor = DeployedModel(learner, info)
    forward, parameters = stateless(learner.network)
    x, query = (
        torch.from_numpy(part) * predictor.scale_C11 + predictor.shift_C11
        for part in (pixels(6), pixels(70, 1))
    )
    adapted = adapt(forward, parameters, x, torch.from_numpy(Y), inner=inner)
    logits = predict(forward, adapted, x, query, transductive=transductive)
    answer = predictor.adapter().adapt(pixels(6), Y)(pixels(70, 1))
    np.testing.assert_allclose(answer.probabilities, logits.softmax(1).detach(), atol=1e-5)
    assert answer.labels.tolist() == logits.argmax(1).tolist()
    assert answer.labels.dtype == np.int64


def test_nothing_is_kept_between_tasks_and_weights_stay(adapter: Adapter) -> None:
    before = {name: p.clone() for name, p in adapter._parameters.items()}
    first = adapter.adapt(pixels(6), Y)
    wanted = first(pixels(5, 1))
    adapter.adapt(pixels(6, 3), Y[::-1])
    again = adapter.adapt(pixels(6), Y)(pixels(5, 1))
    np.testing.assert_array_equal(wanted.probabilities, again.probabilities)
    np.testing.assert_array_equal(first(pixels(5, 1)).probabilities, wanted.probabilities)
    assert all(torch.equal(before[name], p) for name, p in adapter._parameters.items())


def test_it_learns(adapter: Adapter) -> None:
    """Classes that differ in brightness: told apart after adaptation, also in other images."""
    rng = np.random.default_rng(0)
    y, query_y = np.arange(3).repeat(4), np.arange(3).repeat(10)
    make: Callable[[Any], NDArray[np.float32]] = lambda labels: (  # noqa: E731
        rng.normal(40, 5, (len(labels), 1, 8, 8)) + 90 * labels[:, None, None, None]
    ).astype(np.float32)
    adapter.settings = TaskSettings(3, (1, 8, 8), Inner("adam", 1e-2, 30))
    assert (adapter.adapt(make(y), y)(make(query_y)).labels == query_y).mean() > 0.9


def test_bytes_and_other_whole_numbers_are_taken(adapter: Adapter) -> None:
    wanted = adapter.adapt(pixels(6), Y)(pixels(4, 1))
    given = adapter.adapt(pixels(6).astype(np.uint8), Y.astype(np.int32))
    answer = given(pixels(4, 1).astype(np.uint8))
    np.testing.assert_array_equal(answer.probabilities, wanted.probabilities)
    uneven = adapter.adapt(pixels(6), np.array([0, 0, 0, 1, 1, 2]))
    assert len(uneven(pixels(1)).labels) == 1


# --- what is refused ------------------------------------------------------------------------


def nan(number: int) -> NDArray[np.float32]:
    x = pixels(number)
    x[2, 0, 3, 3] = np.nan
    return x


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (pixels(6)[:, :, :7], Y, ["support_x = (6, 1, 7, 8): must have shape (N, 1, 8, 8)"]),
        (pixels(6)[:, 0], Y, ["support_x = (6, 8, 8): must have shape"]),
        (nan(6), Y, ["support_x = 1 pixels: has NaN or infinite"]),
        (pixels(6).astype(np.float64), Y, ["support_x = float64: must be uint8 or float32"]),
        (pixels(6).astype(object), Y, ["support_x = object: must be uint8 or float32"]),
        (pixels(6), Y[:5], ["support_y = shape (5,): must have one label for each image"]),
        (pixels(6), Y[:, None], ["support_y = shape (6, 1): must have one label"]),
        (pixels(6), Y.astype(float), ["support_y = float64: must be whole numbers 0..2"]),
        (pixels(6), Y + 1, ["support_y = 3: this network has 3 classes", "without 0: no image"]),
        (pixels(6), Y.clip(0, 1), ["support_y = without 2: no image has this label; each of 3"]),
        (pixels(6), np.array([-1, 0, 1, 2, 7, 7]), ["support_y = -1, 7: this network"]),
        (pixels(0), Y[:0], ["at least one image", "support_y = without 0, 1, 2"]),
        (nan(6)[:, :, :, :5], Y * 4, ["support_x = (6, 1, 8, 5)", "NaN", "= 4, 8", "without 1, 2"]),
    ],
)
def test_a_support_set_that_does_not_do(
    adapter: Adapter, x: NDArray[Any], y: NDArray[Any], told: list[str]
) -> None:
    with pytest.raises(UnfitTask) as caught:
        adapter.adapt(x, y)
    assert len(caught.value.faults) == len(told)
    for fault, part in zip(caught.value.faults, told, strict=True):
        assert part in str(fault)
    with pytest.raises(InputError) as also:
        adapt_product(adapter, x, y)
    assert str(also.value) == str(caught.value)


def test_queries_that_do_not_do(adapter: Adapter) -> None:
    answer = adapt_product(adapter, pixels(6), Y)
    assert answer(pixels(2)).labels.shape == (2,)
    for query in (pixels(2)[:, :, 1:], nan(4), pixels(2).astype(np.int64), pixels(0)):
        with pytest.raises(InputError, match="query_x"):
            answer(query)


# --- kept -----------------------------------------------------------------------------------


def final_of(learner: FewShotLearner) -> FinalModel:
    return FinalModel(GENOTYPE, SHAPE, learner, 0.9, 0.8, 0.7, 1, 1, 1, 1.0)


def test_it_is_read_back_as_it_was(tmp_path: Path, info: DatasetInfo) -> None:
    learner = make_learner(transductive=True, inner=Inner("adam", 0.02, 2))
    final_of(learner).save(tmp_path)
    again = FinalModel.load(tmp_path, SPACE).network
    assert isinstance(again, FewShotLearner)
    assert again.settings == learner.settings
    answers = [
        DeployedModel(one, info).adapter().adapt(pixels(6), Y)(pixels(9, 1))
        for one in (learner, again)
    ]
    np.testing.assert_array_equal(answers[0].probabilities, answers[1].probabilities)


def test_it_is_made_of_meta_trained_weights() -> None:
    learner = make_learner()
    _, parameters = stateless(learner.network)
    moved = {name: p + 1 for name, p in parameters.items()}
    made = FewShotLearner.of(SPACE.build(GENOTYPE, SHAPE, "final"), moved, learner.settings)
    assert all(torch.equal(p, moved[name]) for name, p in made.network.named_parameters())


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    final_of(make_learner()).save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"few-shot"', '"other"'))
    with pytest.raises(CheckpointError, match="of the kind 'other'"):
        FinalModel.load(tmp_path, SPACE)
