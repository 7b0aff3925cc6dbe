"""Small networks with known answers, and a store in which they are registered and promoted."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow import MlflowClient
from numpy.typing import NDArray
from torch import Tensor, nn

from components.config.settings import PromoteConfig
from components.registry import model_registry
from components.registry.champion_check import Policy
from components.registry.lookup import CHAMPION
from components.registry.promotion import Candidate, Decision, promote
from components.registry.test_sets import ImageTestSet, logits
from nascore.config import Objective

EXAMPLE = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
# 24, 8 and 8 images belong to the classes 0, 1 and 2: a constant answer is right for 0.6 or 0.2.
LABELS = torch.tensor([0] * 24 + [1] * 8 + [2] * 8)
IMAGES = torch.zeros(40, 1, 8, 8)


class Constant(nn.Module):
    """Always answers the same class, with a weight so that there is something to store."""

    def __init__(self, answer: int, num_classes: int = 4) -> None:
        super().__init__()
        self.logits = nn.Parameter(nn.functional.one_hot(torch.tensor(answer), num_classes).float())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.mean((1, 2, 3))[:, None] * 0 + self.logits


class House:
    """A store with one experiment, whose models live below a folder."""

    def __init__(self, store: str, folder: Path) -> None:
        self.store = store
        self.client = MlflowClient(store, registry_uri=store)
        self.experiment = self.client.create_experiment(
            "nas", artifact_location=(folder / "mlartifacts").as_uri()
        )

    def register(
        self, network: nn.Module, example: NDArray[np.float32] = EXAMPLE
    ) -> model_registry.ModelVersion:
        run_id = self.client.create_run(self.experiment).info.run_id
        return model_registry.register(
            network.eval(), example, uri=self.store, run_id=run_id, model_name="net", tags={}
        )

    def promote(
        self,
        new: model_registry.ModelVersion,
        network: nn.Module,
        *,
        num_params: int = 4,
        latency_ms: float = 1.0,
        objective: Objective = "accuracy",
        unusable_champion: Policy | None = None,
        retrains: bool = False,
        **config: Any,
    ) -> Decision:
        answers = logits(network, [IMAGES])
        return promote(
            Candidate(new, answers, num_params, latency_ms),
            uri=self.store,
            test_set=ImageTestSet(
                lambda: IMAGES.split(7),
                LABELS,
                classes=("fine", "scratch", "dent"),
                objective=objective,
            ),
            config=PromoteConfig(**config),
            rng=np.random.default_rng(0),
            unusable_champion=unusable_champion,
            retrains=retrains,
        )

    def enter(
        self, network: nn.Module, **settings: Any
    ) -> tuple[model_registry.ModelVersion, Decision]:
        new = self.register(network)
        return new, self.promote(new, network, **settings)

    @property
    def champion(self) -> str:
        return str(self.client.get_model_version_by_alias("net", CHAMPION).version)
