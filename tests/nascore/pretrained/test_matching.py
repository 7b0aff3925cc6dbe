"""Networks that start from weights: what is taken, what is left out, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from nascore import checkpoint
from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.pretrained.matching import WeightTransfer, load_weights
from nascore.pretrained.part_names import renaming
from nascore.pretrained.weight_files import FINAL_MODEL, WeightFile, read_weight_file
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, SearchSpace, make_genotype, make_space
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig

TEN = tuple("0123456789")
SHAPE = ImageShape(channels=3, size=32, num_classes=10)


def file_of(network: nn.Module, **known: Any) -> WeightFile:
    return WeightFile(dict(network.state_dict()), "file.pt", "0" * 64, **known)


def reasons(transfer: WeightTransfer) -> dict[str, str]:
    return {one.name: one.reason for one in transfer.left_out}


def into_space(
    file: WeightFile, space: SearchSpace, genotype: Genotype, shape: ImageShape = SHAPE
) -> tuple[nn.Module, WeightTransfer]:
    network = space.build(genotype, shape, "final")
    names = renaming(network, file, space=space, genotype=genotype, shape=shape)
    return network, load_weights(network, file, classes=TEN, renaming=names)


# --- standard networks --------------------------------------------------------------------------


def test_a_standard_network_takes_all_but_the_classifier_of_other_classes() -> None:
    source, network = models.resnet18(num_classes=100), models.resnet18(num_classes=10)
    fresh = network.fc.weight.clone()
    transfer = load_weights(network, file_of(source), classes=TEN)
    assert transfer.share == 1
    assert reasons(transfer) == {"fc": "classifier of 100 classes, not 10"}
    assert transfer.unused == ("fc.weight", "fc.bias")
    assert torch.equal(network.fc.weight, fresh)
    for name, value in network.state_dict().items():
        if not name.startswith("fc.") and "num_batches" not in name:
            assert torch.equal(value, source.state_dict()[name]), name
    assert "40 of 41 layers and 100.0% of the parameters" in str(transfer)
    assert "left out: fc (classifier of 100 classes, not 10)" in str(transfer)


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [(None, None), (TEN, None), (tuple("9876543210"), "classifier of other classes")],
)
def test_a_classifier_of_as_many_classes_is_taken_unless_they_are_known_to_be_others(
    theirs: tuple[str, ...] | None, reason: str | None
) -> None:
    source, network = models.resnet18(num_classes=10), models.resnet18(num_classes=10)
    transfer = load_weights(network, file_of(source, classes=theirs), classes=TEN)
    assert reasons(transfer).get("fc") == reason
    assert torch.equal(network.fc.weight, source.fc.weight) == (reason is None)


@torch.no_grad()
@pytest.mark.parametrize(
    ("theirs", "ours", "note"),
    [
        (3, 1, "the first convolution was summed over 3 channels"),
        (1, 3, "the first convolution was divided among 3 channels"),
    ],
)
def test_a_grey_image_is_answered_as_the_same_image_in_colour(
    theirs: int, ours: int, note: str
) -> None:
    def network_of(channels: int) -> nn.Module:
        network = models.resnet18(num_classes=10)
        network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        return network.eval()

    source, network = network_of(theirs), network_of(ours)
    transfer = load_weights(network, file_of(source), classes=TEN)
    assert (transfer.first_convolution, transfer.left_out) == (note, ())
    assert note in str(transfer)
    grey = torch.randn(2, 1, 32, 32)
    expected = source(grey.expand(-1, theirs, -1, -1))
    assert torch.allclose(network(grey.expand(-1, ours, -1, -1)), expected, atol=1e-4)


def test_a_normalisation_goes_with_the_convolution_before_it() -> None:
    network = models.resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)  # the stem of small images
    source = models.resnet18()
    nn.init.uniform_(source.bn1.running_mean)
    transfer = load_weights(network, file_of(source), classes=TEN)
    found = reasons(transfer)
    assert found["conv1"] == "weight is 64x3x7x7 in the file, 64x3x3x3 in the network"
    assert found["bn1"] == "the layer before it was left out"
    assert not network.bn1.running_mean.any()


@pytest.mark.parametrize("make", [models.resnet50, models.mobilenet_v2, models.squeezenet1_1])
def test_weights_of_another_architecture_are_refused_with_names_and_shapes(
    make: Callable[..., nn.Module],
) -> None:
    network = make(num_classes=10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError) as raised:
        load_weights(network, file_of(models.resnet18()), classes=TEN)
    (problem,) = raised.value.problems
    assert problem.key == "training.weights"
    assert f"of the parameters of {type(network).__name__} fit, and at least 50% must" in (
        problem.message
    )
    assert "not in the file: " in problem.message
    assert "not taken from the file: " in problem.message
    if make is models.resnet50:
        shapes = "layer1.0.conv1 (weight is 64x64x3x3 in the file, 64x64x1x1 in the network)"
        assert shapes in problem.message
    else:
        assert "conv1.weight 64x3x7x7" in problem.message
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), "nothing is half loaded"


def test_weights_that_are_not_finite_are_refused() -> None:
    source = models.resnet18()
    source.layer1[0].conv1.weight.data[0] = float("nan")
    with pytest.raises(InputError, match=r"not finite: layer1\.0\.conv1\.weight"):
        load_weights(models.resnet18(), file_of(source), classes=TEN)


def test_half_precision_is_read_as_single_precision() -> None:
    source, network = models.resnet18().half(), models.resnet18()
    assert load_weights(network, file_of(source), classes=TEN).share == 1
    assert network.conv1.weight.dtype == torch.float32


# --- spaces -------------------------------------------------------------------------------------

LARGE = ResidualSpaceConfig(num_stages=4, channels=64)


@torch.no_grad()
def test_the_residual_space_takes_the_stages_of_a_resnet() -> None:
    source = models.resnet18(num_classes=10).eval()
    nn.init.uniform_(source.layer3[0].downsample[1].running_mean)
    space = make_space(LARGE)
    network, transfer = into_space(file_of(source), space, space.standard)
    assert reasons(transfer).keys() == {"stem.0", "stem.1"}, "7x7, not 3x3"
    x_BCHW = torch.randn(2, 64, 16, 16)
    expected = nn.Sequential(source.layer1, source.layer2, source.layer3, source.layer4)(x_BCHW)
    assert torch.allclose(nn.Sequential(*network.eval().blocks)(x_BCHW), expected, atol=1e-4)
    assert torch.equal(network.head.weight, source.fc.weight)


def test_a_found_network_without_a_fitting_block_keeps_its_initial_weights() -> None:
    space = make_space(LARGE)
    tokens = list(space.standard.tokens)
    tokens[3::6] = [0] * len(tokens[3::6])  # plain blocks, which a ResNet has not
    genotype = make_genotype(space, tokens)
    file = file_of(models.resnet18())
    with pytest.raises(InputError, match=r"0\.0% of the parameters of ResidualNetwork fit, and at"):
        into_space(file, space, genotype)
    network = space.build(genotype, SHAPE, "final")
    before = network.head.weight.clone()
    names = renaming(network, file, space=space, genotype=genotype, shape=SHAPE)
    transfer = load_weights(network, file, classes=TEN, renaming=names, needed=0.0)
    assert (transfer.share, transfer.taken) == (0.0, ())
    assert str(transfer).startswith("0 of ")
    assert torch.equal(network.head.weight, before)


@torch.no_grad()
def test_the_mobile_space_takes_the_blocks_of_a_mobilenet() -> None:
    config = MobileSpaceConfig(
        stages=((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2)),
        stem_channels=32,
        head_channels=1280,
    )
    space = make_space(config)
    genotype = make_genotype(space, (1, 0, 0, 0, 0) * 16)  # k3e6 everywhere
    source = models.mobilenet_v2().eval()
    network, transfer = into_space(file_of(source), space, genotype, ImageShape(1, 32, 10))
    assert transfer.first_convolution == "the first convolution was summed over 3 channels"
    x_BCHW = torch.randn(2, 24, 16, 16).clamp(-0.1, 0.1)  # below 6, where ReLU6 is ReLU
    expected = source.features[3].conv[:2](x_BCHW)
    found = network.eval().blocks[2].operations[0].body[:6](x_BCHW)
    assert torch.allclose(found, expected, atol=1e-4)
    last = network.blocks[15].operations[0].body[6].weight
    assert torch.equal(last, source.features[16].conv[2].weight)
    other = make_genotype(space, (1, 0, 0, 0, 0) * 2 + (0, 1, 1, 0, 1) + (1, 0, 0, 0, 0) * 13)
    _, transfer = into_space(file_of(source), space, other)
    found = {name for name in reasons(transfer) if name.startswith("blocks.2.")}
    assert {name.split(".")[3] for name in found} == {"0", "1", "2"}, "k3e3, k5e6, basic"
    assert not any(name.startswith("blocks.3.") for name in reasons(transfer))


def own(space: SearchSpace, genotype: Genotype, folder: Path) -> tuple[nn.Module, WeightFile]:
    """Return a network with weights, and its `weights.pt`."""
    with seeded_weights(7):
        network = space.build(genotype, SHAPE, "final")
    meta = {"genotype": genotype.to_dict(), "classes": list("abcdefghij")}
    checkpoint.save(folder / "weights.pt", network.state_dict(), meta, FINAL_MODEL)
    return network, read_weight_file(folder / "weights.pt")


def superkernel() -> tuple[SearchSpace, Genotype, Genotype]:
    """Return a space, a genotype, and one whose first node has lost its first operation."""
    space = make_space(SuperkernelSpaceConfig(num_stages=1, num_nodes=2, final_channels=4))
    conv, none = (0, 0, 1, 1, 0), (4, 0, 0, 0, 0)
    kept = [(0, 1), (0, 1)]
    edges = [conv, conv, conv, conv, none]
    return space, space.genotype(edges, kept), space.genotype([none, *edges[1:]], kept)


def test_weights_of_the_own_space_are_taken_by_edge_not_by_number(tmp_path: Path) -> None:
    space, genotype, other = superkernel()
    source, file = own(space, genotype, tmp_path)
    network, transfer = into_space(file, space, other)
    first: Tensor = network.cells[0].operations[0][1].weight
    assert torch.equal(first, source.cells[0].operations[1][1].weight)
    assert reasons(transfer) == {"head.3": "classifier of other classes"}


def test_weights_of_the_own_space_are_taken_by_stage(tmp_path: Path) -> None:
    space = make_space(ResidualSpaceConfig(channels=8))
    tokens = list(space.standard.tokens)
    tokens[0] = 0  # one block in the first stage, where the source has two
    source, file = own(space, space.standard, tmp_path)
    network, transfer = into_space(file, space, make_genotype(space, tokens))
    assert transfer.share == 1
    ours, theirs = network.blocks[1][0].body[0].weight, source.blocks[2][0].body[0].weight
    assert torch.equal(ours, theirs)


def test_weights_of_a_network_of_another_space_are_compared_by_name(tmp_path: Path) -> None:
    space, genotype, _ = superkernel()
    _, file = own(space, genotype, tmp_path)
    target = make_space(ResidualSpaceConfig())
    with pytest.raises(InputError, match="of another architecture"):
        into_space(file, target, target.standard)
