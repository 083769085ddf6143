"""Remember the questions of all foreign files, so that each has one id, one split and one row."""

from dataclasses import dataclass, field
from typing import NamedTuple

from coa.foreign.record import ForeignRow, question_hash
from coa.records.question import Question
from coa.records.unreadable import UnreadableError, UnreadableReason


class KnownQuestion(NamedTuple):
    """A question that occurred."""

    question_id: str
    text_hash: str
    split: str
    file: str
    """The file in which it occurred first."""


@dataclass(slots=True)
class ForeignQuestions:
    """The questions so far; the same words are the same question in all files."""

    _by_text: dict[str, KnownQuestion] = field(default_factory=dict)
    """By the hash of their text."""
    _by_id: dict[str, KnownQuestion] = field(default_factory=dict)
    _graded: set[str] = field(default_factory=set)
    """Ids of the questions with a gold answer."""

    def identify(self, row: ForeignRow, split: str, file: str) -> str:
        """Return the id of a row's question.

        It is the one that the file gives, or else the hash of its text. A question that an earlier
        file asked keeps the id from there. An id that an earlier file gave to another question is
        not given again: the hash takes its place.

        Raises:
            UnreadableError: the file itself gives the id to two questions, or an earlier file has
                the question in another split.
        """
        text_hash = question_hash(row.question)
        question_id = row.question_id or text_hash
        known = self._by_text.get(text_hash)
        if known and known.split != split:
            detail = f"{known.question_id} is of the split {known.split} in {known.file}"
            raise UnreadableError(UnreadableReason.SPLIT_CLASH, 0, detail)
        if known and known.file != file:
            question_id = known.question_id
        holder = self._by_id.get(question_id)
        if holder and holder.text_hash != text_hash:
            if holder.file == file:
                raise UnreadableError(UnreadableReason.ID_CLASH, 0, question_id)
            question_id = text_hash
        found = KnownQuestion(question_id, text_hash, split, file)
        self._by_text.setdefault(text_hash, found)
        self._by_id.setdefault(question_id, found)
        return question_id

    def first_graded(
        self, row: ForeignRow, question_id: str, split: str, source: str
    ) -> Question | None:
        """Make the question of the first row that has a gold answer for it; None for the others."""
        if not row.gold_answers or question_id in self._graded:
            return None
        self._graded.add(question_id)
        return Question(
            question_id=question_id,
            question=row.question,
            gold_answers=row.gold_answers,
            split=split,
            source=source,
        )

    def is_graded(self, question_id: str) -> bool:
        """Tell whether a row so far has a gold answer for the question."""
        return question_id in self._graded
