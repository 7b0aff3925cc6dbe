"""Stage A: the autoencoder and unlabelled architectures (properties 1, 2, 4, 5 of the papers)."""

from pathlib import Path

import pytest
import torch

from nascore.errors import CheckpointError
from nascore.methods.nases.autoencoder import (
    CategoricalAutoencoder,
    ReleasedAutoencoder,
    make_autoencoder,
    simulate,
    train_autoencoder,
)
from nascore.methods.nases.options import AutoencoderOptions, PaperAutoencoderOptions
from nascore.methods.nases.pretraining import load_autoencoder, pretrain_autoencoder
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.spaces.chain.config import ChainSpaceConfig

SPACE = make_space(ChainSpaceConfig())
OPTIONS = AutoencoderOptions()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The default autoencoder of the default space, trained as `pretrain_controller` does."""
    folder = tmp_path_factory.mktemp("autoencoder")
    return folder, pretrain_autoencoder(OPTIONS, SPACE, Seeds(0), folder)


@pytest.fixture(scope="module")
def coder(trained: tuple[Path, dict[str, float]]) -> CategoricalAutoencoder:
    loaded = load_autoencoder(trained[0], OPTIONS, SPACE)
    assert isinstance(loaded, CategoricalAutoencoder)
    return loaded


def strings(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return simulate(SPACE.cardinalities, count, generator, balanced=False)


def test_the_round_trip_of_held_out_architectures_is_exact(
    trained: tuple[Path, dict[str, float]],
) -> None:
    assert trained[1]["token_accuracy"] >= 0.95
    assert trained[1]["exact_round_trip"] >= 0.80


def test_a_fresh_controller_is_the_encoder(coder: CategoricalAutoencoder) -> None:
    tokens = strings(100)
    with torch.no_grad():
        difference = (coder.new_controller()(tokens) - coder.encode(tokens)).abs().max()
    assert float(difference) < 1e-6


def test_every_point_of_the_embedding_decodes_to_a_network(coder: CategoricalAutoencoder) -> None:
    z = torch.rand(50, coder.embedding_size, generator=torch.Generator().manual_seed(0))
    shape = ImageShape(1, 8, 10)
    for tokens in coder.decode(z).tolist():
        network = SPACE.build(make_genotype(SPACE, tokens), shape).eval()
        assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_larger_moves_in_the_embedding_change_more_tokens(coder: CategoricalAutoencoder) -> None:
    z = coder.encode(strings(500))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    unit = noise / noise.norm(dim=1, keepdim=True)
    changed = [
        float(
            (coder.decode(z) != coder.decode((z + size * unit).clamp(0, 1))).sum(1).float().mean()
        )
        for size in (0.01, 0.05, 0.2, 0.8)
    ]
    assert changed == sorted(changed)
    assert changed[0] < changed[-1]


def test_a_coder_of_another_space_or_setting_or_a_damaged_one_is_refused(
    trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    other = make_space(ChainSpaceConfig(num_layers=3))
    with pytest.raises(CheckpointError, match="space is 'chain-5x4"):
        load_autoencoder(trained[0], OPTIONS, other)
    with pytest.raises(CheckpointError, match="autoencoder is"):
        load_autoencoder(trained[0], OPTIONS.model_copy(update={"hidden_size": 64}), SPACE)
    damaged = bytearray((trained[0] / "autoencoder.pt").read_bytes())
    damaged[-100] ^= 1
    (tmp_path / "autoencoder.pt").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged"):
        load_autoencoder(tmp_path, OPTIONS, SPACE)


def test_training_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    options = AutoencoderOptions(steps=20)
    before = torch.get_rng_state()
    losses = []
    for seed in (0, 0, 1):
        fresh = make_autoencoder(SPACE.cardinalities, options, seed=seed)
        generator = Seeds(seed).torch("coder")
        losses.append(train_autoencoder(fresh, SPACE.cardinalities, options, generator)["loss"])
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(before, torch.get_rng_state())


def test_the_released_autoencoder_beats_the_mean_and_stays_in_the_vocabulary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """8 tokens of 8 values into 2 numbers, narrower than published so that the test is quick.

    Predicting the mean of every token has a squared error of (8^2 - 1) / 12 = 5.25.
    """
    cardinalities = (8,) * 8
    monkeypatch.setattr(ReleasedAutoencoder, "wide", 30)
    monkeypatch.setattr(ReleasedAutoencoder, "narrow", 10)
    options = PaperAutoencoderOptions(lr=2e-3, steps=4000, num_strings=20_000)
    coder = make_autoencoder(cardinalities, options, seed=0)
    assert isinstance(coder, ReleasedAutoencoder)
    metrics = train_autoencoder(coder, cardinalities, options, Seeds(0).torch("coder"))
    assert metrics["loss"] < 5.25 * 0.95
    z = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    decoded = coder.decode(z)
    assert decoded.min() >= 0
    assert decoded.max() <= 7


def test_published_sizes() -> None:
    """Parameters of the released widths for 60 tokens and 20 dimensions, by hand."""
    coder = make_autoencoder((29,) * 60, PaperAutoencoderOptions(), seed=0)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (coder.encoder, coder.decoder)]
    assert sizes == [10_090_880, 10_087_260]


def test_balanced_strings_hold_no_value_more_than_four_times() -> None:
    drawn = simulate((29,) * 60, 50, torch.Generator().manual_seed(0), balanced=True)
    counts = torch.stack([row.bincount(minlength=29) for row in drawn])
    assert int(counts.max()) == 4
    assert int(drawn.min()) == 0
    assert int(drawn.max()) == 28


def test_the_release_trains_at_the_configured_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReleasedAutoencoder, "wide", 2)
    monkeypatch.setattr(ReleasedAutoencoder, "narrow", 2)
    rates: list[float] = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, closure: None = None) -> None:
        rates.append(self.param_groups[0]["lr"])
        original(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    options = PaperAutoencoderOptions(lr=1e-3, steps=4, num_strings=100)
    released = make_autoencoder((8,) * 8, options, seed=0)
    train_autoencoder(released, (8,) * 8, options, Seeds(0).torch("strings"))
    assert rates == [1e-3] * 4
