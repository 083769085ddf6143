"""Stage package: trajectories to graded rows, pairs and sets. Meets the other stages only in files under data/."""
