"""The memory of sampled architectures, and the losses that make the hidden state encode them."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from nascore.methods.enas.controller import Controller
from nascore.methods.enas.memory import Decoder, Memory, MemoryEncoder, uniform_entropy
from nascore.methods.enas.options import ControllerOptions, MemoryOptions

SMALL = (2, 3, 2)
SIZE = 16


def strings(*rows: str) -> Tensor:
    return torch.tensor([[int(letter) for letter in row] for row in rows])


def filled(capacity: int, *rows: str) -> Memory:
    memory = Memory(capacity, len(rows[0]))
    memory.add(strings(*rows), torch.arange(len(rows), dtype=torch.float64))
    return memory


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(num: int, cardinalities: tuple[int, ...]) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(cardinalities, size=(num, len(cardinalities))))


# --- a ring buffer of different architectures -------------------------------------------------


def test_the_oldest_makes_room() -> None:
    memory = filled(3, "00", "01", "10", "11")
    assert len(memory) == 3
    assert torch.equal(memory.tokens(), strings("01", "10", "11"))


def test_a_repeat_is_kept_once_with_its_new_reward_and_its_old_age() -> None:
    memory = filled(3, "00", "01", "10")
    memory.add(strings("00"), torch.tensor([0.9]))
    assert len(memory) == 3
    assert memory.state()["rewards"].tolist() == pytest.approx([0.9, 1, 2])
    memory.add(strings("11"), torch.tensor([0.5]))
    assert torch.equal(memory.tokens(), strings("01", "10", "11")), "00 was still the oldest"


def test_repeats_in_one_batch_are_kept_once() -> None:
    assert torch.equal(filled(3, "00", "01", "00").tokens(), strings("00", "01"))


def test_it_is_never_larger_than_its_capacity_and_holds_nothing_twice() -> None:
    memory = Memory(20, 3)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        tokens = torch.from_numpy(rng.integers(4, size=(15, 3)))
        memory.add(tokens, torch.zeros(15))
        kept = [tuple(row) for row in memory.tokens().tolist()]
        assert len(set(kept)) == len(kept) == len(memory) <= 20
        assert tuple(tokens[-1].tolist()) in kept


# --- sampling ---------------------------------------------------------------------------------


def test_samples_are_different_entries_and_depend_on_the_generator_alone() -> None:
    memory = filled(10, *(f"{i:03b}" for i in range(8)))
    first = memory.sample(5, generator(1))
    assert first.shape == (5, 3)
    assert first.dtype == torch.int64
    assert len(first.unique(dim=0)) == 5
    torch.manual_seed(99)
    assert torch.equal(memory.sample(5, generator(1)), first)
    assert not torch.equal(memory.sample(5, generator(2)), first)


def test_every_entry_is_as_likely_as_any_other() -> None:
    memory = filled(8, *(f"{i:03b}" for i in range(8)))
    source = generator()
    counts = torch.zeros(8)
    for _ in range(2000):
        counts += torch.bincount(memory.sample(2, source) @ torch.tensor([4, 2, 1]), minlength=8)
    assert float((counts / 4000 - 1 / 8).abs().max()) < 0.02


def test_a_memory_with_too_few_entries_gives_all_of_them() -> None:
    memory = filled(10, "00", "01", "10")
    sample = memory.sample(32, generator())
    assert sorted(sample.tolist()) == memory.tokens().tolist()


def test_an_empty_memory_gives_nothing() -> None:
    with pytest.raises(ValueError, match="the memory is empty"):
        Memory(10, 2).sample(1, generator())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"capacity": 10, "batch_size": 32, "warmup": 5}, "batch_size must be <= capacity"),
        ({"capacity": 100, "warmup": 200}, "warmup must be <= capacity"),
        ({"warmup": 0, "pretrain_steps": 5}, "raise warmup above 0"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        MemoryOptions(**settings)


# --- what survives ----------------------------------------------------------------------------


def test_a_memory_that_is_read_back_goes_on_as_the_old_one() -> None:
    memory = filled(4, "000", "001", "010")
    memory.add(strings("011"), torch.tensor([math.nan]))  # never judged
    other = Memory(4, 3)
    other.add(strings("111"), torch.tensor([1.0]))
    other.load_state(memory.state())
    for one in (memory, other):
        one.add(strings("100", "001"), torch.tensor([0.25, 0.5]))
    states = memory.state(), other.state()
    assert torch.equal(states[0]["tokens"], states[1]["tokens"])
    assert torch.allclose(states[0]["rewards"], states[1]["rewards"], rtol=0, equal_nan=True)
    assert torch.equal(memory.sample(3, generator()), other.sample(3, generator()))


def test_an_empty_memory_is_read_back_empty() -> None:
    empty = Memory(4, 3)
    assert empty.state()["tokens"].shape == (0, 3)
    other = filled(4, "000")
    other.load_state(empty.state())
    assert len(other) == 0


# --- the losses -------------------------------------------------------------------------------


def policy() -> Controller:
    torch.manual_seed(0)
    controller = Controller(SMALL, ControllerOptions(hidden_size=SIZE))
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter *= 10
    return controller


def decoder() -> Decoder:
    torch.manual_seed(1)
    return Decoder(SMALL, SIZE)


def all_strings() -> Tensor:
    return torch.tensor(list(itertools.product(*map(range, SMALL))))


def touched(module: torch.nn.Module) -> set[str]:
    return {
        name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())
    }


def test_the_decoder_is_a_distribution_over_strings() -> None:
    tokens_BT = all_strings()
    hidden_BH = torch.randn(1, SIZE).expand(len(tokens_BT), -1)
    shown_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
    total = decoder()(hidden_BH, tokens_BT, shown_BT).sum(1).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_the_decoder_sees_the_state_and_no_token_that_is_hidden_from_it() -> None:
    reader, hidden_BH = decoder(), torch.randn(4, SIZE)
    tokens_BT, shown_BT = uniform(4, SMALL), torch.tensor([[False, True, True]]).expand(4, -1)
    other_BT = tokens_BT.clone()
    other_BT[:, 0] = 1 - other_BT[:, 0]
    before, after = (reader(hidden_BH, one, shown_BT)[:, 1:] for one in (tokens_BT, other_BT))
    assert torch.equal(before, after)
    everything = torch.ones_like(shown_BT)
    before, after = (reader(hidden_BH, one, everything)[:, 1:] for one in (tokens_BT, other_BT))
    assert not torch.equal(before, after)
    assert not torch.equal(reader(-hidden_BH, tokens_BT, shown_BT)[:, 1:], before)


def test_reconstruction_trains_what_makes_the_state_and_not_what_the_policy_says() -> None:
    """Else it would favour architectures."""
    controller, encoder = policy(), MemoryEncoder(SMALL, MemoryOptions(), SIZE)
    reader = encoder.decoder
    encoder.loss(controller, all_strings(), generator()).backward()
    assert touched(reader) == {name for name, _ in reader.named_parameters()} - unused(reader)
    assert not {name for name in touched(controller) if name.startswith("heads.")}
    assert {"start", "cell.weight_hh", "embeddings.0.weight", "embeddings.2.weight"} <= touched(
        controller
    ), "the last token is read, too"


def unused(reader: Decoder) -> set[str]:
    """The decoder does not read the last token: there is nothing left to predict."""
    return {f"embeddings.{len(reader.embeddings) - 1}.weight"}


def test_entropy_of_uniform_strings() -> None:
    assert uniform_entropy((2, 4, 8)) == pytest.approx(2 * math.log(2))
