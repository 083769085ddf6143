"""Run a model in this process."""
