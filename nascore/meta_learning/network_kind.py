"""Networks that learn new classes from a few examples: how they are rebuilt, tested and timed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from nascore.config import LatencyConfig
from nascore.data.episodes import FewShotData
from nascore.genotype import Genotype
from nascore.latency.benchmark import LatencyResult, resolve_device
from nascore.meta_learning.conv4 import Conv4
from nascore.meta_learning.few_shot_model import FewShotLearner, rebuild
from nascore.meta_learning.latency import as_latency, measure
from nascore.meta_learning.options import BASELINE, FewShotOptions
from nascore.meta_learning.task_adaptation import Adapter
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.training.final_model import DeployedModel, FinalModel
from nascore.training.network_kinds import Examples, FewShotTask, NetworkKind

_NUM_TIMED = 10  # different tasks in a measurement


class FewShotKind(NetworkKind):
    """Kind of `nascore.meta_learning.few_shot_model.FewShotLearner`."""

    def rebuild(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> nn.Module:
        return rebuild(spec, super().rebuild(spec, space, genotype, shape))

    def deployed(self, network: nn.Module) -> nn.Module:
        return _learner(network).network

    def adapter(self, model: DeployedModel) -> Adapter:
        return Adapter(model, model.tasks)

    def tasks(self, examples: Examples, split: str, number: int) -> Sequence[FewShotTask]:
        options = examples.options
        assert isinstance(options, FewShotOptions), "networks of few-shot methods"
        sampler = FewShotData(examples.splits).sampler(split, options.episode.shape, as_pixels=True)
        drawn = sampler.draw(number, examples.seeds.torch("examining", split))
        names = ("support_x", "support_y", "query_x", "query_y")
        return [
            {name: getattr(drawn, name)[place].cpu().numpy() for name in names}
            for place in range(number)
        ]

    def profile(
        self,
        final: FinalModel,
        config: LatencyConfig,
        examples: Callable[[], Examples],
    ) -> tuple[LatencyResult, dict[str, Any]]:
        """Measure adaptation and prediction on tasks of validation classes.

        If the final training had a baseline, it is measured in turn with the network, untrained:
        times do not depend on the weights.
        """
        learner, device = _learner(final.network), resolve_device(config)
        networks = [learner]
        baseline = final.details.get("auto_meta", {}).get(BASELINE)
        if baseline is not None:
            shape = final.shape
            conv4 = Conv4(
                shape.channels, shape.size, shape.num_classes, channels=baseline["channels"]
            )
            networks.append(FewShotLearner(conv4, learner.settings))
        data = examples()
        adapters = [
            DeployedModel(one, data.splits.info).eval().to(device).adapter() for one in networks
        ]
        tasks = list(self.tasks(data, "valid", _NUM_TIMED))
        latencies = measure(adapters, tasks, config)
        found: dict[str, Any] = {
            "ways": learner.settings.ways,
            "images": len(tasks[0]["support_y"]),
            **latencies[0].to_dict(),
        }
        if baseline is not None:
            known = {name: baseline[name] for name in ("channels", "num_params")}
            found[BASELINE] = known | latencies[1].to_dict()
        return as_latency(latencies[0], device, config), {"few_shot": found}


def _learner(network: nn.Module) -> FewShotLearner:
    assert isinstance(network, FewShotLearner), "only these are of this kind"
    return network


KIND = FewShotKind()
