"""The proposing methods as Optuna samplers, for scripts that use nothing else of this project.

    study = optuna.create_study(direction="maximize", sampler=NasesSampler(seed=0))
    study.optimize(objective, n_trials=100)

Categorical parameters are tokens of an architecture, and so are integers and stepped floats with
few values. The tokens of a trial are proposed together; other parameters are sampled at random.
"""

from nascore.optuna_sampler.sampler import NasesSampler, ProposerSampler

__all__ = ["NasesSampler", "ProposerSampler"]
