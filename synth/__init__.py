"""Sample trajectories for questions.

The package meets the other stages only in files under data/.
"""
