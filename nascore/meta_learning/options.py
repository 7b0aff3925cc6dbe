"""Settings of meta-learning: the tasks, and how a network learns from them."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.data.class_folders import EpisodeShape, Need
from nascore.methods.common.method_options import MethodOptions


class EpisodeOptions(Section):
    """A task that a few-shot network is given: a few classes with a few labelled images each."""

    ways: Annotated[int, Field(ge=2)] = 5
    """Classes of a task; each split of the data needs as many."""
    shots: Positive = 1
    """Images of each class to learn from."""
    queries: Positive = 5
    """Further images of each class by which it is judged."""


Learner = Literal["reptile", "fomaml", "maml"]


class MetaOptions(Section):
    """How a network is meta-trained, and how a task is learned with it.

    The defaults are those of Reptile's released code for mini-ImageNet but for the number of
    steps; MAML has SGD inside, at a higher rate, and Adam outside.
    """

    learner: Learner = "reptile"
    """Meta-learning algorithm."""
    outer_steps: Positive = 200
    """Updates of the shared weights; 100,000 in Reptile's release, 60,000 in MAML's."""
    tasks: Positive = 5
    """Of which one outer step takes the mean."""
    outer_optimiser: Literal["sgd", "adam"] = "sgd"
    """Plain descent is Reptile's: phi + lr * (mean of adapted weights - phi)."""
    outer_lr: Annotated[float, Field(gt=0)] = 1.0
    """Falls along a line to 0."""
    inner_optimiser: Literal["sgd", "adam"] = "adam"
    """Adam is without momentum."""
    inner_lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate with which a task is learned."""
    inner_steps: Positive = 8
    """On a training task."""
    last_layer: Literal["learned", "prototypes"] = "learned"
    """Where a task's last layer starts: from shared weights like all others, or from the mean
    features of each class of the task (Proto-MAML, arXiv 1903.03096), which takes far fewer outer
    steps. `maml` and `fomaml` alone: Reptile has no queries that would tell what becomes of it."""
    inner_batch: Positive | None = None
    """Images of a step on a training task; the whole support set when not given. Reptile alone."""
    train_shots: Positive | None = None
    """Images of each class to learn from while it is trained; `episode.shots` when not given. More
    of them is how Reptile, which has no queries, learns to do with fewer."""
    turned: bool = False
    """Turn each class of a training task by 0, 90, 180 or 270 degrees, all its images alike: four
    times as many classes, where a turned one is another one, as for characters (MAML, Omniglot)."""
    judge_steps: Positive | None = None
    """On a task by which it is judged; as in training when not given."""
    transductive: bool = False
    """Judge all query images of a task as one batch, so that each tells something of the others by
    the batch norms; accuracies of the two cannot be compared."""

    @model_validator(mode="after")
    def _batches_are_reptiles(self) -> Self:
        if self.inner_batch is not None and self.learner != "reptile":
            raise ValueError(
                f"inner_batch is for reptile only, got {self.inner_batch} with {self.learner}; "
                "leave it out, or use reptile"
            )
        return self

    @model_validator(mode="after")
    def _prototypes_need_queries(self) -> Self:
        if self.last_layer == "prototypes" and self.learner == "reptile":
            raise ValueError(
                "last_layer = prototypes is for maml and fomaml, got reptile, which has no query "
                "images; use fomaml, or set last_layer to learned"
            )
        return self


WAYS_KEY = "search.options.episode.ways"


class FewShotOptions(MethodOptions):
    """What the options of every method with `Method.few_shot` offer."""

    episode: EpisodeOptions = EpisodeOptions()

    def num_classes(self, classes: Sequence[str]) -> int:
        """Return the ways of a task, whatever classes the data has."""
        return self.episode.ways

    @property
    def needs(self) -> tuple[Need, ...]:
        """The largest tasks that are drawn of each split; the data is checked for them."""
        images = "search.options.episode.shots + queries"
        return (Need(self.shape, ways=WAYS_KEY, images=images),)

    @property
    def shape(self) -> EpisodeShape:
        """Of the tasks by which networks are compared."""
        return EpisodeShape(self.episode.ways, self.episode.shots, self.episode.queries)
