"""Let people review trajectories, pairs and disputed grades; the assembly reads their verdicts.

The package meets the other stages only in files under data/.
"""
