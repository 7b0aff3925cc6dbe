"""Runs a pipeline on this machine: the process, its output folder and its progress."""
