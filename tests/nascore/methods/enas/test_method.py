"""memory-ENAS, ENAS and random search with shared weights, on real digits."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from callbacks import CallbacksOf
from shared_tasks import METHOD_NAMES, make_task
from torch import Tensor

from nascore.config import BudgetConfig
from nascore.context import SearchContext
from nascore.errors import InputError, WeightsDivergedError
from nascore.methods.common import one_shot_loop
from nascore.methods.enas import method as enas
from nascore.methods.enas import shared_search
from nascore.methods.enas.checkpoint import KIND
from nascore.methods.enas.learner import Learner
from nascore.methods.enas.options import EnasOptions
from nascore.methods.enas.policy import UniformPolicy
from nascore.methods.enas.shared_search import Ranked, SharedSearch
from nascore.methods.registry import METHODS
from nascore.results import SearchResult
from nascore.seeding import Seeds
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.training import checkpoint

KILLED = Path(__file__).parents[3] / "support" / "killed_search.py"


def run(task: SearchContext) -> SearchResult:
    enas.pretrain(task)
    return enas.search(task)


def train_shared(task: SearchContext) -> list[Ranked]:
    """The method's arm without the training of its finalists."""
    enas.pretrain(task)
    arm = SharedSearch(task, "method", enas.load_policy(task)[0])
    arm.run()
    return arm.rank()


def kept(task: SearchContext, arm: str = "method") -> dict[str, Tensor]:
    """All tensors that an arm leaves behind."""
    return checkpoint.load(task.state / f"{arm}.ckpt", KIND)[0]


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit; NaN is the reward of what was never judged."""
    return one.keys() == other.keys() and all(
        torch.allclose(one[k], other[k], rtol=0, atol=0, equal_nan=True) for k in one
    )


def outcome(result: SearchResult) -> Any:
    arms = [arm for arm in (result.arm, result.control) if arm is not None]
    children = [[(c.genotype, c.valid_accuracy) for c in arm.children] for arm in arms]
    return result.genotype, result.valid_accuracy, children


# --- a search -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_both_arms_train_their_finalists_and_the_verdict_compares_them(
    tmp_path: Path, digits_folder: Path, method: str
) -> None:
    reported: dict[str, list[int]] = {}
    task = dataclasses.replace(
        make_task(tmp_path, digits_folder, method),
        callbacks=CallbacksOf(
            on_metrics=lambda metrics, step: [
                reported.setdefault(k, []).append(step) for k in metrics
            ]
        ),
    )
    result = run(task)
    assert result.control is not None
    assert len(result.arm.children) == len(result.control.children) == 5
    assert result.valid_accuracy == max(c.valid_accuracy or 0 for c in result.arm.children)
    assert result.verdict is not None
    assert result.verdict["top_k"] == 5
    assert result.control.method == METHODS[method].control
    for arm in (result.arm, result.control):
        keys = [task.space.canonical(child.genotype) for child in arm.children]
        assert len(set(keys)) == 5, "finalists are different networks"
    assert ("policy/method/reward" in reported) == (method != "random-ws")
    assert "policy/control/reward" not in reported
    assert not are_equal(kept(task, "method"), kept(task, "control")), "arms share nothing"


@pytest.mark.slow
def test_it_searches_the_micro_space_and_goes_on_where_it_was_killed(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot_loop, "CHECKPOINT_EVERY_S", 0.0)
    micro = EnasMicroSpaceConfig(num_blocks=2, search_channels=4, final_channels=4)
    whole, parts = (
        make_task(tmp_path / name, digits_folder, space=micro, control=False)
        for name in ("whole", "parts")
    )
    expected = run(whole)
    enas.pretrain(parts)
    with monkeypatch.context() as patched:
        kill_at(20, patched)
        with pytest.raises(Killed):
            enas.search(parts)
    assert outcome(enas.search(parts)) == outcome(expected)
    assert expected.genotype.space == "enas-micro-2"
    assert are_equal(kept(parts), kept(whole))


def test_finalists_are_the_first_by_shared_weights(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path, digits_folder, "random-ws", control=False)
    ranking = train_shared(task)
    assert len(ranking) == 12
    assert ranking == sorted(ranking, key=lambda ranked: -ranked.score)
    found = run(task)
    assert [c.genotype for c in found.arm.children] == [r.genotype for r in ranking[:5]]


def test_the_same_seed_gives_the_same_search_and_another_another(
    tmp_path: Path, digits_folder: Path
) -> None:
    found = [
        train_shared(make_task(tmp_path / name, digits_folder, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_memory_of_no_weight_is_plain_enas_bit_for_bit(
    tmp_path: Path, digits_folder: Path
) -> None:
    plain = make_task(tmp_path / "plain", digits_folder, "enas")
    memory = {"capacity": 40, "warmup": 20, "batch_size": 8, "weight": 0.0}
    without = make_task(tmp_path / "without", digits_folder, "memory-enas", memory=memory)
    assert train_shared(plain) == train_shared(without)
    plain_tensors, tensors = kept(plain), kept(without)
    assert all(torch.equal(tensors[name], plain_tensors[name]) for name in plain_tensors)
    remembering = make_task(tmp_path / "with", digits_folder, "memory-enas")
    train_shared(remembering)
    assert not all(torch.equal(kept(remembering)[k], v) for k, v in plain_tensors.items())


def test_shared_weights_learn(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(
        tmp_path,
        digits_folder,
        "random-ws",
        budget=BudgetConfig(steps=250),
        weights={"batch_size": 32, "lr": 0.1},
    )
    arm = SharedSearch(task, "method", UniformPolicy(task.space, task.seeds, "method"))
    before = arm.rank()[4].score
    arm.run()
    assert before < 0.2
    assert arm.rank()[4].score > 0.4, "a good third of the candidates is far above chance"


# --- budgets --------------------------------------------------------------------------------


@pytest.mark.timing
def test_a_budget_of_seconds_holds_for_each_arm(tmp_path: Path, digits_folder: Path) -> None:
    budget = BudgetConfig(seconds=4)
    result = run(make_task(tmp_path, digits_folder, budget=budget))
    assert result.control is not None
    for arm in (result.arm, result.control):
        assert arm.children
        assert 3.5 < arm.seconds < 4.6


def test_a_search_that_is_stopped_returns_its_best_by_shared_weights(
    tmp_path: Path, digits_folder: Path
) -> None:
    shares: list[float] = []
    task = dataclasses.replace(
        make_task(tmp_path, digits_folder, budget=BudgetConfig(steps=10_000)),
        callbacks=CallbacksOf(
            on_progress=lambda arm, share: shares.append(share),
            should_stop=lambda: len(shares) > 2,
        ),
    )
    result = run(task)
    assert 0 < max(shares) < 0.1
    assert result.verdict is None
    assert 0 <= result.valid_accuracy <= 1
    assert SearchResult.from_dict(result.to_dict()) == result


def test_weights_that_diverge_are_told(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path, digits_folder, weights={"batch_size": 32, "lr": 1e30})
    with pytest.raises(WeightsDivergedError, match=r"lower search.options.weights.lr=1e\+30"):
        run(task)


# --- resuming -------------------------------------------------------------------------------


class Killed(BaseException):
    """As good as kill -9: nothing is caught, nothing is written."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies in the middle of a weight step, after the gradient and before the update."""
    real = SharedSearch._train_weights

    def dying(self: SharedSearch, *given: Any) -> Tensor:
        if self._step == step:
            monkeypatch.setattr(self._weights._sgd, "step", die)
        return real(self, *given)

    monkeypatch.setattr(SharedSearch, "_train_weights", dying)


def die() -> None:
    raise Killed


# Deaths in steps, and in the writing of the first or second checkpoint of a process.
DEATHS = ("0", "3", "15", "s1", "16", "17", "31", "s2", "50", "64", "79", "95")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_killed_again_and_again_it_goes_on_bit_for_bit(
    tmp_path: Path, digits_folder: Path, method: str
) -> None:
    """Real processes, which get SIGKILL."""

    def work(folder: Path, *deaths: str) -> list[str]:
        command = [sys.executable, str(KILLED), method, str(folder), str(digits_folder), *deaths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert work(whole) == ["0"]
    assert work(parts, *DEATHS) == [*["-9"] * len(DEATHS), "0"]
    assert (parts / "outcome.json").read_text() == (whole / "outcome.json").read_text()
    for arm in ("method", "control"):
        tensors = [checkpoint.load(at / f"{arm}.ckpt", KIND)[0] for at in (whole, parts)]
        assert are_equal(*tensors)


def test_a_finished_search_does_nothing_again(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path, digits_folder)
    expected = outcome(run(task))

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(SharedSearch, "_train_weights", never)
    monkeypatch.setattr("nascore.training.child.ImageTraining.train", never)
    assert outcome(enas.search(task)) == expected


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path, digits_folder: Path) -> None:
    run(make_task(tmp_path, digits_folder))
    with pytest.raises(InputError, match="of a search with other settings"):
        enas.search(make_task(tmp_path, digits_folder, seed=1))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "another kind"])
def test_a_damaged_checkpoint_is_never_loaded(
    tmp_path: Path, digits_folder: Path, damage: str
) -> None:
    task = make_task(tmp_path, digits_folder)
    run(task)
    path = tmp_path / "method.ckpt"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    else:
        checkpoint.save(path, {}, {}, "something else")
    with pytest.raises(InputError, match="delete it to start"):
        enas.search(task)


# --- several processes ----------------------------------------------------------------------


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many architectures were judged with shared weights so far."""
    count = 0
    real = shared_search.SharedSearch._evaluate

    def counting(self: SharedSearch, tokens_NT: Tensor, *batch: Tensor) -> Tensor:
        nonlocal count
        count += len(tokens_NT)
        return real(self, tokens_NT, *batch)

    monkeypatch.setattr(SharedSearch, "_evaluate", counting)
    return lambda: count


def test_random_search_judges_nothing_while_it_trains(
    tmp_path: Path, digits_folder: Path, judged: Callable[[], int]
) -> None:
    task = make_task(tmp_path, digits_folder, "random-ws", control=False)
    SharedSearch(task, "method", UniformPolicy(task.space, task.seeds, "method")).run()
    assert judged() == 0


# --- instruments ----------------------------------------------------------------------------


def test_the_diagnosis_of_the_controller_is_reported_and_changes_nothing(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 steps with an update every 4: updates 0 to 5, and a diagnosis at 0, 2 and 4."""
    monkeypatch.setattr(shared_search, "DIAGNOSE_EVERY", 2)
    seen: dict[int, dict[str, float]] = {}
    watched = dataclasses.replace(
        make_task(tmp_path / "watched", digits_folder, control=False),
        callbacks=CallbacksOf(
            on_metrics=lambda metrics, step: seen.setdefault(step, {}).update(metrics)
        ),
    )
    run(watched)
    diagnosed = [step for step in seen if "diagnosis/spearman_edit" in seen[step]]
    assert sorted(diagnosed) == [0, 2, 4]
    assert seen[0]["diagnosis/mean_kl"] != seen[4]["diagnosis/mean_kl"]
    monkeypatch.setattr(enas, "_instruments", lambda *given: None)
    plain = make_task(tmp_path / "plain", digits_folder, control=False)
    run(plain)
    assert are_equal(kept(plain), kept(watched))


def test_the_controller_of_a_search_is_read_back(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path, digits_folder)
    train_shared(task)
    assert isinstance(task.options, EnasOptions)
    now, initial = enas.load_controllers(
        tmp_path, "memory-enas", task.space, task.options, task.seeds
    )
    tensors = kept(task)
    for name, tensor in now.state_dict().items():
        assert torch.equal(tensor, tensors[f"policy.controller.{name}"])
    assert not are_equal(now.state_dict(), initial.state_dict())
    learner = Learner(task.space.cardinalities, task.options, task.seeds, "controller")
    assert are_equal(learner.controller.state_dict(), initial.state_dict())


def test_a_controller_of_another_search_or_none_is_refused(
    tmp_path: Path, digits_folder: Path
) -> None:
    task = make_task(tmp_path, digits_folder)
    options = task.options
    assert isinstance(options, EnasOptions)
    with pytest.raises(InputError, match="has not saved one yet"):
        enas.load_controllers(tmp_path, "memory-enas", task.space, options, task.seeds)
    train_shared(task)
    with pytest.raises(InputError, match="other settings"):
        enas.load_controllers(tmp_path, "memory-enas", task.space, options, Seeds(1))
    path = tmp_path / "method.ckpt"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="damaged"):
        enas.load_controllers(tmp_path, "memory-enas", task.space, options, task.seeds)


@pytest.mark.parametrize("arm", ["method", "control"])
def test_any_architecture_is_judged_with_the_shared_weights_that_an_arm_has_left(
    tmp_path: Path, digits_folder: Path, arm: str
) -> None:
    task = make_task(tmp_path, digits_folder)
    enas.pretrain(task)
    policy = enas.load_policy(task)[0]
    if arm == "control":
        policy = UniformPolicy(task.space, task.seeds, "control")
    search = SharedSearch(task, arm, policy)
    search.run()
    ranking = search.rank()
    found = enas.evaluate_with_shared_weights(task, arm, [one.genotype for one in ranking])
    assert found == [one.score for one in ranking]
    (tmp_path / f"{arm}.ckpt").unlink()
    with pytest.raises(InputError, match="has not saved one yet"):
        enas.evaluate_with_shared_weights(task, arm, [ranking[0].genotype])
