"""The loop that rolls trajectories out, what drives it, and what it is opened with."""
