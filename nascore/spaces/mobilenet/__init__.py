"""The MobileNetV2 space of InstaNAS."""
