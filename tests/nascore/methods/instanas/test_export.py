"""Programs that left this code answer what the code does."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nascore.methods.instanas.controller import PolicyNetwork, greedy, make_policy_network
from nascore.methods.instanas.export import (
    MaskedModel,
    RoutedModel,
    export,
    folded,
)
from nascore.methods.instanas.supernet import MetaGraph, make_metagraph
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.network import OPS
from nascore.spaces.mobilenet.space import MobileSpace

CONFIG = MobileSpaceConfig(stages=((4, 2, 1), (8, 1, 2)), stem_channels=4)
SPACE = MobileSpace(CONFIG)
SHAPE = ImageShape(3, 8, 5)
SIZES = (1, 2, 9)
COST_LO = torch.arange(15.0).view(3, 5) + 1


def images(number: int, *, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def graph() -> MetaGraph:
    graph = make_metagraph(SPACE, SHAPE, seed=0)
    for seed in range(3):
        graph(images(32, seed=seed), torch.ones(32, 3, 5, dtype=torch.bool))
    return graph.eval()


@pytest.fixture(scope="module")
def controller() -> PolicyNetwork:
    """One that gives different images different policies, some of them empty in places."""
    controller = make_policy_network(3, (3, 5), seed=0, channels=4)
    for seed in range(3):
        controller(images(32, seed=seed))
    controller.eval()
    with torch.no_grad():
        controller.head.weight *= 30
        middle = torch.logit(controller(images(64)).median(dim=0).values)
        controller.head.bias -= middle.flatten() + 1.0
    policy_BLO = greedy(controller(images(64)))
    assert len(policy_BLO.unique(dim=0)) > 5
    assert not policy_BLO.any(dim=2).all()
    assert not policy_BLO.flatten(1).all(dim=1).any()
    return controller


def same_after_a_journey(program: ExportedProgram, folder: Path) -> nn.Module:
    torch.export.save(program, folder / "program.pt2")
    return torch.export.load(folder / "program.pt2").module()


def test_folding_keeps_the_answers_and_leaves_no_batch_norm(
    graph: MetaGraph, controller: PolicyNetwork
) -> None:
    policy_BLO = torch.ones(9, 3, 5, dtype=torch.bool)
    with torch.no_grad():
        assert (folded(graph)(images(9), policy_BLO) - graph(images(9), policy_BLO)).abs().max() < (
            1e-5
        )
        assert (folded(controller)(images(9)) - controller(images(9))).abs().max() < 1e-5
    for network in (graph, controller):
        assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded(network).modules())


def test_folding_a_network_in_training_mode_leaves_it_there() -> None:
    network = make_policy_network(3, (3, 5), seed=0, channels=4)
    network(images(8))
    copy = folded(network)
    assert network.training
    assert not copy.training
    with torch.no_grad():
        assert (copy(images(3)) - network.eval()(images(3))).abs().max() < 1e-5


def test_the_controller_leaves(controller: PolicyNetwork, tmp_path: Path) -> None:
    program = same_after_a_journey(export(folded(controller), SHAPE), tmp_path)
    with torch.no_grad():
        for number in SIZES:
            assert (program(images(number)) - controller(images(number))).abs().max() < 1e-5


def test_an_expert_leaves(graph: MetaGraph, tmp_path: Path) -> None:
    policy_LO = torch.zeros(3, 5, dtype=torch.bool)
    policy_LO[0, 1] = policy_LO[0, 2] = True
    program = same_after_a_journey(export(folded(graph.static(policy_LO)), SHAPE), tmp_path)
    with torch.no_grad():
        for number in SIZES:
            expected = graph(images(number), policy_LO.expand(number, -1, -1))
            assert (program(images(number)) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", [RoutedModel, MaskedModel])
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_the_whole_model_leaves(
    kind: type[RoutedModel],
    combine: str,
    graph: MetaGraph,
    controller: PolicyNetwork,
    tmp_path: Path,
) -> None:
    space = MobileSpace(CONFIG.model_copy(update={"combine": combine}))
    weights, graph = graph.state_dict(), make_metagraph(space, SHAPE, seed=0).eval()
    graph.load_state_dict(weights)
    model = kind(controller, graph, cost_LO=COST_LO, constant=0.5)
    program = same_after_a_journey(export(model, SHAPE), tmp_path)
    with torch.no_grad():
        for number in SIZES:
            logits, policy, latency = program(images(number))
            chosen_BLO = graph.effective(greedy(controller(images(number))))
            assert torch.equal(policy, chosen_BLO)
            assert (logits - graph(images(number), chosen_BLO)).abs().max() < 1e-5
            expected = (chosen_BLO * COST_LO).sum(dim=(1, 2)) + 0.5
            torch.testing.assert_close(latency, expected)


def test_the_routed_model_computes_operations_on_their_images_only(
    graph: MetaGraph, controller: PolicyNetwork
) -> None:
    policy_BLO = graph.effective(greedy(controller(images(32))))
    wanted = {
        RoutedModel: policy_BLO.sum(dim=0).tolist(),
        MaskedModel: [[32] * len(OPS)] * 3,
    }
    for kind, counts in wanted.items():
        model = kind(controller, graph, cost_LO=COST_LO, constant=0.0)
        seen: dict[str, int] = {}
        for name, part in model.meta_graph.parts.items():
            part.register_forward_hook(
                lambda _m, given, _o, name=name, seen=seen: seen.update({name: len(given[0])})
            )
        model(images(32))
        found = [[seen[f"block{block}/{name}"] for name in OPS] for block in range(3)]
        assert found == counts


def test_the_meta_graph_itself_cannot_be_exported(graph: MetaGraph) -> None:
    """If it could, `RoutedModel` would not be needed."""

    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = graph

        def forward(self, x_BCHW: Tensor) -> Tensor:
            return self.graph(x_BCHW, x_BCHW.new_ones(x_BCHW.shape[0], 3, 5) > x_BCHW.mean())

    with pytest.raises(Exception, match="data-dependent"):
        export(All(), SHAPE)
