"""Stage package: human review, whose verdicts the assembly reads. Meets the other stages only in files under data/."""
