"""Stage package: questions to trajectories. Meets the other stages only in files under data/."""
