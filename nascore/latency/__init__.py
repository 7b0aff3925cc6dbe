"""Latency: the protocol of measurement, and tables of the latency of operations."""
