"""Length of the training of one network of a space."""

import math

from nascore.config import TrainingConfig
from nascore.data.batches import Split
from nascore.genotype import Genotype
from nascore.spaces.base import ImageShape, SearchSpace, StandardSpace
from nascore.training.loop import planned_steps


def cost_in_updates(space: SearchSpace, genotype: Genotype, shape: ImageShape) -> float:
    """Return the cost of a weight update, in updates of the length that settings say.

    It is 1 where networks of the space are trained for equally many updates.
    """
    if not isinstance(space, StandardSpace) or not space.equal_computation:
        return 1.0
    return space.relative_cost(genotype, shape)


def for_cost(config: TrainingConfig, split: Split, cost: float) -> TrainingConfig:
    """Return the settings of a training whose updates cost `cost` times those of the settings.

    Args:
        config: settings of a training with updates of cost 1.
        split: images that are trained on.
        cost: see `cost_in_updates`.
    """
    if cost == 1:
        return config
    num_steps = max(1, round(planned_steps(split, config) / cost))
    epochs = math.ceil(num_steps / split.steps_per_epoch(config))
    return config.model_copy(update={"max_steps": num_steps, "epochs": epochs})
