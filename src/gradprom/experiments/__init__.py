"""Comparisons of runs, and the pages and figures that show them."""
