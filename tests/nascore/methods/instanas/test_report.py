"""The section on an architecture for each image: its numbers, its pictures, and its absence."""

import base64
import io
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image

from nascore.methods.instanas.decisions import explain
from nascore.methods.instanas.report import accuracy_of, places
from nascore.report.sections import sections_of


def details(num_images: int = 20) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    p_BLO = torch.rand(num_images, 2, 5, generator=generator)
    policy_BLO = p_BLO > 0.5
    points = [
        {"name": "A", "latency": 3.0, "shared_accuracy": 0.9, "valid_accuracy": 0.93},
        {"name": "B", "latency": 2.0, "shared_accuracy": 0.8, "valid_accuracy": None},
    ]
    explained = explain(p_BLO, policy_BLO, policy_BLO.sum(dim=(1, 2)).float())
    return {
        "unit": "ms",
        "front": points,
        "point": points[1],
        "rule": "the <fastest> one",
        "table": {"baseline": 4.0},
        "latency": 2.1,
        "policies": asdict(explained),
        "shuffled": {"valid_accuracy": 0.7512, "test_accuracy": 0.7423},
    }


MEASURED = {
    "per_image": {
        "saving": 0.345,
        "baseline_ms": 4.5,
        "controller_ms": 0.25,
        "batch_speedup": 2.5,
        "batch_size": 256,
        "num_images": 200,
        "spearman": 0.8765,
        "mean_absolute_error": 0.0432,
    }
}


def test_it_says_what_the_details_and_the_clock_say():
    own = details()
    (shown,) = sections_of({"instanas": own}, MEASURED, {})
    for told in (
        "of 20 validation images",
        "75.12%",
        "74.23%",
        "34.50%",
        "2.50 times",
        "0.876<span>Spearman correlation with measured latency over 200 single images",
        "mean absolute error 4.3%",
        "&lt;fastest&gt;",
    ):
        assert told in shown
    assert f"<dd>{own['policies']['num_distinct']}<" in shown
    assert shown.count('class="num heat"') == 10
    assert shown.count('class="point chosen"') == 1
    assert "<img" not in shown
    assert "Measured saving" not in sections_of({"instanas": own}, None, {})[0]


def test_a_table_of_multiply_adds_has_no_error_in_time():
    measured = MEASURED["per_image"] | {"spearman": None, "mean_absolute_error": None}
    (shown,) = sections_of({"instanas": details()}, {"per_image": measured}, {})
    assert "<dd>none<span>Spearman correlation" in shown
    assert "mean absolute error" not in shown


def test_mobilenet_is_a_point_of_the_front_where_it_was_trained():
    reference = {"epochs": 37, "latency": 4.0, "valid_accuracy": 0.95, "test_accuracy": 0.9412}
    own = details() | {"valid_accuracy": 0.97, "baseline": reference}
    (shown,) = sections_of({"instanas": own}, None, {})
    assert shown.count('class="point reference"') == shown.count('class="point final"') == 1
    assert "final 97.00% at 2.1 ms, MobileNetV2 95.00% at 4 ms" in shown
    assert "<dt>MobileNetV2</dt><dd>94.12%" in shown
    assert "after 37 epochs" in shown
    for without in (details(), details() | {"baseline": None}):
        (shown,) = sections_of({"instanas": without}, None, {})
        assert "point reference" not in shown
        assert "epochs" not in shown


def test_pictures_lie_in_the_page_as_they_are():
    own = details()
    wanted = places(own)
    images = {
        place: np.full((channels, 8, 8), place, np.uint8)
        for place, channels in zip(wanted, [1, 3] * len(wanted), strict=False)
    }
    (shown,) = sections_of({"instanas": own}, None, images)
    assert shown.count("<img") == len(own["policies"]["fastest"] + own["policies"]["slowest"])
    first = own["policies"]["fastest"][0]
    data = shown.split("data:image/png;base64,")[1].split('"')[0]
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).flat[0] == first


def test_other_methods_have_no_such_section():
    assert sections_of({}, MEASURED, {}) == []
    assert places({}) == []


def test_a_point_that_was_not_trained_on_has_its_accuracy_of_the_search():
    assert [accuracy_of(point) for point in details()["front"]] == [0.93, 0.8]
