"""Residual networks in stages; the standard residual network is one of them."""
