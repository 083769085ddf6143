"""The ground floor: the record, the tags, the grader, the rollout loop and what they stand on. Imports no stage."""
