"""The page of one run: a single HTML file that needs no network."""

from nascore.report.page import Report, render

__all__ = ["Report", "render"]
