"""Grade trajectories, make pairs and assemble sets.

The stages of this package meet the other stages only in files under data/.
"""
