"""Settings of Auto-Meta, whose networks learn from few examples. No torch here."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.data.classes import EpisodeShape, Need
from nascore.methods.options.method_options import MethodOptions


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


class ProgressiveOptions(Section):
    """How the search grows cells; how many blocks there may be is `search.space.max_blocks`."""

    first: Positive | None = None
    """Cells of one block that are trained, at random; all when not given."""
    top: Positive = 8
    """K: of every later stage, the cells that the predictor ranks first."""
    quota: Annotated[int, Field(ge=0)] = 1
    """Beside them, cells at random."""
    ensemble: Positive = 5
    """Predictors whose mean ranks the cells; each leaves out another part of the data."""


_WAYS = "search.options.episode.ways"


class FewShotOptions(MethodOptions):
    """What the options of every method with `Method.few_shot` offer."""

    episode: EpisodeOptions = EpisodeOptions()

    @property
    def num_classes(self) -> int:
        """Of a network's answer, whatever classes the data has."""
        return self.episode.ways

    @property
    def needs(self) -> tuple[Need, ...]:
        """The largest tasks that are drawn of each split; the data is checked for them."""
        images = "search.options.episode.shots + queries"
        return (Need(self.shape, ways=_WAYS, images=images),)

    @property
    def shape(self) -> EpisodeShape:
        """Of the tasks by which networks are compared."""
        return EpisodeShape(self.episode.ways, self.episode.shots, self.episode.queries)


class AutoMetaOptions(FewShotOptions):
    """Auto-Meta (arXiv 1806.06927): progressive search for networks that learn from few examples.

    A few-shot network has no epochs and no batches of images: of `search.child` and `train`, only
    `device` is read. A child is trained by `meta`, the winner by `final`.
    """

    meta: MetaOptions = MetaOptions()
    """The brief meta-training of a child."""
    valid_episodes: Annotated[int, Field(ge=2)] = 100
    """Tasks of validation classes by which a child is judged."""
    progressive: ProgressiveOptions = ProgressiveOptions()
    cell: Literal["search", "published"] = "search"
    """`published` judges the cell that Auto-Meta found, and proposes no other."""
    tasks_at_once: Literal["measure", "vmap", "loop", "channels_last", "plain"] = "measure"
    """All tasks of a step at once, or one after the other, these with images as they are or with
    their channels last in memory, or `plain`, so and without `torch.func`: what is fastest depends
    on sizes and on the machine. Measured once before the search, which is the same whoever goes on
    with it."""
    final: MetaOptions = MetaOptions(outer_steps=2000)
    """The full meta-training of the winner, and of the four-convolution network beside it."""
    four_convolutions: MetaOptions | None = None
    """That of the four-convolution network, where tasks suit it at another rate or in more steps;
    as `final` when not given. Training tasks and their number must be the same."""
    test_shots: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 5)
    """Images of each class with which the trained network is tested, one after the other."""
    test_episodes: Annotated[int, Field(ge=600)] = 600
    """Tasks of test classes for each of them."""

    @model_validator(mode="after")
    def _second_order_is_not_plain(self) -> Self:
        if self.tasks_at_once == "plain" and self.meta.learner == "maml":
            raise ValueError(
                "tasks_at_once = plain is of first order, and meta.learner = maml of second; "
                "set the first to measure, or the second to fomaml"
            )
        return self

    @model_validator(mode="after")
    def _control_sees_the_same(self) -> Self:
        for name in ("outer_steps", "tasks", "train_shots", "turned", "transductive"):
            own, other = getattr(self.final, name), getattr(self.control, name)
            if own != other:
                raise ValueError(
                    f"four_convolutions.{name} = {other}: must be that of final, which is {own}; "
                    "networks are compared by the same tasks"
                )
        return self

    @property
    def control(self) -> MetaOptions:
        """The meta-training of the four-convolution network."""
        return self.final if self.four_convolutions is None else self.four_convolutions

    @property
    def needs(self) -> tuple[Need, ...]:
        ways, queries = self.episode.ways, self.episode.queries
        own = (
            ("train", "meta.train_shots", self.meta.train_shots),
            ("train", "final.train_shots", self.final.train_shots),
            ("test", "test_shots", max(self.test_shots)),
        )
        more = (
            Need(
                EpisodeShape(ways, shots, queries),
                (split,),
                ways=_WAYS,
                images=f"search.options.{name} + episode.queries",
            )
            for split, name, shots in own
            if shots is not None and shots > self.episode.shots
        )
        return (*super().needs, *more)

    @property
    def judging(self) -> dict[str, Any]:
        """How a child is trained and judged, a control's too (`nascore.identity.judging_of`)."""
        return self.model_dump(mode="json", include={"episode", "meta", "valid_episodes"})
