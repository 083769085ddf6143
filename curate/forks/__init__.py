"""Forks: where they are made, how, and what came of each."""
