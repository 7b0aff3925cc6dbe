"""Settings of Auto-Meta, whose networks learn from few examples. No torch here."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.data.class_folders import EpisodeShape, Need
from nascore.meta_learning.options import WAYS_KEY, FewShotOptions, MetaOptions


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


class AutoMetaOptions(FewShotOptions):
    """Auto-Meta (arXiv 1806.06927): progressive search for networks that learn from few examples.

    A few-shot network has no epochs and no batches of images: of `search.child`, `train` and
    `training`, only `training.device` is read. A child is trained by `meta`, the winner by `final`.
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
                ways=WAYS_KEY,
                images=f"search.options.{name} + episode.queries",
            )
            for split, name, shots in own
            if shots is not None and shots > self.episode.shots
        )
        return (*super().needs, *more)

    @property
    def evaluation_settings(self) -> dict[str, Any]:
        """How a child is trained and judged, a control's too
        (`nascore.search.study_identity.evaluation_settings`)."""
        return self.model_dump(mode="json", include={"episode", "meta", "valid_episodes"})
