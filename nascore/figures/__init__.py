"""Figures of pages and files by matplotlib, and numbers as text."""
