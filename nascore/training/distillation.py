"""Distillation: a network learns the answers of a teacher (Hinton et al. 2015, arXiv 1503.02531).

A teacher is any model as it is deployed: pixels of 0..255 to logits, further outputs after them. It
sees the very batch that the network is trained on, augmentation and mixing included (Beyer et al.
2022, arXiv 2106.05237), whose normalisation is undone before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascore.data.batches import Statistics, normalisation
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError, visible

KEY = "training.teacher"
_SHOWN = 30  # names of classes in a message


@dataclass(frozen=True, slots=True)
class TeacherTask:
    """Input and classes of a teacher.

    Attributes:
        name: for messages and results, without secrets.
        identity: SHA-256 of its file, or the version in the registry.
        classes: names in the order of its logits.
    """

    name: str
    identity: str
    classes: tuple[str, ...]
    channels: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return {"name": self.name, "identity": self.identity, "num_classes": len(self.classes)}

    def check(self, info: DatasetInfo) -> None:
        """Compare a teacher with the data of a training.

        Raises:
            InputError: it has other classes, another order of them, or reads other images.
        """
        ours, theirs = info.classes, self.classes
        if theirs != ours:
            is_order = set(theirs) == set(ours)
            what = "the same classes in another order" if is_order else "other classes"
            message = (
                f"has {what}: the teacher {_listed(theirs)}, the data {_listed(ours)}; name a "
                "teacher that was trained on the same classes, or set it to null"
            )
            raise InputError.of(KEY, self.name, message)
        if (self.channels, self.size) != (info.channels, info.size):
            message = (
                f"reads images of {_images(self.channels, self.size)}, the data have "
                f"{_images(info.channels, info.size)} (channels x height x width); name a teacher "
                "for the same images, set data.image_size, or set it to null"
            )
            raise InputError.of(KEY, self.name, message)


class Teacher(nn.Module):
    """Logits (B, K) of a teacher for the normalised images (B, C, H, W) of a training.

    It stays in the mode of its model, which for an exported program cannot be changed.

    Args:
        model: pixels (B, C, H, W) of 0..255 to logits, or several outputs with logits first; in
            evaluation mode.
        task: its input and classes.
        info: mean and deviation with which the images of the training are normalised.
    """

    scale_C11: Tensor
    shift_C11: Tensor

    def __init__(self, model: nn.Module, task: TeacherTask, info: Statistics) -> None:
        super().__init__()
        self.task = task
        self.model = model.requires_grad_(False)
        scale_C11, shift_C11 = normalisation(info)
        self.register_buffer("scale_C11", scale_C11)
        self.register_buffer("shift_C11", shift_C11)

    def train(self, mode: bool = True) -> "Teacher":
        """Change nothing: a teacher is not trained."""
        return self

    @torch.no_grad()
    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits without gradients."""
        pixels_BCHW = (x_BCHW - self.shift_C11) / self.scale_C11
        num_images = len(pixels_BCHW)
        if num_images == 1:  # exported programs take two images or more
            pixels_BCHW = pixels_BCHW.expand(2, -1, -1, -1)
        answer: Tensor | Sequence[Tensor] = self.model(pixels_BCHW)
        logits_BK = answer if isinstance(answer, Tensor) else answer[0]
        return logits_BK[:num_images]

    def check_outputs(self) -> None:
        """Ask the teacher about two black images.

        Raises:
            InputError: it fails, or its first output is no logits of its classes.
        """
        channels, size = self.task.channels, self.task.size
        x_BCHW = torch.zeros(2, channels, size, size, device=self.shift_C11.device)
        try:
            found: Any = self(x_BCHW)
        except Exception as error:  # the model is the user's, and may raise anything
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            message = f"cannot be asked: {visible(line)[:200]}; name another model"
            raise InputError.of(KEY, self.task.name, message) from error
        wanted = (2, len(self.task.classes))
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            message = f"answers two images with {shape}, not with logits of shape {wanted}"
            raise InputError.of(KEY, self.task.name, f"{message}; name another model")


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(visible(name) for name in classes[:_SHOWN])
    return f"[{shown}{', ...' if len(classes) > _SHOWN else ''}] ({len(classes)})"


def _images(channels: int, size: int) -> str:
    return f"{channels}x{size}x{size}"
