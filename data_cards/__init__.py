"""Stage package: sets to cards and the Hub. Meets the other stages only in files under data/."""
