"""Choose the questions by which every training is watched."""

import hashlib
from collections.abc import Iterable

from coa.errors import ConfigError
from coa.files import QUESTIONS
from coa.question import Question


def choose_watched(questions: Iterable[Question], number: int) -> list[Question]:
    """Choose the validation questions by which trainings are watched; their ids alone decide.

    Raises:
        ConfigError: there is no validation question.
    """

    def draw(question: Question) -> bytes:
        return hashlib.sha256(question.question_id.encode()).digest()

    held_out = [question for question in questions if question.split == "validation"]
    if not held_out:
        raise ConfigError(
            "there is no question to watch a training by",
            where=QUESTIONS,
            expected="questions of the split validation",
            fix="name a file of them in questions.files with `split: validation`, or set train "
            "questions aside (`num_validation: 50` in an entry), after which others are sampled; "
            "train.monitors.every=0 watches none",
        )
    return sorted(held_out, key=draw)[:number]
