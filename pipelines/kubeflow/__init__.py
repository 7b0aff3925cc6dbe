"""Runs on Kubeflow through KFP's API: start, stop, retry and schedule."""
