"""Read what is shown to reviewers and write what they said, for the tests of review."""

from coa.store.reviews import Answer, Review, ReviewKind, ReviewQuestion


def said(reviewer: str, item: str, verdict: str, *causes: str, right: str = "") -> Review:
    answers = [Answer(ReviewQuestion.VERDICT, (verdict,))]
    answers += [Answer(ReviewQuestion.ANSWER_RIGHT, (right,))] if right else []
    answers += [Answer(ReviewQuestion.CAUSES, causes)] if causes else []
    return Review(
        item, ReviewKind.TRAJECTORY, "v", 1, 1, reviewer, "2026-01-02T03:04:05Z", tuple(answers)
    )
