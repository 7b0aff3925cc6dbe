"""Checks of this machine and of the services that a run needs."""
