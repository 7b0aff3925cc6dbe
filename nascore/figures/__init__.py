"""Drawing of figures as SVG, and numbers as text."""
