"""Images as data URIs, for pages that load nothing."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def data_uri(pixels_CHW: NDArray[Any]) -> str:
    """Return a PNG of an image; the first three channels, or the first one of two or one."""
    channels = 3 if len(pixels_CHW) >= 3 else 1
    pixels_HWC = np.ascontiguousarray(pixels_CHW[:channels].transpose(1, 2, 0).astype(np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels_HWC if channels == 3 else pixels_HWC[:, :, 0]).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
