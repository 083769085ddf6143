"""Write trajectories from gold titles by a script."""
