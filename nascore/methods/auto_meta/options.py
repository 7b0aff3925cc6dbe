"""Settings of Auto-Meta, whose networks learn from few examples. No torch here."""

from typing import Annotated, Any, Literal

from pydantic import Field

from nascore.config import Positive, Section
from nascore.data.class_splits import EpisodeShape, Need
from nascore.meta_learning.options import WAYS_KEY, FewShotOptions, MetaOptions


class ProgressiveOptions(Section):
    """Growth of cells; the largest number of blocks is `search.space.max_blocks`."""

    num_first_stage: Positive | None = None
    """Random cells of one block that are trained; null: all cells of one block."""
    top_k: Positive = 8
    """Cells that the predictor ranks first, trained in each later stage."""
    num_random: Annotated[int, Field(ge=0)] = 1
    """Random cells that are also trained in each later stage."""
    num_predictors: Positive = 5
    """Predictors whose mean ranks the cells; each leaves out a different part of the data."""


class FinalOptions(Section):
    """Final meta-training of the winner and of the baseline."""

    outer_steps: Positive = 2000
    """Updates of the shared weights."""


class Conv4Options(Section):
    """How the baseline, the network of MAML with four convolutions, learns a task.

    Networks differ in the rate that suits them; tasks and outer steps are those of the winner.
    """

    inner_lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate within a task; null: that of `meta`."""
    eval_inner_steps: Positive | None = None
    """Gradient steps within a task on which it is evaluated; null: those of `meta`."""


class AutoMetaOptions(FewShotOptions):
    """Settings of Auto-Meta (arXiv 1806.06927).

    A few-shot network has no epochs and no batches of images: of `search.child`, `train` and
    `training`, only `training.device` is read.
    """

    meta: MetaOptions = MetaOptions()
    """Meta-training of children, of the winner and of the baseline."""
    valid_episodes: Annotated[int, Field(ge=2)] = 100
    """Tasks of validation classes on which a child is evaluated."""
    progressive: ProgressiveOptions = ProgressiveOptions()
    cell: Literal["search", "published"] = "search"
    """`published` evaluates the cell that Auto-Meta found and proposes no other."""
    final: FinalOptions = FinalOptions()
    conv4_baseline: Conv4Options = Conv4Options()
    test_shots: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 5)
    """Numbers of labelled images of each class in test tasks: the final networks are tested on
    tasks with each of these numbers, and with that of `search.options.episode.shots`."""

    @property
    def final_meta(self) -> MetaOptions:
        """Final meta-training of the winner."""
        return self.meta.model_copy(update={"outer_steps": self.final.outer_steps})

    @property
    def conv4_meta(self) -> MetaOptions:
        """Final meta-training of the baseline."""
        return self.final_meta.model_copy(update=self.conv4_baseline.model_dump(exclude_none=True))

    @property
    def needs(self) -> tuple[Need, ...]:
        ways, queries = self.episode.ways, self.episode.queries
        own = (
            ("train", "episode.train_shots", self.episode.train_shots),
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
        """Training and evaluation of a child, for the identity of the study
        (`nascore.search.study_identity.evaluation_settings`)."""
        return self.model_dump(mode="json", include={"episode", "meta", "valid_episodes"})
