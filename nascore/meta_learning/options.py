"""Settings of meta-learning: the tasks, and how a network learns from them. No torch here."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.data.class_splits import EpisodeShape, Need
from nascore.methods.common.method_options import MethodOptions


class EpisodeOptions(Section):
    """A few-shot task: a few classes with a few labelled images of each."""

    ways: Annotated[int, Field(ge=2)] = 5
    """Number of classes of a task, the N of N-way classification; each split of the data needs at
    least as many classes."""
    shots: Positive = 1
    """Labelled images of each class from which a network learns a task (its support set), the K of
    K-shot classification."""
    queries: Positive = 5
    """Further images of each class, which the network has to classify."""
    train_shots: Positive | None = None
    """Labelled images of each class in training tasks; null: `shots`. More of them is how Reptile,
    which has no queries, learns to need fewer."""
    rotate_classes: bool = False
    """Rotate each class of a training task by 0, 90, 180 or 270 degrees: four times as many
    classes, for images such as characters whose rotation is another class (MAML, Omniglot)."""
    transductive: bool = False
    """Classify all queries of a task as one batch, whose statistics the batch norms then use;
    accuracies with and without it cannot be compared."""

    @property
    def shape(self) -> EpisodeShape:
        """Size of the tasks on which networks are evaluated."""
        return EpisodeShape(self.ways, self.shots, self.queries)

    @property
    def training_shape(self) -> EpisodeShape:
        """Size of the tasks on which networks are trained."""
        return EpisodeShape(self.ways, self.train_shots or self.shots, self.queries)


Algorithm = Literal["reptile", "fomaml", "maml"]


class MetaOptions(Section):
    """Meta-training of a network, and how it learns a task.

    Optimisers are those of the papers: Reptile learns a task by Adam without momentum and moves the
    shared weights by plain descent, `maml` and `fomaml` learn a task by SGD and move the shared
    weights by Adam.
    """

    learner: Algorithm = "reptile"
    """Meta-learning algorithm."""
    outer_steps: Positive = 200
    """Updates of the shared weights of a child; 100,000 in Reptile's release, 60,000 in MAML's."""
    tasks: Positive = 5
    """Tasks in one update of the shared weights."""
    outer_lr: Annotated[float, Field(gt=0)] | None = None
    """Initial rate of the updates of the shared weights, which falls linearly to 0; null: 1.0 for
    `reptile`, 0.001 for `maml` and `fomaml`."""
    inner_lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate within a task; null: 0.001 for `reptile`, 0.01 for `maml` and `fomaml`."""
    inner_steps: Positive = 8
    """Gradient steps within a training task."""
    eval_inner_steps: Positive | None = None
    """Gradient steps within a task on which the network is evaluated; null: `inner_steps`."""
    last_layer: Literal["learned", "prototypes"] = "learned"
    """Initial last layer of a task: shared weights, or the mean features of each class of the task
    (Proto-MAML, arXiv 1903.03096), which takes far fewer outer steps. `prototypes` needs queries,
    and so `maml` or `fomaml`."""

    @model_validator(mode="after")
    def _prototypes_need_queries(self) -> Self:
        if self.last_layer == "prototypes" and self.learner == "reptile":
            raise ValueError(
                "last_layer = prototypes is for maml and fomaml, got reptile, which has no query "
                "images; use fomaml, or set last_layer to learned"
            )
        return self


WAYS_KEY = "search.options.episode.ways"
BASELINE = "conv4_baseline"
"""Key of the baseline (`nascore.meta_learning.conv4`) in details, latencies and metrics."""


class FewShotOptions(MethodOptions):
    """Options that each method with `Method.few_shot` has."""

    episode: EpisodeOptions = EpisodeOptions()

    def num_classes(self, classes: Sequence[str]) -> int:
        """Return the ways of a task, whatever classes the data has."""
        return self.episode.ways

    @property
    def needs(self) -> tuple[Need, ...]:
        """Largest tasks that are drawn from each split, for the check of the data."""
        images = "search.options.episode.shots + queries"
        return (Need(self.episode.shape, ways=WAYS_KEY, images=images),)
