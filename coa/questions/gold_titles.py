"""Find out which gold titles of the questions a corpus lacks, by data set.

A question whose gold passages are not in the corpus cannot be answered by searching it, whatever a
model learns: 37% of the questions of a common benchmark are of that kind (arXiv 2605.27881).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from coa.records.question import Question


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a corpus has of the gold titles of one data set."""

    questions: int
    """Questions that name gold titles."""
    incomplete: int
    """Those of them with at least one title that no passage has."""
    titles: int
    """Different gold titles."""
    missing: int
    """Those of them that no passage has."""


class GoldTitles:
    """Gold titles of questions, and which of them were seen in a corpus."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._wanted: dict[str, list[frozenset[str]]] = {}
        for question in questions:
            titles = frozenset(title_key(title) for title in question.gold_titles)
            if titles:
                self._wanted.setdefault(question.source or "questions", []).append(titles)
        self._titles: set[str] = set()
        for wanted in self._wanted.values():
            self._titles.update(*wanted)
        self._seen: set[str] = set()

    def see(self, title: str) -> None:
        """Remember the title of a passage."""
        key = title_key(title)
        if key in self._titles:
            self._seen.add(key)

    def coverage(self) -> dict[str, Coverage]:
        """Return what was seen, by the questions' data set."""
        found = {}
        for source, wanted in sorted(self._wanted.items()):
            titles = frozenset[str]().union(*wanted)
            incomplete = [each for each in wanted if not each <= self._seen]
            missing = titles - self._seen
            found[source] = Coverage(len(wanted), len(incomplete), len(titles), len(missing))
        return found


def title_key(title: str) -> str:
    """Make the key by which titles of questions and of passages are matched."""
    return title.strip().casefold()
