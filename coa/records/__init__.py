"""What flows between the stages: questions, trajectories, grades, pairs, and the text of both."""
