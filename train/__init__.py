"""Stage package: sets to models and numbers. Meets the other stages only in files under data/."""
