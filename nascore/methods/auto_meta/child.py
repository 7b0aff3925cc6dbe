"""How a child of Auto-Meta is judged: brief meta-training, then tasks of classes never seen.

All children are judged by the same tasks, those of the control too: what they differ by is then
less a matter of which classes were drawn. The tasks come from the training and the validation
classes; test classes are never asked for.
"""

from collections.abc import Callable

from torch import nn

from nascore.context import SearchContext, device_of
from nascore.data.class_folders import EpisodeShape
from nascore.data.episodes import EpisodeSampler, FewShotData
from nascore.meta_learning.engine import TaskEngine
from nascore.meta_learning.options import EpisodeOptions, MetaOptions
from nascore.meta_learning.training import judge, meta_train
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.results import ChildScores
from nascore.training.child import ChildJob
from nascore.training.loop import has_few_pixels
from nascore.training.threads import threads_of

_TRAIN_SHARE = 4  # of validation tasks one is drawn of training classes, to see what is overfitted


def training_shape(episode: EpisodeOptions, meta: MetaOptions) -> EpisodeShape:
    """Of the tasks by which a network is meta-trained."""
    return EpisodeShape(episode.ways, meta.train_shots or episode.shots, episode.queries)


def judging_shape(episode: EpisodeOptions, *, shots: int | None = None) -> EpisodeShape:
    """Of the tasks by which it is judged; `shots` instead of those of the episode."""
    return EpisodeShape(episode.ways, shots or episode.shots, episode.queries)


def has_small_steps(context: SearchContext, episode: EpisodeOptions, meta: MetaOptions) -> bool:
    """Whether one CPU thread makes an outer step as fast as all."""
    shape = training_shape(episode, meta)
    pixels = meta.tasks * shape.ways * shape.per_class * context.shape.size**2
    return has_few_pixels(pixels, device_of(context.training))


class FewShotTraining:
    """`nascore.training.child.ChildTraining` for few-shot networks: no epochs, and judged once.

    Attributes:
        train_tasks, valid_tasks: what is trained on and judged by; their `used` are the classes
            that were ever seen.
    """

    def __init__(
        self, data: FewShotData, options: AutoMetaOptions, *, make_engine: Callable[[], TaskEngine]
    ) -> None:
        """
        Args:
            make_engine: for each child a new one that runs tasks in the same way: a search that is
                gone on with must compute what it would have computed.

        Raises:
            InputError: the data has too few classes or images for these tasks.
        """
        self._options, self._make_engine = options, make_engine
        self.train_tasks = data.sampler("train", training_shape(options.episode, options.meta))
        self._seen_tasks = data.sampler("train", judging_shape(options.episode))
        self.valid_tasks = data.sampler("valid", judging_shape(options.episode))

    def planned_steps(self, context: SearchContext) -> int:
        return self._options.meta.outer_steps

    def steps_per_epoch(self, context: SearchContext) -> int:
        return self._options.meta.outer_steps

    def uses_one_thread(self, context: SearchContext) -> bool:
        return has_small_steps(context, self._options.episode, self._options.meta)

    def train(self, context: SearchContext, job: ChildJob) -> ChildScores:
        network = job.build(context)
        with threads_of(one=self.uses_one_thread(context)):
            valid, train = self._accuracies(context, network, job)
        return ChildScores(
            valid_accuracy=valid,
            train_accuracy=train,
            num_params=sum(parameter.numel() for parameter in network.parameters()),
            cost=job.cost,
        )

    def _accuracies(
        self,
        context: SearchContext,
        network: nn.Module,
        job: ChildJob,
    ) -> tuple[float, float]:
        """Mean accuracy on tasks of validation classes, and on tasks of training classes."""
        options, seeds, engine = self._options, context.seeds, self._make_engine()
        device = device_of(context.training)
        trained = meta_train(
            network.to(device),
            self.train_tasks,
            options.meta,
            generator=seeds.torch(job.arm, "tasks", job.number, device=device),
            engine=engine,
            should_stop=job.should_stop,
        )

        def accuracy(sampler: EpisodeSampler, split: str, num_tasks: int) -> float:
            accuracies_T = judge(
                trained,
                sampler,
                options.meta,
                num_tasks=num_tasks,
                generator=seeds.torch("judging", split, device=device),
                engine=engine,
                should_stop=job.should_stop,
            )
            return float(accuracies_T.double().mean())

        valid = accuracy(self.valid_tasks, "valid", options.valid_episodes)
        few = max(2, options.valid_episodes // _TRAIN_SHARE)
        return valid, accuracy(self._seen_tasks, "train", few)
