"""Settings by which the final network learns from networks that were trained before."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from nascore.config.addresses import check_files
from nascore.section import Section

FINALISTS = "finalists"
"""Teacher that stands for the ensemble of the own search."""


class TransferConfig(Section):
    """Pretrained weights and teacher of the final network; children are trained without them."""

    weights: Annotated[str, AfterValidator(check_files)] | None = None
    """Path or s3:// URI of weights from which the final network starts: a state dict of torch
    (.pt, .pth), safetensors, or the `weights.pt` of a final model. Layers are taken where name and
    shape fit; nothing is downloaded otherwise (docs/pretrained.md)."""
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    """First epochs in which layers that were taken from `training.weights` stay as they are."""
    layer_lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each layer to the one before it, of layers that were taken
    from `training.weights`; 1 gives all layers the same rate."""
    teacher: Annotated[str, Field(min_length=1), AfterValidator(check_files)] | None = None
    """Network whose answers the final network learns in addition to the labels: a registered model
    (NAME, NAME@ALIAS or NAME/VERSION), the folder of a final or an exported model, or an exported
    program (.pt2) next to its description, both as path or s3:// URI, or `finalists`, the ensemble
    of this search (docs/pretrained.md)."""
    teacher_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Weight of the teacher's answers in the loss; the labels have the rest."""
    teacher_temperature: Annotated[float, Field(gt=0, le=100)] = 4.0
    """Temperature by which the logits of both networks are divided: higher ones show more of how
    the teacher ranks the wrong classes."""

    ensemble: Annotated[int, Field(ge=2, le=16)] | None = None
    """Train this many of the best architectures of the search by the final recipe, the winner
    included, and measure the mean of their probabilities: an ensemble with a latency of its own,
    stored with the model."""

    @model_validator(mode="after")
    def _has_finalists(self) -> Self:
        if self.teacher == FINALISTS and self.ensemble is None:
            raise ValueError("teacher=finalists needs their number; set ensemble, such as 3")
        return self

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        given = self.freeze_epochs > 0 or self.layer_lr_decay < 1
        if given and self.weights is None:
            raise ValueError(
                "freeze_epochs and layer_lr_decay have an effect on layers from weights only; set "
                "weights, or freeze_epochs to 0 and layer_lr_decay to 1"
            )
        return self
