"""Trained networks in int8: exported to ONNX, quantised after the training, and measured."""
