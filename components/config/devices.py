"""Which steps need the devices that a configuration asks for."""

from components.config.schema import Config

# Settings of devices, and the steps whose machine must have the device.
DEVICES = {
    "training.device": (
        "pretrain_controller",
        "search",
        "search_worker",
        "train_final",
        "train_references",
    ),
    "latency.device": ("profile_latency", "train_references"),
}


def asking_for_cuda(config: Config) -> list[str]:
    """Return the settings that ask for CUDA."""
    devices = (config.training.device, config.latency.device)
    return [key for key, device in zip(DEVICES, devices, strict=True) if device == "cuda"]
