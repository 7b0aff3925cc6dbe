"""Pixels of arrays: order of the axes, and range of the values.

N images, H height, W width, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.findings import Findings, finding
from nascore.data.raw_dataset import check_square
from nascore.errors import Problem

_ARRAYS = "arrays"
_MOST_COLOURS = 4  # an axis of up to this many may be that of the channels
_CHUNK = 1024


def as_images(
    images: dict[str, NDArray[Any]], config: DataConfig, findings: Findings
) -> dict[str, NDArray[np.uint8]] | None:
    """Return every part as uint8 (N, H, W, C); None where there is a problem."""
    problems: list[Problem] = []
    for part, x in images.items():
        if x.ndim not in (3, 4) or 0 in x.shape:
            message = f"x_{part} must have shape (N, H, W) or (N, H, W, C), got {x.shape}"
            problems.append(finding(config, _ARRAYS, message))
    shapes = {part: x.shape[1:] for part, x in images.items()}
    axes = "NHWC"
    if not problems and shapes:
        first, *others = shapes
        problems += [
            finding(
                config,
                _ARRAYS,
                f"x_{first} has images of shape {shapes[first]}, x_{other} of {shapes[other]}; "
                "they must be the same",
            )
            for other in others
            if shapes[other] != shapes[first]
        ]
        if not problems:
            axes = _axes(first, images[first].shape, problems, config, findings)
    scale = _scale(images, problems, config, findings)
    if problems or not images:
        findings.problems += problems
        return None
    made = {part: _converted(x, axes, scale) for part, x in images.items()}
    height, width = next(iter(made.values())).shape[1:3]
    findings.problems += check_square(height, width, config)
    return made


# --- axes -----------------------------------------------------------------------------------


def _axes(
    part: str,
    shape: tuple[int, ...],
    problems: list[Problem],
    config: DataConfig,
    findings: Findings,
) -> str:
    """Return NHWC or NCHW, by the setting or the shape."""
    if len(shape) == 3:
        return "NHWC"
    _, first, middle, last = shape
    readings = _readings(first, middle, last)
    found = config.axes or (readings[0] if len(readings) == 1 else None)
    if found is None:
        message = (
            f"x_{part} has shape {shape}: either {first} x {middle} images of {last} channels "
            f"(NHWC), or {middle} x {last} images of {first} channels (NCHW); set data.axes"
        )
        problems.append(finding(config, "axes", message))
        return "NHWC"
    if found == "NCHW":
        message = f"x_{part} has shape {shape}, which is read as (N, C, H, W)"
        findings.warnings.append(finding(config, "axes", message))
    return found


def _readings(first: int, middle: int, last: int) -> list[str]:
    """Return the orders that three axes may have; one where that is clear."""
    if first == middle == last == 1:
        return ["NHWC"]  # a single pixel is the same either way
    may_be_last = last <= _MOST_COLOURS or (first == middle and last != middle)
    may_be_first = first <= _MOST_COLOURS or (middle == last and first != middle)
    if may_be_last and may_be_first:
        square = [first == middle, middle == last]
        if square == [True, False]:
            return ["NHWC"]
        if square == [False, True]:
            return ["NCHW"]
        sides = min(first, middle), min(middle, last)  # of NHWC and of NCHW
        if max(sides) >= 2 * min(sides):
            return ["NHWC" if sides[0] > sides[1] else "NCHW"]
    if may_be_last != may_be_first:
        return ["NHWC" if may_be_last else "NCHW"]
    return ["NHWC", "NCHW"]


# --- values ---------------------------------------------------------------------------------


def _scale(
    images: dict[str, NDArray[Any]],
    problems: list[Problem],
    config: DataConfig,
    findings: Findings,
) -> float:
    """Return the factor from floats to 0..255; 1 where none is needed."""
    if {x.dtype.kind for x in images.values()} == {"f"}:
        return _scale_of_floats(images, problems, config, findings)
    for part, x in images.items():
        if x.dtype.kind not in "iu":
            message = f"x_{part} must be uint8 (0..255), got {x.dtype}; scale and convert it"
            problems.append(finding(config, _ARRAYS, message))
        elif x.dtype != np.uint8 and x.size and (x.min() < 0 or x.max() > 255):
            message = f"x_{part} must lie in 0..255, got {x.min()}..{x.max()}; scale it"
            problems.append(finding(config, _ARRAYS, message))
    return 1.0


def _scale_of_floats(
    images: dict[str, NDArray[Any]],
    problems: list[Problem],
    config: DataConfig,
    findings: Findings,
) -> float:
    highest: dict[str, float] = {}
    low = np.inf
    before = len(problems)
    for part, x in images.items():
        # An image at a time: a mask of the whole array would double the memory.
        bad = [i for i, image in enumerate(x) if not np.isfinite(image).all()] if x.ndim else []
        if bad:
            message = (
                f"x_{part} has NaN or infinite values in {len(bad)} of {len(x)} images, the first "
                f"is number {bad[0]}; remove or repair them"
            )
            problems.append(finding(config, "not-finite", message))
        elif x.size:
            low, highest[part] = min(low, float(x.min())), float(x.max())
    if len(problems) > before or not highest:
        return 1.0
    high = max(highest.values())
    names = ", ".join(f"x_{part}" for part in images)
    dtype = next(iter(images.values())).dtype
    if low < 0 or high > 255:
        message = (
            f"{names} must be uint8 (0..255), got {dtype} in {low:g}..{high:g}; scale it to 0..1 "
            "or 0..255 (of normalised images, undo that)"
        )
        problems.append(finding(config, "float-range", message))
        return 1.0
    if high > 1 and min(highest.values()) <= 1:
        shown = " and ".join(f"x_{part} up to {value:g}" for part, value in highest.items())
        message = f"the parts have other ranges, {shown}; scale them alike, to 0..1 or 0..255"
        problems.append(finding(config, "float-range", message))
        return 1.0
    done, scale = ("multiplied by 255", 255.0) if high <= 1 else ("rounded", 1.0)
    message = f"{names} hold {dtype} in {low:g}..{high:g}; they were {done} to 0..255"
    findings.warnings.append(finding(config, "float-range", message))
    return scale


def _converted(x: NDArray[Any], axes: str, scale: float) -> NDArray[np.uint8]:
    """Return uint8 (N, H, W, C), converted in chunks: floats would double the memory."""
    if x.ndim == 3:
        x = x[..., None]
    elif axes == "NCHW":
        x = x.transpose(0, 2, 3, 1)
    if x.dtype.kind != "f":
        return np.ascontiguousarray(x.astype(np.uint8, copy=False))
    made = np.empty(x.shape, np.uint8)
    for start in range(0, len(x), _CHUNK):
        part = x[start : start + _CHUNK].astype(np.float64) * scale
        made[start : start + _CHUNK] = np.rint(part)
    return made
