"""Ask every question several times, and take the most frequent answer (arXiv 2203.11171).

Answers are equal where they are equal after the grader's normalisation. A sample without an answer
has no vote. Of equally frequent answers the one that came first counts. No gold answer is used.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from coa.records.graded import GradedTrajectory
from coa.records.grading import normalise
from coa.records.question import Question
from evaluation.baselines.asker import Answered, Ask, Asker
from evaluation.spent import spent_on


async def answer(
    asker: Asker, questions: Sequence[Question], num_samples: int
) -> AsyncGenerator[Answered, None]:
    """Answer each question by the vote of its samples."""
    asks = []
    for question in questions:
        asks += [Ask(question, index) for index in range(num_samples)]
    asker.bar.expect(len(asks) - len(questions))
    turns = iter(questions)
    samples: list[GradedTrajectory] = []
    async with aclosing(asker.ask(asks)) as rows:
        async for row in rows:
            samples.append(row)
            if len(samples) == num_samples:
                spent = spent_on(sample.trajectory for sample in samples)
                yield Answered(next(turns), vote(samples), tuple(samples), (spent,))
                samples = []


def vote(samples: Sequence[GradedTrajectory]) -> GradedTrajectory:
    """Return the first sample with the most frequent answer; the first of all without answers."""
    votes: Counter[str] = Counter()
    first_with: dict[str, GradedTrajectory] = {}
    for sample in samples:
        if sample.grade.prediction is not None:
            said = normalise(sample.grade.prediction)
            votes[said] += 1
            first_with.setdefault(said, sample)
    if not votes:
        return samples[0]
    (most_frequent, _), *_ = votes.most_common(1)
    return first_with[most_frequent]
