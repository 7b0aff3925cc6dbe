"""Training of one network on one split, and its evaluation on another.

Without any switch of `TrainingConfig` it is SGD with Nesterov momentum, weight decay on kernels
only, and one cosine cycle of the learning rate (Loshchilov & Hutter 2017), as NASES trains its
children and its final network (arXiv 1909.03615, released code). Batches are whole tensors on the
device, so the loop only computes forward, backward and update (`nascore.training.updates`).
"""

import contextlib
from collections.abc import Callable

import torch
from torch import nn

from nascore.config import Objective, TrainingConfig
from nascore.data.batches import BatchSize, Split
from nascore.errors import ChildFailedError
from nascore.threads import thread_limit
from nascore.training.data_parallel import agreed_epoch, agreed_stop, whole_batch_norms
from nascore.training.fine_tuning import FineTuning
from nascore.training.losses import Loss, loss_of
from nascore.training.measurements import Training
from nascore.training.resumable import TrainingCheckpoint
from nascore.training.run import OnEpoch, Run, TrainingStopped

__all__ = ["OnEpoch", "Training", "TrainingStopped", "train"]

_SMALL_BATCH = 2**17  # pixels; below it a second CPU thread costs more than it saves


def train(
    network: nn.Module,
    split: Split,
    config: TrainingConfig,
    *,
    generator: torch.Generator,
    valid: Split | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: Callable[[], bool] | None = None,
    objective: Objective = "accuracy",
    loss: Loss | None = None,
    seconds: float | None = None,
    checkpoint: TrainingCheckpoint | None = None,
    on_message: Callable[[str], None] | None = None,
    fine_tuning: FineTuning | None = None,
) -> Training:
    """Train `network` in place on `split` for `config.epochs` epochs, or for `seconds`.

    With `seconds`, the time of a step is measured on steps that are undone before the training.
    The training then has as many steps as end within that time, and its whole schedule in them: it
    is the training with `max_steps` set to the returned `num_steps`, unless the machine becomes so
    much slower that the rest of the schedule is shortened (reported in `Training.messages`).

    Args:
        network: on the device of the split; (B, C, H, W) -> logits (B, num_classes).
        split: images that are trained on.
        config: all settings of the training.
        generator: order of the images and augmentation; nothing else in here is random.
        valid: evaluated after every epoch.
        on_epoch: called with the 0-based epoch and the validation score in the objective.
        should_stop: polled before every weight update.
        objective: of the scores; it does not change the training.
        loss: of a batch; by default `loss_of` of the settings, without a teacher.
        seconds: wall time instead of `epochs` and `max_steps`, evaluations included.
        checkpoint: written at intervals and before a stop; the training continues from it.
        on_message: receives sentences for the user, such as that it goes on in single precision.
        fine_tuning: rates and freezing of layers that start from trained weights.

    Raises:
        ChildFailedError: the loss is not finite, or the network does not fit in memory.
        TrainingStopped: `should_stop` returned true.
        InputError: a setting does not suit the network or the device, or the checkpoint is of
            another training.
    """
    on_epoch, should_stop = agreed_epoch(on_epoch), agreed_stop(should_stop)
    with fitting_threads(split, config), whole_batch_norms(network):
        run = Run(
            network,
            split,
            config,
            loss=loss_of(config, split.class_weights_K) if loss is None else loss,
            generator=generator,
            valid=valid,
            objective=objective,
            on_message=on_message,
            checkpoint=checkpoint,
            fine_tuning=fine_tuning,
        )
        try:
            run.begin(planned_steps(split, config), seconds)
            run.all_epochs(on_epoch, should_stop)
            return run.finish()
        except (RuntimeError, MemoryError) as error:
            raise_if_out_of_memory(error, run.step)
            raise


def raise_if_out_of_memory(error: RuntimeError | MemoryError, num_steps: int) -> None:
    """Raise ChildFailedError when the network does not fit in memory."""
    # The CPU allocator reports a failure as a plain RuntimeError.
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if known or "allocate memory" in str(error):
        raise ChildFailedError(f"does not fit in memory: {error}", num_steps=num_steps) from error


def planned_steps(split: Split, config: TrainingConfig) -> int:
    """Return the weight updates of a training: its epochs, or `max_steps` when that is less."""
    steps = config.epochs * split.steps_per_epoch(config)
    return steps if config.max_steps is None else min(steps, config.max_steps)


def uses_one_thread(split: Split, config: BatchSize) -> bool:
    """Return whether batches are so small that one CPU thread trains as fast as all."""
    return has_few_pixels(config.batch_size * split.size**2, split.device)


def has_few_pixels(count: int, device: torch.device) -> bool:
    """Return whether one CPU thread computes with a batch of this many pixels as fast as all."""
    return device.type == "cpu" and count < _SMALL_BATCH


def fitting_threads(split: Split, config: BatchSize) -> contextlib.AbstractContextManager[None]:
    """Return `thread_limit` for trainings with such batches."""
    return thread_limit(1 if uses_one_thread(split, config) else None)
