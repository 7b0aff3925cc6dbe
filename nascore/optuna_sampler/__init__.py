"""The proposing methods as Optuna samplers, for scripts that use nothing else of this project.

    study = optuna.create_study(direction="maximize", sampler=NasesSampler(seed=0))
    study.optimize(objective, n_trials=100)

A categorical parameter is a token of an architecture, and so is an integer or a stepped float that
has few values. The tokens of a trial are proposed together; all else is drawn at random.
"""

from nascore.optuna_sampler.sampler import NasesSampler, ProposerSampler

__all__ = ["NasesSampler", "ProposerSampler"]
