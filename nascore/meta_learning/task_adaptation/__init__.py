"""How a trained few-shot network learns tasks.

This folder is copied next to each registered few-shot model and imported there by its own name: it
needs torch and numpy and nothing else of this project, and its imports are relative.
"""

from .adapter import Adapter, Answer, Fault, TaskSettings, UnfitTask
from .inner_loop import (
    Forward,
    Grad,
    Inner,
    Parameters,
    adapt,
    begin,
    last_layer,
    plain_grad,
    predict,
    task_loss,
)

__all__ = [
    "Adapter",
    "Answer",
    "Fault",
    "Forward",
    "Grad",
    "Inner",
    "Parameters",
    "TaskSettings",
    "UnfitTask",
    "adapt",
    "begin",
    "last_layer",
    "plain_grad",
    "predict",
    "task_loss",
]
