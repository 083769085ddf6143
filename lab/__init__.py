"""Run the experiments of the lab, keep each finished row, and show all rows on one page.

Read experiments.py first: it says what there is.
"""
