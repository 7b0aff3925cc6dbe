"""The methods as Optuna samplers: Optuna's own contract, and what this project promises beside."""

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from nascore.errors import CheckpointError, GenotypeNotInSpace, InputError
from nascore.genotype import Genotype
from nascore.methods.baselines.options import LocalSearchOptions
from nascore.methods.nases.autoencoder import ReleasedAutoencoder
from nascore.methods.nases.options import NasesOptions
from nascore.optuna_sampler import NasesSampler, ProposerSampler
from nascore.optuna_sampler.parameters import PROPOSED, ParameterSpace, num_values
from nascore.optuna_sampler.trial_feed import TrialFeed
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending

ROOT = Path(__file__).parents[3]

# Little is learned before the first trial, and the policy acts from the third trial on.
SMALL = {
    "autoencoder": {"steps": 20, "num_strings": 200, "hidden_size": 8, "batch_size": 16},
    "num_random": 1,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "nases": SMALL,
    "random": {},
    "regularized-evolution": {"population_size": 2, "sample_size": 1},
    "local-search": {},
    "tpe": {"startup_trials": 2},
}
SPACE: dict[str, BaseDistribution] = {
    "op": CategoricalDistribution(("conv3", "conv5", "pool", None)),
    "skip": CategoricalDistribution((False, True)),
    "depth": IntDistribution(2, 12, step=2),
    "width": IntDistribution(1, 9, log=True),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
}


def make(method: str, **settings: Any) -> ProposerSampler:
    settings = {"seed": 0, "options": OPTIONS.get(method), **settings}
    return ProposerSampler(method, warn_independent_sampling=False, **settings)


def loss(params: Mapping[str, Any]) -> float:
    """At least 0, and rugged enough that a method does not end at once."""
    return (
        (params["op"] != "conv5")
        + (not params["skip"])
        + abs(params["depth"] - 8) / 4
        + abs(params["width"] - 3) / 3
        + params["dropout"]
    )


def suggest(trial: optuna.Trial, *names: str) -> dict[str, Any]:
    return {name: trial._suggest(name, SPACE[name]) for name in names or SPACE}


def objective(trial: optuna.Trial) -> float:
    """Asks in another order than the names'; fails and is pruned now and then."""
    params = suggest(trial, *sorted(SPACE, reverse=True))
    if trial.number % 7 == 5:
        raise optuna.TrialPruned
    return float("nan") if trial.number % 11 == 8 else -loss(params)


def run(sampler: BaseSampler, num_trials: int, **settings: Any) -> optuna.Study:
    study = optuna.create_study(**{"direction": "maximize", **settings}, sampler=sampler)
    study.optimize(objective, n_trials=num_trials)
    return study


def params_of(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    """Written by Optuna for its own samplers; nothing of it is left out."""

    @pytest.fixture(params=OPTIONS)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: make(request.param)


# --- use ------------------------------------------------------------------------------------


def test_the_example_of_the_docs_finds_the_optimum(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/search.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["study"].best_value == 9  # one of 262,144
    assert "'op0': 'conv3'" in capsys.readouterr().out


@pytest.mark.parametrize("method", OPTIONS)
def test_minimising_a_loss_is_maximising_its_negative(method: str) -> None:
    options = SMALL if method == "nases" else {}

    def solve(direction: str, sign: float) -> optuna.Study:
        study = optuna.create_study(direction=direction, sampler=make(method, options=options))
        study.optimize(lambda trial: sign * loss(suggest(trial)), n_trials=40)
        return study

    least = solve("minimize", 1)
    assert params_of(least) == params_of(solve("maximize", -1))
    assert least.best_value < 1.5
    assert params_of(least) != params_of(solve("maximize", 1)) or method == "random"


@pytest.mark.parametrize("unit", [1e-9, 1e5, 1e200])
def test_any_unit_will_do(unit: float, recwarn: pytest.WarningsRecorder) -> None:
    study = optuna.create_study(sampler=NasesSampler(seed=3, search_space=SPACE))
    study.optimize(lambda trial: unit * (7 + loss(suggest(trial))), n_trials=60)
    assert study.best_value / unit == pytest.approx(7, abs=0.4)  # one of 2,592 is 7
    assert [w for w in recwarn if issubclass(w.category, RuntimeWarning)] == []


@pytest.mark.parametrize("method", OPTIONS)
def test_another_unit_changes_nothing(method: str) -> None:
    def solve(a: float, b: float) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=make(method))
        study.optimize(lambda trial: a + b * loss(suggest(trial)), n_trials=30)
        return params_of(study)

    assert solve(-100, 64) == solve(0, 1)


def test_a_continuous_parameter_is_drawn_beside_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def mixed(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1) * trial.suggest_int(
            "a", 1, 9
        )

    def solve(**settings: Any) -> optuna.Study:
        study = optuna.create_study(sampler=NasesSampler(seed=0, options=SMALL, **settings))
        study.optimize(mixed, n_trials=20)
        return study

    study = solve()
    assert len({params[name] for params in params_of(study) for name in "xy"}) == 40
    assert [record.getMessage()[:32] for record in caplog.records] == [
        f"Parameter '{name}' is drawn at random" for name in "xy"
    ]
    assert PROPOSED in study.trials[-1].system_attrs
    caplog.clear()
    assert params_of(solve(warn_independent_sampling=False)) == params_of(study)
    assert caplog.records == []


def test_a_parameter_of_some_trials_is_drawn_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def conditional(trial: optuna.Trial) -> float:
        a = trial.suggest_categorical("a", "xyz")
        return float(a == "x") + trial.suggest_int(f"b-{a}", 0, 5)

    study = optuna.create_study(sampler=NasesSampler(seed=0, options=SMALL))
    study.optimize(conditional, n_trials=20)
    assert study.trials[-1].system_attrs[PROPOSED]["space"].startswith("parameters-1-")
    assert any("not all trials have it" in record.getMessage() for record in caplog.records)

    space: dict[str, BaseDistribution] = {f"b-{a}": IntDistribution(0, 5) for a in "xyz"}
    space["a"] = CategoricalDistribution("xyz")
    named = NasesSampler(seed=0, options=SMALL, search_space=space)
    caplog.clear()
    study = optuna.create_study(sampler=named, direction="maximize")
    study.optimize(conditional, n_trials=40)
    assert caplog.records == []
    assert study.best_value == 6
    assert {len(t.system_attrs[PROPOSED]["tokens"]) for t in study.trials} == {4}


def test_two_objectives_are_refused() -> None:
    sampler = NasesSampler(search_space=SPACE)
    study = optuna.create_study(directions=["maximize"] * 2, sampler=sampler)
    with pytest.raises(ValueError, match="NasesSampler cannot be used"):
        study.optimize(lambda trial: (loss(suggest(trial)), 0.0), n_trials=1)


def test_a_users_log_level_is_kept() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run(make("tpe"), 4)
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR


# --- the study is the only state ------------------------------------------------------------


def fresh_suggestion(study: optuna.Study, trial: optuna.Trial, method: str) -> dict[str, Any]:
    """What a sampler that has seen nothing of the study would have made of a trial."""
    sampler = make(method)
    frozen = study._storage.get_trial(trial._trial_id)
    space = sampler.infer_relative_search_space(study, frozen)
    return sampler.sample_relative(study, frozen, space)


@pytest.mark.parametrize("method", OPTIONS)
def test_a_new_sampler_proposes_what_the_old_one_does(method: str) -> None:
    """Three workers whose trials end in another order; some are given up, some are enqueued."""
    study = optuna.create_study(direction="maximize", sampler=make(method))
    rng = np.random.default_rng(0)
    running: list[optuna.Trial] = []
    num_compared = 0
    for number in range(45):
        if number % 8 == 7:
            study.enqueue_trial({"op": "pool", "depth": 4, "never": 1})
        trial = study.ask()
        fresh = fresh_suggestion(study, trial, method)
        if number % 8 != 7 and fresh:
            assert suggest(trial) == fresh
            num_compared += 1
        running.append(trial)
        if len(running) < 3:
            continue
        ended = running.pop(int(rng.integers(3)))
        if ended.number % 13 == 12:
            continue  # its worker has died
        value = -loss(suggest(ended))
        if ended.number % 9 == 4:
            study.tell(ended, state=TrialState.FAIL)
        else:
            study.tell(ended, value)
    assert num_compared > 30


_WORKER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import optuna
from test_sampler import make, objective
url, wanted, killed = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "killed"

def one(trial):
    value = objective(trial)
    if killed and trial.number == wanted - 1:
        os._exit(9)
    return value

study = optuna.create_study(
    study_name="s", storage=url, direction="maximize", load_if_exists=True, sampler=make("nases")
)
study.optimize(one, n_trials=wanted - len(study.trials))
"""


def worker(url: str, wanted: int, *, killed: bool) -> None:
    """A process that goes on with a study until it has `wanted` trials; dies in the last one."""
    arguments = [str(Path(__file__).parent), url, str(wanted), "killed" if killed else ""]
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, *arguments],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == (9 if killed else 0), done.stderr


def test_a_killed_search_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    worker(url, 10, killed=True)
    worker(url, 20, killed=False)
    study = optuna.load_study(study_name="s", storage=url)
    assert study.trials[9].state == TrialState.RUNNING

    whole = optuna.create_study(direction="maximize", sampler=make("nases"))
    whole.optimize(objective, n_trials=9)
    lost = whole.ask()
    suggest(lost)
    whole.optimize(objective, n_trials=10)
    assert params_of(study) == params_of(whole)


def test_a_seed_decides_and_none_is_a_new_one() -> None:
    first = params_of(run(make("nases"), 12))
    assert params_of(run(make("nases"), 12)) == first
    assert params_of(run(make("nases", seed=1), 12)) != first
    assert params_of(run(make("nases", seed=None), 12)) != first


def test_a_sampler_can_be_pickled_and_serves_another_study() -> None:
    sampler = make("nases")
    expected = params_of(run(sampler, 12))
    assert params_of(run(pickle.loads(pickle.dumps(sampler)), 12)) == expected
    assert params_of(run(sampler, 12)) == expected, "the other study is forgotten"


def test_a_pruner_that_hides_trials_hides_none_from_a_method() -> None:
    def reporting(trial: optuna.Trial) -> float:
        value = float(trial.suggest_int("a", 0, 15))
        trial.report(value, 1)
        trial.should_prune()
        return value

    pruner = optuna.pruners.HyperbandPruner(1, 9)
    space: dict[str, BaseDistribution] = {"a": IntDistribution(0, 15)}
    study = optuna.create_study(sampler=make("random", search_space=space), pruner=pruner)
    study.optimize(reporting, n_trials=16)
    assert sorted(params["a"] for params in params_of(study)) == list(range(16))


# --- several workers ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["nases", "random", "local-search"])
def test_what_is_under_way_is_not_proposed_again(method: str) -> None:
    """The second `ask` comes before the first trial has asked for any parameter."""
    space = {name: SPACE[name] for name in ("op", "skip")}
    study = optuna.create_study(sampler=make(method, search_space=space))
    trials = [study.ask() for _ in range(8)]
    assert len({str(suggest(trial, *space)) for trial in trials}) == 8


class SlowStorage(InMemoryStorage):
    """Writes as late as a database far away."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        time.sleep(0.02)
        super().set_trial_system_attr(trial_id, key, value)


def test_threads_wait_for_each_other() -> None:
    space = {name: SPACE[name] for name in ("op", "skip")}
    sampler = make("random", search_space=space)
    study = optuna.create_study(storage=SlowStorage(), sampler=sampler)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: str(suggest(study.ask(), *space)), range(8)))
    assert len(found) == 8


@pytest.mark.parametrize("method", OPTIONS)
def test_a_study_with_several_jobs(method: str) -> None:
    study = optuna.create_study(direction="maximize", sampler=make(method, search_space=SPACE))
    study.optimize(objective, n_trials=24, n_jobs=3)
    assert [trial.number for trial in study.trials] == list(range(24))
    if method in ("nases", "random"):
        assert len({str(sorted(params.items())) for params in params_of(study)}) == 24


# --- what a method is told ------------------------------------------------------------------


class Recorder:
    """A proposer that remembers what it was told."""

    def __init__(self, space: ParameterSpace) -> None:
        self.space = space
        self.children: list[Child] = []
        self.pending: Pending = NONE_PENDING

    def update(self, child: Child) -> None:
        self.children.append(child)

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        self.pending = pending
        return Genotype(self.space.identifier, (0,) * len(self.space.cardinalities))


START = datetime(2026, 1, 1)
AB: dict[str, BaseDistribution] = {"a": IntDistribution(0, 9), "b": CategoricalDistribution("xyz")}


def ended(number: int, seconds: int, value: float | None, **params: Any) -> FrozenTrial:
    params = {"a": 1, "b": "y", **params}
    distributions = {**AB, "a": IntDistribution(0, 20)}
    state = TrialState.COMPLETE if value is not None else TrialState.FAIL
    trial = create_trial(state=state, value=value, params=params, distributions=distributions)
    trial.number = number
    trial.datetime_complete = START + timedelta(seconds=seconds)
    return trial


def recorded() -> tuple[TrialFeed, list[Recorder]]:
    made: list[Recorder] = []

    def make_recorder(space: ParameterSpace) -> Recorder:
        made.append(Recorder(space))
        return made[-1]

    return TrialFeed(ParameterSpace(AB), make_recorder), made


def told(recorder: Recorder) -> list[tuple[int, tuple[int, ...], float | None]]:
    return [(c.number, c.genotype.tokens, c.objective) for c in recorder.children]


def test_trials_are_told_in_the_order_in_which_they_ended() -> None:
    learner, (recorder,) = recorded()
    trials = [
        ended(0, 5, 1.0),
        ended(1, 3, 2.0, b="x"),
        ended(2, 3, float("inf")),
        ended(3, 9, None),
    ]
    learner.suggest(4, trials, StudyDirection.MINIMIZE)
    learner.suggest(5, trials, StudyDirection.MINIMIZE)
    expected = [(1, (1, 0), -2.0), (2, (1, 1), None), (0, (1, 1), -1.0), (3, (1, 1), None)]
    assert told(recorder) == expected


def test_a_trial_that_is_seen_late_makes_a_new_proposer() -> None:
    learner, made = recorded()
    trials = [ended(0, 5, 1.0), ended(2, 7, 3.0)]
    learner.suggest(3, trials, StudyDirection.MAXIMIZE)
    learner.suggest(4, [*trials, ended(1, 6, 2.0)], StudyDirection.MAXIMIZE)
    assert len(made) == 2
    assert [number for number, _, _ in told(made[1])] == [0, 1, 2]


def test_a_trial_without_a_token_for_every_parameter_is_left_out() -> None:
    learner, (recorder,) = recorded()
    other = ended(1, 1, 1.0)
    del other.params["b"]
    enqueued = ended(2, 2, 1.0)
    del enqueued.params["b"]
    enqueued.system_attrs["fixed_params"] = {"b": "z"}
    learner.suggest(3, [ended(0, 0, 1.0, a=15), other, enqueued], StudyDirection.MAXIMIZE)
    assert told(recorder) == [(2, (1, 2), 1.0)]


def test_a_running_trial_is_what_was_proposed_until_it_says_otherwise() -> None:
    learner, (recorder,) = recorded()
    running = ended(0, 0, 1.0)
    running.state = TrialState.RUNNING
    running.system_attrs[PROPOSED] = Genotype(learner.space.identifier, (7, 2)).to_dict()
    del running.params["b"]
    learner.suggest(1, [running], StudyDirection.MAXIMIZE)
    assert {n: genotype.tokens for n, genotype in recorder.pending.items()} == {0: (1, 2)}
    learner.suggest(0, [running], StudyDirection.MAXIMIZE)
    assert recorder.pending == {}, "its own trial is not another worker's"


def test_huge_values_keep_their_order() -> None:
    values = [-1e308, -1e31, -1e30, -1.5, 0.0, 1e29, 1e30, 2e30, 1e300]
    learner, (recorder,) = recorded()
    trials = [ended(number, number, value) for number, value in enumerate(values)]
    learner.suggest(99, trials, StudyDirection.MAXIMIZE)
    scores = [child.objective or 0.0 for child in recorder.children]
    assert scores == sorted(set(scores))
    assert scores[2:7] == values[2:7]
    assert np.isfinite(np.std(np.array(scores) ** 3))


# --- tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACE)
def test_every_value_has_a_token_and_every_token_a_value(name: str) -> None:
    space = ParameterSpace({name: SPACE[name]})
    genotypes = [Genotype(space.identifier, (t,)) for t in range(num_values(SPACE[name]))]
    values = [space.params(genotype)[name] for genotype in genotypes]
    assert len(set(values)) == len(values) > 1
    for genotype, value in zip(genotypes, values, strict=True):
        assert SPACE[name]._contains(SPACE[name].to_internal_repr(value))
        trial = create_trial(value=0.0, params={name: value}, distributions={name: SPACE[name]})
        assert space.genotype_of(trial) == genotype
    with pytest.raises(GenotypeNotInSpace):
        space.params(Genotype(space.identifier, (len(values),)))


def test_what_has_tokens() -> None:
    assert num_values(IntDistribution(1, 64)) == 64
    assert num_values(IntDistribution(1, 65)) == 0
    assert num_values(FloatDistribution(0, 1)) == 0
    assert num_values(FloatDistribution(0, 1, step=0.25)) == 5
    assert num_values(CategoricalDistribution(range(100))) == 100


def test_a_space_is_named_after_its_parameters() -> None:
    space = ParameterSpace(SPACE)
    assert space.identifier == ParameterSpace(dict(reversed(SPACE.items()))).identifier
    other = ParameterSpace({**SPACE, "skip": CategoricalDistribution((True, False))})
    assert other.cardinalities == space.cardinalities
    assert other.identifier != space.identifier
    genotype = Genotype(space.identifier, (0, 1, 3, 0, 2))
    assert space.describe(genotype) == "depth=2, dropout=0.1, op=None, skip=False, width=3"


# --- what is kept, and what is refused ------------------------------------------------------


def test_a_controller_is_trained_once_and_refuses_other_options(tmp_path: Path) -> None:
    run(make("nases", controller=tmp_path), 4)
    (weights,) = tmp_path.glob("*/autoencoder.pt")
    written = weights.stat().st_mtime_ns
    run(make("nases", controller=tmp_path, seed=1), 4)
    assert weights.stat().st_mtime_ns == written
    other = {**SMALL, "autoencoder": {**SMALL["autoencoder"], "steps": 21}}  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="autoencoder is"):
        run(make("nases", controller=tmp_path, options=other), 4)


def test_options_may_be_a_section() -> None:
    section = NasesOptions.model_validate(SMALL)
    assert params_of(run(make("nases", options=section), 8)) == params_of(run(make("nases"), 8))


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("nasse", {}, "method = nasse: must be one of nases, nases-paper, "),
        ("nases", {"seed": -1}, "seed = -1: must be 0 or more"),
        ("nases", {"options": LocalSearchOptions()}, "nases takes NasesOptions"),
        ("nases", {"options": {"cycle": 0}}, "options.cycle = 0: "),
    ],
)
def test_wrong_settings(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        ProposerSampler(method, **settings)


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        NasesSampler(options={"cycle": 0, "autoencoder": {"steps": "many"}, "colour": "red"})
    assert {p.key for p in caught.value.problems} == {
        "options.cycle",
        "options.autoencoder.steps",
        "options.colour",
    }


def test_the_released_nases_takes_parameters_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReleasedAutoencoder, "wide", 4)
    monkeypatch.setattr(ReleasedAutoencoder, "narrow", 2)
    autoencoder = {"steps": 20, "num_strings": 200}
    sampler = make("nases-paper", options={"autoencoder": autoencoder})
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda t: float(sum(t.suggest_int(f"a{i}", 0, 4) for i in range(6))), 15)
    assert PROPOSED in study.trials[-1].system_attrs
    with pytest.raises(InputError, match="needs a space whose tokens all have the same number"):
        run(sampler, 3)
