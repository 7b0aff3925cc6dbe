import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.training.losses import BatchLoss, Targets

LOGITS_BK = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
Y_B = torch.tensor([0, 2])


class Fixed(nn.Module):
    """A network whose logits do not depend on the images."""

    def __init__(self, logits_BK: Tensor) -> None:
        super().__init__()
        self.logits_BK = nn.Parameter(logits_BK.clone())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.logits_BK


def loss_of(loss: BatchLoss, targets: Targets) -> Tensor:
    return loss(Fixed(LOGITS_BK), torch.zeros(2, 1, 4, 4), targets)[0]


def test_without_any_setting_it_is_the_cross_entropy_to_the_last_bit() -> None:
    weights_K = torch.tensor([1.0, 2.0, 0.5])
    for weights in (None, weights_K):
        found = loss_of(BatchLoss(class_weights_K=weights), Targets(Y_B))
        assert torch.equal(found, F.cross_entropy(LOGITS_BK, Y_B, weight=weights))


def test_mixed_targets_are_those_of_a_target_with_two_classes() -> None:
    other_B = torch.tensor([1, 0])
    one_hot = 0.7 * F.one_hot(Y_B, 3) + 0.3 * F.one_hot(other_B, 3)
    for smoothing in (0.0, 0.2):
        found = loss_of(BatchLoss(label_smoothing=smoothing), Targets(Y_B, other_B, 0.7))
        wanted = F.cross_entropy(LOGITS_BK, one_hot, label_smoothing=smoothing)
        torch.testing.assert_close(found, wanted)


def test_a_teacher_that_agrees_adds_nothing_and_one_that_does_not_pulls() -> None:
    hard = F.cross_entropy(LOGITS_BK, Y_B)
    agrees = BatchLoss(teacher=Fixed(LOGITS_BK + 5), temperature=2.0, teacher_weight=0.25)
    torch.testing.assert_close(loss_of(agrees, Targets(Y_B)), 0.75 * hard)
    pulls = BatchLoss(teacher=Fixed(LOGITS_BK.flip(1)), temperature=1.0, teacher_weight=1.0)
    teacher, own = LOGITS_BK.flip(1).softmax(1), LOGITS_BK.softmax(1)
    wanted = (teacher * (teacher.log() - own.log())).sum(1).mean()
    torch.testing.assert_close(loss_of(pulls, Targets(Y_B)), wanted)


def test_a_teacher_is_asked_without_gradients_and_sees_the_images_of_the_network() -> None:
    seen: list[Tensor] = []

    class Teacher(Fixed):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            seen.append(x_BCHW)
            assert not self.training
            assert not torch.is_grad_enabled()
            return super().forward(x_BCHW)

    teacher, x_BCHW = Teacher(LOGITS_BK).train(), torch.rand(2, 1, 4, 4)
    loss, _ = BatchLoss(teacher=teacher)(Fixed(LOGITS_BK), x_BCHW, Targets(Y_B))
    loss.backward()
    assert seen[0] is x_BCHW
    assert teacher.logits_BK.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_single_precision(dtype: torch.dtype) -> None:
    network = Fixed(LOGITS_BK.to(dtype))
    loss, logits_BK = BatchLoss()(network, torch.zeros(2, 1, 4, 4), Targets(Y_B))
    assert loss.dtype == logits_BK.dtype == torch.float32
