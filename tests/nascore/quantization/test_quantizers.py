"""Quantisation of ONNX files: seeded calibration images, and files of both kinds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nascore.data.batches import Splits
from nascore.quantization.onnx_network import QuantizationError, export
from nascore.quantization.quantizers import calibration_pixels, quantize
from nascore.training.final_model import DeployedModel, FinalModel


def test_calibration_images_are_training_images_as_stored_and_depend_on_the_seed_alone(
    splits: Splits,
) -> None:
    def draw(seed: int) -> np.ndarray:
        return np.concatenate(calibration_pixels(splits.train, torch.Generator().manual_seed(seed)))

    images = draw(1)
    assert images.shape == (256, 1, 8, 8)
    assert images.dtype == np.float32
    stored = {
        image.tobytes() for image in splits.train.pixels_at(range(splits.train.num_images)).numpy()
    }
    assert all(image.astype(np.uint8).tobytes() in stored for image in images)
    assert len({image.tobytes() for image in images}) > 250
    assert np.array_equal(images, draw(1))
    assert not np.array_equal(images, draw(2))


def test_both_kinds_are_written_with_weights_of_eight_bits(
    trained: FinalModel, splits: Splits, tmp_path: Path
) -> None:
    import onnx

    source = tmp_path / "fp32.onnx"
    export(DeployedModel(trained.network, splits.info).eval(), trained.shape, source)
    files, failed = quantize(
        source, tmp_path, calibration_pixels(splits.train, torch.Generator().manual_seed(0))
    )
    assert set(files) == {"static", "dynamic"}
    assert failed == {}
    int8 = onnx.TensorProto.INT8
    for path in files.values():
        weights = [one for one in onnx.load(path).graph.initializer if len(one.dims) == 4]
        kernels = [one for one in weights if one.dims[-1] == 3]
        assert kernels
        assert all(one.data_type == int8 for one in kernels)
        assert all(abs(onnx.numpy_helper.to_array(one).astype(int)).max() <= 64 for one in kernels)
        assert path.stat().st_size < source.stat().st_size


def test_a_kind_that_fails_is_left_out_with_the_reason(
    trained: FinalModel, splits: Splits, tmp_path: Path
) -> None:
    source = tmp_path / "fp32.onnx"
    export(DeployedModel(trained.network, splits.info).eval(), trained.shape, source)
    files, failed = quantize(source, tmp_path, [])  # without images there are no ranges
    assert set(files) == {"dynamic"}
    assert set(failed) == {"static"}
    assert failed["static"].startswith("ValueError: ")


def test_a_graph_that_cannot_be_prepared_is_refused_with_the_reason(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Sharpen", ["a"], ["b"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)])
    save(model, tmp_path / "source.onnx")  # of an old version, whose operations are converted
    with pytest.raises(QuantizationError, match=r"it cannot be prepared: \w+Error: .*Sharpen"):
        quantize(tmp_path / "source.onnx", tmp_path, [])
