"""Settings that were renamed, old dotted key to new dotted key: one table, for this release only.

A configuration that still has the old key is refused with the new one in the message.
"""

from itertools import product

_COMMON = (
    "device",
    "flip",
    "crop_padding",
    "cutout",
    "min_lr",
    "momentum",
    "weight_decay",
    "max_grad_norm",
)
_AUGMENTATION = ("flip", "crop_padding", "cutout")

RENAMED: dict[str, str] = {
    **{
        f"{old}.{name}": f"training.{name}"
        for old, name in product(("train", "search.child"), _COMMON)
    },
    **{f"search.options.weights.{name}": f"training.{name}" for name in _AUGMENTATION},
    **{f"search.options.pretraining.{name}": f"training.{name}" for name in _AUGMENTATION[:2]},
}
