"""Evaluation of a child of Auto-Meta: brief meta-training, then tasks of unseen classes.

All children of both arms are evaluated on the same tasks, so that their differences depend less on
which classes were drawn. The tasks are of training and validation classes; no sampler of test
classes is made.
"""

from torch import nn

from nascore.context import SearchContext, device_of
from nascore.data.class_splits import EpisodeShape
from nascore.data.episodes import EpisodeSampler, FewShotData
from nascore.meta_learning.options import EpisodeOptions, MetaOptions
from nascore.meta_learning.training import evaluate, meta_train
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.results import ChildScores
from nascore.threads import thread_limit
from nascore.training.child import ChildJob
from nascore.training.loop import has_few_pixels

_TRAIN_SHARE = 4  # one task of training classes for so many validation tasks, to see overfitting
_EVALUATION = 1286081773  # names the random stream; another number would change all results


def evaluation_shape(episode: EpisodeOptions, shots: int) -> EpisodeShape:
    """Return the size of the tasks on which a network is evaluated with some shots."""
    return EpisodeShape(episode.ways, shots, episode.queries)


def has_small_steps(context: SearchContext, episode: EpisodeOptions, meta: MetaOptions) -> bool:
    """Return whether one CPU thread makes an outer step as fast as all threads."""
    shape = episode.training_shape
    pixels = meta.tasks * shape.ways * shape.per_class * context.shape.size**2
    return has_few_pixels(pixels, device_of(context.training))


class FewShotTraining:
    """`nascore.training.child.ChildTraining` of few-shot networks: evaluated once, at the end.

    Attributes:
        train_tasks, valid_tasks: samplers; their `used` are the classes that were drawn.
    """

    def __init__(self, data: FewShotData, options: AutoMetaOptions) -> None:
        """
        Args:
            data: images and classes of all splits.
            options: settings of the method.

        Raises:
            InputError: the data has too few classes or images for these tasks.
        """
        self._options, episode = options, options.episode
        self.train_tasks = data.sampler("train", episode.training_shape)
        self._seen_tasks = data.sampler("train", episode.shape)
        self.valid_tasks = data.sampler("valid", episode.shape)

    def planned_steps(self, context: SearchContext) -> int:
        return self._options.meta.outer_steps

    def steps_per_epoch(self, context: SearchContext) -> int:
        return self._options.meta.outer_steps

    def uses_one_thread(self, context: SearchContext) -> bool:
        return has_small_steps(context, self._options.episode, self._options.meta)

    def train(self, context: SearchContext, job: ChildJob) -> ChildScores:
        network = job.build(context)
        with thread_limit(1 if self.uses_one_thread(context) else None):
            valid, train = self._accuracies(context, network, job)
        return ChildScores(
            valid_accuracy=valid,
            train_accuracy=train,
            num_params=sum(parameter.numel() for parameter in network.parameters()),
            cost=job.cost,
        )

    def _accuracies(
        self, context: SearchContext, network: nn.Module, job: ChildJob
    ) -> tuple[float, float]:
        """Return the mean accuracy on tasks of validation classes, and of training classes."""
        options, seeds = self._options, context.seeds
        device = device_of(context.training)
        trained = meta_train(
            network.to(device),
            self.train_tasks,
            options.episode,
            options.meta,
            generator=seeds.torch(job.arm, "tasks", job.number, device=device),
            should_stop=job.should_stop,
        )

        def accuracy(sampler: EpisodeSampler, split: str, num_tasks: int) -> float:
            accuracies_T = evaluate(
                trained,
                sampler,
                options.episode,
                options.meta,
                num_tasks=num_tasks,
                generator=seeds.torch(_EVALUATION, split, device=device),
                should_stop=job.should_stop,
            )
            return float(accuracies_T.double().mean())

        valid = accuracy(self.valid_tasks, "valid", options.valid_episodes)
        few = max(2, options.valid_episodes // _TRAIN_SHARE)
        return valid, accuracy(self._seen_tasks, "train", few)
