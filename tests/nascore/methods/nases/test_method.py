"""Stage B: the proposer (papers' properties 3, 6, 7, 8), on a synthetic reward and real spaces."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from children import make_child
from nases_ablation import VARIANTS, WithoutSurrogate

from nascore.errors import CheckpointError
from nascore.genotype import Genotype
from nascore.methods.nases import method, paper_release
from nascore.methods.nases.autoencoder import ReleasedAutoencoder
from nascore.methods.nases.options import (
    AutoencoderOptions,
    NasesOptions,
    NasesPaperOptions,
    PaperAutoencoderOptions,
)
from nascore.methods.nases.surrogate import Surrogate
from nascore.results import Child
from nascore.search.proposer import Proposer
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace, make_space, sample
from nascore.spaces.chain.config import ChainSpaceConfig

SPACE = make_space(ChainSpaceConfig(num_layers=3))
OPTIONS = NasesOptions(autoencoder=AutoencoderOptions(steps=500), num_random=10)
PAPER = NasesPaperOptions(
    autoencoder=PaperAutoencoderOptions(lr=1e-3, steps=300, num_strings=5000),
    controller_lr=1e-4,
)
TARGET = np.array([2, 5, 1, 7] * 3)


@pytest.fixture(scope="module", autouse=True)
def small_release() -> Iterator[None]:
    """The released autoencoder with narrow layers, which is quick to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReleasedAutoencoder, "wide", 6)
        patch.setattr(ReleasedAutoencoder, "narrow", 4)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nases")
    method.prepare_proposer(OPTIONS, SPACE, Seeds(0), made / "ours")
    paper_release.prepare_proposer(PAPER, SPACE, Seeds(0), made / "paper")
    return made


def score(genotype: Genotype) -> float:
    """A synthetic accuracy: how close the tokens are to a target."""
    return 1 - float(np.abs(np.array(genotype.tokens) - TARGET).mean()) / 7


def make(folder: Path, seed: int, *, paper: bool = False, **changes: object) -> Proposer:
    if paper:
        return paper_release.make_proposer(
            PAPER, SPACE, Seeds(seed), "method", controller=folder / "paper"
        )
    options = OPTIONS.model_copy(update=changes)
    return method.NasesProposer.load(folder / "ours", options, SPACE, Seeds(seed))


def play(proposer: Proposer, count: int, history: tuple[Child, ...] = ()) -> list[Child]:
    children = list(history)
    for number in range(len(history), count):
        genotype = proposer.suggest(number)
        # A few fail, as they do in real searches.
        child = make_child(number, genotype, None if number % 11 == 7 else score(genotype))
        proposer.update(child)
        children.append(child)
    return children


def genotypes(children: list[Child]) -> list[Genotype]:
    return [child.genotype for child in children]


@pytest.mark.parametrize("paper", [False, True])
def test_same_seed_same_proposals_other_seed_other(folder: Path, paper: bool) -> None:
    one, two, other = (genotypes(play(make(folder, seed, paper=paper), 35)) for seed in (0, 0, 1))
    assert one == two != other


def test_same_proposals_in_a_new_process(folder: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from test_method import genotypes, make, play\n"
        "print(genotypes(play(make(Path(sys.argv[1]), 0), 20)))"
    )
    command = [sys.executable, "-c", code, str(folder), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(genotypes(play(make(folder, 0), 20)))


@pytest.mark.parametrize("paper", [False, True])
def test_rebuilt_from_history_it_proposes_what_the_old_one_would_have(
    folder: Path, paper: bool
) -> None:
    whole = play(make(folder, 3, paper=paper), 40)
    for cut in (1, 9, 10, 11, 29, 30, 31, 37):
        rebuilt = make(folder, 3, paper=paper)
        for child in whole[:cut]:
            rebuilt.update(child)
        assert genotypes(play(rebuilt, min(cut + 4, 40), tuple(whole[:cut]))) == genotypes(
            whole[: min(cut + 4, 40)]
        ), f"rebuilt after {cut} children"


@pytest.mark.parametrize("paper", [False, True])
def test_the_decoder_is_frozen_in_the_search(folder: Path, paper: bool) -> None:
    proposer = make(folder, 0, paper=paper)
    assert isinstance(proposer, method.NasesProposer | paper_release.ReleasedNases)
    coder = proposer.autoencoder
    before = {name: value.clone() for name, value in coder.state_dict().items()}
    play(proposer, 40)
    for name, value in coder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_controller_moves_and_restarts_as_the_encoder_every_cycle(folder: Path) -> None:
    proposer = make(folder, 0)
    assert isinstance(proposer, method.NasesProposer)
    tokens = torch.tensor([list(TARGET)])

    def drift() -> float:
        with torch.no_grad():
            moved = proposer._controller(tokens) - proposer.autoencoder.encode(tokens)
        return float(moved.abs().max())

    children = play(proposer, 25)
    assert drift() > 1e-4
    finished = sum(child.objective is not None for child in children)
    while finished < OPTIONS.cycle:
        (child,) = play(proposer, len(children) + 1, tuple(children))[len(children) :]
        children.append(child)
        finished += child.objective is not None
    proposer.suggest(len(children))
    assert drift() < 1e-6


def test_a_search_that_no_longer_improves_climbs_from_elsewhere(folder: Path) -> None:
    """A child with the best possible accuracy ends all improvement: `patience` children later come
    random ones, that depend on nothing before them, and the next climb ends the same way."""
    proposer, proposed = make(folder, 0, patience=4, num_restart_random=2), []
    for number in range(26):
        proposed.append(proposer.suggest(number))
        accuracy = 1.0 if number == 0 else 0.5
        proposer.update(make_child(number, proposed[-1], accuracy))
    rng = [Seeds(0).numpy("method", "suggest", number) for number in range(26)]
    uniform = [sample(SPACE, one) for one in rng]
    is_random = [a == b for a, b in zip(proposed, uniform, strict=True)]
    # The first climb has 10 random children and 4 without improvement; a later one 2 and 4.
    starts = [number for number in range(26) if is_random[number]]
    assert starts == [*range(10), 14, 15, 20, 21]


def test_no_network_is_proposed_twice(folder: Path) -> None:
    keys = [SPACE.canonical(g) for g in genotypes(play(make(folder, 0), 80))]
    assert len(set(keys)) == len(keys)


def last_twenty(folder: Path, seed: int, **changes: object) -> float:
    children = play(make(folder, seed, **changes), 60)[-20:]
    return float(np.mean([score(child.genotype) for child in children]))


def test_search_beats_random_strings_and_pretraining_beats_random_weights(
    folder: Path, tmp_path: Path
) -> None:
    """Median over 5 seeds of the mean reward of the last 20 of 60 episodes (papers' property 6)."""
    untrained = AutoencoderOptions(steps=1)
    method.pretrain_autoencoder(untrained, SPACE, Seeds(0), tmp_path / "ours")
    seeds = range(5)
    ours = [last_twenty(folder, seed) for seed in seeds]
    without = [last_twenty(tmp_path, seed, autoencoder=untrained) for seed in seeds]
    rng = np.random.default_rng(0)
    random = [float(np.mean([score(sample(SPACE, rng)) for _ in range(20)])) for _ in seeds]
    assert min(ours) > max(random)
    assert np.median(ours) > np.median(without) + 0.01


def test_the_controller_alone_learns_without_the_surrogate(folder: Path) -> None:
    rng = np.random.default_rng(0)
    random = np.mean([score(sample(SPACE, rng)) for _ in range(200)])
    alone = []
    for seed in range(5):
        proposer = WithoutSurrogate.load(folder / "ours", OPTIONS, SPACE, Seeds(seed))
        children = play(proposer, 60)[-20:]
        alone.append(np.mean([score(child.genotype) for child in children]))
    assert np.median(alone) > random + 0.03


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_each_variant_of_the_ablation_proposes_otherwise(
    folder: Path, variant: type[method.NasesProposer]
) -> None:
    changed = genotypes(play(variant.load(folder / "ours", OPTIONS, SPACE, Seeds(0)), 30))
    usual = genotypes(play(make(folder, 0), 30))
    assert usual[: OPTIONS.num_random] == changed[: OPTIONS.num_random]
    assert usual != changed


def test_the_surrogate_forgets_all_but_the_best_and_the_latest(folder: Path) -> None:
    class Forgetful(Surrogate):
        memory = 12

    class Proposer(method.NasesProposer):
        surrogate_class = Forgetful

    short = Proposer.load(folder / "ours", OPTIONS, SPACE, Seeds(0))
    usual, changed = genotypes(play(make(folder, 0), 30)), genotypes(play(short, 30))
    assert usual[:12] == changed[:12]
    assert usual != changed


def test_without_a_training_accuracy_the_objective_is_the_reward(folder: Path) -> None:
    proposer = make(folder, 0)
    assert isinstance(proposer, method.NasesProposer)
    genotype = proposer.suggest(0)
    proposer.update(Child(number=0, genotype=genotype, objective=-0.5))
    proposer.update(Child(number=1, genotype=genotype, objective=0.5, train_objective=0.6))
    assert proposer._observations.rewards.tolist() == [-0.5, pytest.approx(0.4**3)]


def test_two_streams_of_one_seed_share_nothing(folder: Path) -> None:
    one, other = (
        method.make_proposer(OPTIONS, SPACE, Seeds(0), stream, controller=folder / "ours")
        for stream in ("method", "other")
    )
    assert not set(genotypes(play(one, 12))) & set(genotypes(play(other, 12)))


def test_an_autoencoder_is_prepared_once_and_refused_for_other_options(folder: Path) -> None:
    other = OPTIONS.model_copy(update={"autoencoder": AutoencoderOptions(steps=501)})
    with pytest.raises(CheckpointError, match="autoencoder is"):
        method.make_proposer(other, SPACE, Seeds(0), "method", controller=folder / "ours")


@pytest.mark.parametrize(
    "changes",
    [
        {"expected_state_mutations": 0.0},
        {"expected_coordinate_moves": 0.0, "controller_steps": 0},
        {"num_elites": 1},
        {"num_candidates": 16},
        {"patience": 3},
    ],
    ids=str,
)
def test_each_setting_changes_the_proposals_after_the_random_start(
    folder: Path, changes: dict[str, object]
) -> None:
    usual = genotypes(play(make(folder, 0), 30))
    changed = genotypes(play(make(folder, 0, **changes), 30))
    assert usual[: OPTIONS.num_random] == changed[: OPTIONS.num_random]
    assert usual != changed
    assert changed == genotypes(play(make(folder, 0, **changes), 30))


def test_options_of_the_released_autoencoder_stay_the_releases_when_one_is_set() -> None:
    options = NasesPaperOptions.model_validate({"autoencoder": {"steps": 7}})
    assert (options.autoencoder.lr, options.autoencoder.steps) == (1e-5, 7)


def test_children_that_all_fail_or_all_score_the_same_do_not_stop_it(folder: Path) -> None:
    for accuracy in (None, 0.5):
        proposer = make(folder, 0)
        proposed = set()
        for number in range(25):
            genotype = proposer.suggest(number)
            proposed.add(genotype)
            proposer.update(make_child(number, genotype, accuracy))
        assert len(proposed) == 25


class MixedTokens:
    """Tokens with different numbers of values, one of them without a choice."""

    identifier = "mixed"
    cardinalities = (2, 7, 1, 4)

    def canonical(self, genotype: Genotype) -> str:
        return str(genotype.tokens)


def test_tokens_may_have_different_numbers_of_values(tmp_path: Path) -> None:
    space: SearchSpace = MixedTokens()  # type: ignore[assignment]
    options = NasesOptions(autoencoder=AutoencoderOptions(steps=200))
    method.prepare_proposer(options, space, Seeds(0), tmp_path)
    proposer = method.NasesProposer.load(tmp_path, options, space, Seeds(0))
    best = 0.0
    for number in range(20):
        tokens = proposer.suggest(number).tokens
        assert all(0 <= t < size for t, size in zip(tokens, space.cardinalities, strict=True))
        value = (tokens[1] + 7 * (tokens[0] == 1) + 3 * (tokens[3] == 2)) / 16
        best = max(best, value)
        child = make_child(number, Genotype("mixed", tokens), value)
        proposer.update(child)
    assert best == 1.0, "the best of 56 within 20"


class FewNetworks:
    """A space of 27 architectures, to be exhausted."""

    identifier = "few"
    cardinalities = (3, 3, 3)

    def canonical(self, genotype: Genotype) -> str:
        return "".join(map(str, sorted(genotype.tokens)))  # 10 different networks


def test_workers_that_know_of_each_other_propose_apart(folder: Path) -> None:
    """Six workers that ask before any of them has ended: six networks, none far from promising."""
    history = play(make(folder, 0), 20)
    pending: dict[int, Genotype] = {}
    for number in range(20, 26):
        worker = make(folder, 0)
        for child in history:
            worker.update(child)
        pending[number] = worker.suggest(number, dict(pending))
    seen = {SPACE.canonical(child.genotype) for child in history}
    keys = {SPACE.canonical(genotype) for genotype in pending.values()}
    assert len(keys) == 6
    assert not keys & seen


def test_a_space_is_exhausted_and_then_repeats(tmp_path: Path) -> None:
    space: SearchSpace = FewNetworks()  # type: ignore[assignment]
    options = NasesOptions(autoencoder=AutoencoderOptions(steps=200), num_random=4)
    method.prepare_proposer(options, space, Seeds(0), tmp_path)

    def new() -> method.NasesProposer:
        return method.NasesProposer.load(tmp_path, options, space, Seeds(0))

    proposer, proposed = new(), []
    children: list[Child] = []
    for number in range(14):
        genotype = proposer.suggest(number)
        proposed.append(space.canonical(genotype))
        value = sum(genotype.tokens) / 6
        children.append(make_child(number, genotype, value))
        proposer.update(children[-1])
    assert len(set(proposed[:10])) == 10
    for cut in (9, 10, 12):
        rebuilt = new()
        for child in children[:cut]:
            rebuilt.update(child)
        assert rebuilt.suggest(cut) == children[cut].genotype


def test_the_releases_loss_cannot_reach_targets_below_a_half() -> None:
    """However low the controller's output, the loss towards 0 stays at -log(1 - sigmoid(0))."""
    output = torch.sigmoid(torch.tensor([[-50.0]]))
    loss = paper_release.bernoulli_loss(output, torch.tensor([[0.0]]), torch.ones(1))
    assert float(loss) == pytest.approx(math.log(2))
