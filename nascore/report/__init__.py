"""The page of one run: a single HTML file that loads nothing."""

from nascore.report.page import Report, render

__all__ = ["Report", "render"]
