"""Stage package: sample trajectories for questions; other stages meet it only in files of data/."""
