"""Answer questions in the ways that agents are compared with, over the one loop and search.

`coa evaluate baseline=reflexion` evaluates one. Each has a file of its own; those
without a file are ways of asking (coa/student/asking.py). Every question of a result says what it
cost in tokens, requests and searches.
"""
