"""memory-ENAS, ENAS and random search with shared weights, on real digits."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from callbacks import CallbacksOf
from shared_tasks import METHOD_NAMES, are_equal, kept, make_task, run, train_shared
from torch import Tensor

from nascore.config import BudgetConfig
from nascore.errors import InputError, WeightsDivergedError
from nascore.methods.enas import method as enas
from nascore.methods.enas import shared_search
from nascore.methods.enas.learner import Learner
from nascore.methods.enas.options import EnasOptions
from nascore.methods.enas.policy import UniformPolicy
from nascore.methods.enas.shared_search import SharedSearch
from nascore.methods.registry import METHODS
from nascore.results import SearchResult
from nascore.seeding import Seeds

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
