"""Provide what all stages share: the record, the tags, the grader and the rollout loop.

No stage is imported here.
"""
