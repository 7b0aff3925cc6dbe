"""Which steps need the devices that a configuration asks for."""

from dataclasses import dataclass

from components.config.schema import Config

_TRAINING = ("search", "search_worker", "train_final", "train_references")
# Settings that may need a GPU, and the steps whose machine must have it then.
DEVICES = {
    "training.device": ("pretrain_controller", *_TRAINING),
    "training.precision": _TRAINING,
    "latency.device": ("profile_latency", "train_references"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A setting that needs a GPU.

    Attributes:
        key: dotted key.
        value: of the setting.
        otherwise: values that need none.
    """

    key: str
    value: str
    otherwise: str = "auto or cpu"


def asking_for_cuda(config: Config) -> list[Asked]:
    """Return the settings that need a GPU wherever the steps run."""
    devices = {"training.device": config.training.device, "latency.device": config.latency.device}
    asked = [Asked(key, device) for key, device in devices.items() if device == "cuda"]
    is_half = config.training.switch("precision") == "fp16"
    if is_half and config.training.device == "auto":  # with cuda the device is reported
        asked.append(Asked("training.precision", "fp16", "auto, bf16 or fp32"))
    return asked
