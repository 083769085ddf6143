"""Measure models: evaluation, baselines, the table, the fidelity of simulators and the gate."""
