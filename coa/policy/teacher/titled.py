"""What the scripted teacher knows of a question: answers, and gold titles where there are any.

So the pipeline can run over real questions and a real index where no model is available. What it
writes shows how the pipeline behaves and nothing about any model. A title stands for a fact: that
its passage was shown. The teacher looks up the titles that the question names, then those that a
result names. Where no title is known to it, it asks with the question's own rarest name. It answers
rightly only if it was shown the answer, or remembers it; so its yields depend on what search finds.
"""

import html
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.errors import InputError
from coa.policy.scripted import ScriptedPolicy, scripted_name
from coa.policy.teacher.script import Script, Shown
from coa.policy.teacher.sentences import PhraseKind, Sentences
from coa.policy.teacher.settings import TeacherSettings
from coa.records import protocol
from coa.records.grading import YES_NO, grade_prediction
from coa.records.plain_words import WORD, words
from coa.records.question import Question, known_answers
from coa.store.files import QUESTIONS

SENTENCES = Sentences(
    {
        PhraseKind.NEED: (
            "I need to look up {}.",
            "I am not sure about {}, so I need to find out more.",
            "Let me check what is known about {}.",
            "What is missing is {}, and I have to find it.",
        ),
        PhraseKind.RECALL: ("I recall {}.", "I remember {}."),
        PhraseKind.GUESS: ("Perhaps {}, but I am not sure.", "Maybe {}."),
        PhraseKind.QUOTE: ('I read: "{}".', 'What it says: "{}".'),
        PhraseKind.READ: (
            "The results say: {}.",
            "According to the results: {}.",
            "What I found: {}.",
        ),
        PhraseKind.NOT_FOUND: (
            "The results do not show that.",
            "I cannot find it in these results.",
        ),
        PhraseKind.COMPARE: ("Side by side: {}.", "To compare: {}."),
        PhraseKind.ANSWER: ("So the answer is {}.",),
    }
)
_RESULT = re.compile(r"result \d+: ")
_MAX_TITLE_CHARS = 80
"""A longer text before a colon is not a title."""
_MAX_CLAUSE_WORDS = 12
"""Fewer words than a row may copy."""
_COPIED_WORDS = 30
_MAX_TOPIC_WORDS = 8
_MIN_TOPIC_CHARS = 4
_NUM_DRAWS = 20
"""Tries to draw a wrong answer of another question.

All answers of a pool are right ones only if the pool has a single answer.
"""
_KIND_OF_TITLE = re.compile(r"\s*\([^()]*\)$")
_FUNCTION_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "between", "but", "by", "can", "could", "did", "do"),
        *("does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "if", "in"),
        *("is", "it", "its", "of", "on", "or", "she", "than", "that", "the", "their", "these"),
        *("they", "this", "to", "was", "were", "what", "when", "where", "which", "who", "whom"),
        *("whose", "why", "will", "with", "would"),
    )
)
_JOINING_WORDS = frozenset(("of", "the", "de", "la", "von", "van", "del", "for"))
"""Words that may stand inside a name."""
_STRAIGHT = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}
"""Curly quotation marks, and what is read in their place."""
_PUNCTUATION = "\"'?!.,;:()[]"
_MAX_SHORT_CHARS = 2
"""A shorter word before a full stop is short for one, or an initial: the name continues."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_OTHER_CLOSED = {"yes": "no", "no": "yes"}


@dataclass(frozen=True, slots=True)
class GoldSettings(TeacherSettings):
    """How good the teacher is, and the questions that it knows."""

    questions: str = QUESTIONS.as_posix()
    """The table with the answers, and the gold titles where they are known."""
    remembers_other: float = 0.3
    """Probability that it remembers all facts of a question."""
    searches_remembered: float = 0.8
    """Probability that it searches for a fact that it remembers, where the tool is offered."""
    max_searches: int = 2
    """Most searches for one fact; after them it gives up and guesses."""
    false_recall: float = 0.5
    """Probability that it states a guess as if it remembered it."""
    repeated_search: float = 0.03
    """Probability that it repeats its query after results without the value."""
    needless_search: float = 0.03
    """Probability that it searches once more, in other words, for a value that was shown."""


def gold_teacher(settings: GoldSettings) -> ScriptedPolicy:
    """Make the policy that answers the questions in `settings.questions`.

    It keeps their texts, titles and answers in memory.

    Raises:
        InputError: The table is missing or broken, or has no question.
    """
    from coa.store import tables  # loads pyarrow, which other policies need not wait for

    teacher = GoldTeacher(tables.read_table(Path(settings.questions), Question), settings)
    name = scripted_name("gold", settings, *teacher.questions.values())
    return ScriptedPolicy(teacher.write, name)


def harmless(text: str) -> str:
    """Write a title or answer in one line, without entities of HTML and without active tags."""
    return protocol.neutralise(" ".join(html.unescape(text).split()))


class GoldTeacher(Script):
    """A teacher that answers the questions of a table."""

    def __init__(self, questions: Iterable[Question], settings: GoldSettings | None = None) -> None:
        self._gold = settings or GoldSettings()
        super().__init__(self._find, self._gold)
        self.questions: dict[str, Question] = {}
        """The questions by their text as a prompt shows it; of equal ones the first, or the first
        with gold titles."""
        self._answers: dict[bool, list[str]] = {True: [], False: []}
        """The answers of all questions: with digits, and without."""
        self._counts: Counter[str] = Counter()
        """The number of questions that hold a word."""
        for question in questions:
            self._add(question)
        if not self.questions:
            raise InputError("there is no question to answer", where=self._gold.questions)

    def _add(self, question: Question) -> None:
        asked = " ".join(protocol.neutralise(question.question).split())
        known = self.questions.get(asked)
        if known is None or (question.gold_titles and not known.gold_titles):
            self.questions[asked] = question
        answer = harmless(known_answers(question)[0])
        self._answers[_has_digit(answer)].append(answer)
        self._counts.update(set(words(question.question)))

    def _find(self, question: str) -> "TitledQuestion":
        found = self.questions.get(question)
        if found is None:
            raise InputError(
                "the scripted teacher does not know the question",
                got=repr(question),
                fix="ask one of its questions, or choose another teacher.policy",
            )
        return TitledQuestion(found, question, self)

    def remembers(self, question_id: str) -> bool:
        """Tell whether the teacher knows the answer to a question without a search."""
        rng = random.Random(f"{self._gold.seed}/{question_id}")
        return rng.random() < self._gold.remembers_other

    def draw_answer(self, like: str, rng: random.Random) -> str:
        """Draw the answer to any question, of the same form."""
        pool = self._answers[_has_digit(like)] or [like]
        return rng.choice(pool)

    def rarity(self, name: str) -> tuple[bool, int, int]:
        """Rank a name: dates last, then by how many questions hold its rarest word."""
        held = [self._counts[word] for word in words(name)]
        return _has_digit(name), min(held, default=0), -len(held)


def _has_digit(text: str) -> bool:
    return any(char.isdigit() for char in text)


class TitledQuestion:
    """The facts that a question with answers takes (`Knowledge`): one for each gold title.

    Without gold titles it is one fact: the answer.
    """

    sentences = SENTENCES

    def __init__(self, row: Question, asked: str, teacher: GoldTeacher) -> None:
        self._teacher = teacher
        self._asked = asked
        self.question_id = row.question_id
        self._answers = tuple(harmless(answer) for answer in known_answers(row))
        titles = dict.fromkeys(harmless(title) for title in row.gold_titles)
        self._has_titles = bool(titles)
        self._titles = sorted(titles, key=self._place_in_question)
        self.num_facts = max(len(titles), 1)
        is_closed = self._answers[0].lower() in YES_NO
        # Then the answer takes all titles: it is yes or no, or one of those that are named.
        self._compares = is_closed or (self.num_facts > 1 and self._is_accepted(asked))
        self._is_remembered = teacher.remembers(row.question_id)
        self._own_names = sorted(dict.fromkeys(_names_in(asked)), key=teacher.rarity)
        named = {word for title in self._titles for word in words(title)}
        self._topic: list[str] = [
            word
            for word in WORD.findall(asked)
            if len(word) >= _MIN_TOPIC_CHARS
            and word.casefold() not in named
            and word.casefold() not in _FUNCTION_WORDS
        ][:_MAX_TOPIC_WORDS]

    def _place_in_question(self, title: str) -> int:
        """Return where the question names a title; after its end where it does not."""
        asked = f" {' '.join(words(self._asked))} "
        place = asked.find(f" {' '.join(words(_name_of(title)))} ")
        return place if place >= 0 else len(asked)

    def _is_accepted(self, text: str) -> bool:
        return bool(grade_prediction(text, self._answers).cover_exact_match)

    # What the rollout is about

    def _title(self, index: int, shown: Shown) -> str:
        """Return the title of a fact; empty where no titles are known.

        The titles that the question does not name come in the order in which results show them.
        """
        if not self._has_titles:
            return ""
        unnamed = [title for title in self._titles if not self._is_named(title)]
        named = [title for title in self._titles if self._is_named(title)]
        seen = []
        for line in _lines(shown.observations):
            seen += [title for title in unnamed if title not in seen and _is_about(line, title)]
        rest = [title for title in unnamed if title not in seen]
        return (named + seen + rest)[index]

    def _is_named(self, title: str) -> bool:
        return self._place_in_question(title) < len(self._asked)

    def _subject(self, index: int, values: Sequence[str], shown: Shown) -> str:
        """Return the name to ask about; empty where neither question nor results have shown it.

        After a wrong name was taken from the results the wrong name is followed.
        """
        if index > 0 and not self._compares:
            before = values[index - 1]
            is_shown_name = before in [_name_of(_head(line)) for line in _lines(shown.observations)]
            if is_shown_name and before != self.read(index - 1, values, shown, shown.observations):
                return before
        name = _name_of(self._title(index, shown))
        return name if name and shown.holds(name) else ""

    def need(self, index: int, values: Sequence[str], shown: Shown) -> str:
        """Name what has to be looked up, in the question's own words where it has any."""
        subject = self._subject(index, values, shown)
        if subject:
            return _with_words_before(self._asked, subject)
        names = self._own_names
        return f"what leads on from {names[0]}" if names else "what the question asks for"

    def is_settled(self, values: Sequence[str]) -> bool:
        """Tell whether what leads to the answer is the answer itself."""
        return not self._compares and bool(values) and self._is_accepted(values[-1])

    def can_search(self, index: int, values: Sequence[str], shown: Shown) -> bool:
        """Tell whether anything is left to ask for."""
        return bool(self._open_queries(index, values, shown))

    def query(
        self, index: int, values: Sequence[str], shown: Shown, queries: Sequence[str]
    ) -> Sequence[str]:
        """Ask for the name, then with the question's words; else for the question's own names."""
        return self._open_queries(index, values, shown)[:1] or [self._asked]

    def _open_queries(self, index: int, values: Sequence[str], shown: Shown) -> list[str]:
        """List what can be asked for and was not asked yet, the best first."""
        subject = self._subject(index, values, shown)
        topic = " ".join(self._topic)
        candidates: list[str] = [*self._own_names, topic]
        if subject:
            candidates = [subject, f"{subject} {topic}".strip(), *candidates]
        made = {query.casefold() for query in shown.queries}
        return [each for each in candidates if each and each.casefold() not in made]

    def bad_query(self, index: int, values: Sequence[str], shown: Shown, rng: random.Random) -> str:
        """Ask for one word of the name, or only for what the question says about it."""
        name = self._subject(index, values, shown) or "".join(self._own_names[:1])
        candidates: list[str] = self._topic[:1]
        for word in WORD.findall(name):
            if word.casefold() not in _FUNCTION_WORDS:
                candidates.append(word)
        return rng.choice(candidates or [self._asked])

    # What results show

    def read(
        self, index: int, values: Sequence[str], shown: Shown, observations: Sequence[str]
    ) -> str:
        """Read what the passage of the title leads to: the next name, a clause, or the answer."""
        lines = _lines(observations)
        is_last = index == self.num_facts - 1
        if not self._has_titles:
            is_shown = not self._compares and any(self._is_accepted(line) for line in lines)
            return self._answers[0] if is_shown else ""
        title = self._title(index, shown)
        about = [line for line in lines if _is_about(line, title)]
        if self._compares or not is_last:
            if not about:
                return ""
            if not self._compares:
                next_name = _name_of(self._title(index + 1, shown))
                if _holds(about[0], next_name):
                    return next_name
            return self._clause(about[0])
        if index > 0 and not self._leads_on(index - 1, values, shown):
            return ""
        golden = [line for line in lines if any(_is_about(line, each) for each in self._titles)]
        return self._answers[0] if any(self._is_accepted(line) for line in golden) else ""

    def _leads_on(self, index: int, values: Sequence[str], shown: Shown) -> bool:
        """Tell whether no wrong name was taken from the results for a fact."""
        heads = [_name_of(_head(line)) for line in _lines(shown.observations)]
        value = values[index]
        right = self.read(index, values, shown, shown.observations)
        return value == right or value not in heads

    def _clause(self, line: str) -> str:
        """Choose the words of a result that say most about what the question asks."""
        head = _head(line)
        text = line.removeprefix(f"{head}: ").replace("<", "(")
        topic = {word.casefold() for word in self._topic}
        sentences = _SENTENCE_END.split(text)
        best = max(sentences, key=lambda sentence: len(topic & set(words(sentence))))
        return " ".join(best.split()[:_MAX_CLAUSE_WORDS]).rstrip(".,;:")

    def quote(self, value: str, shown: Shown) -> str:
        """Quote the sentence of the results that states a value, up to the value.

        So a student learns to find the sentence first, and the value in it. What a comparison
        reads is a part of a sentence already.
        """
        if self._compares:
            return ""
        stated = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
        for observation in reversed(shown.observations):
            for line in _lines([observation]):
                text = line.removeprefix(f"{_head(line)}: ").replace("<", "(")
                for sentence in _SENTENCE_END.split(text):
                    found = stated.search(sentence)
                    if found and found.start() > 0:
                        before = sentence[: found.end()].split()
                        return " ".join(before[-_MAX_CLAUSE_WORDS:])
        return ""

    def distractors(self, index: int, observation: str, right: str) -> list[str]:
        """List what other passages show: their clauses, numbers or titles."""
        lines = _lines([observation])
        others = [line for line in lines if not any(_is_about(line, t) for t in self._titles)]
        if self._compares and self._has_titles:
            return [self._clause(line) for line in others]
        is_last = index == self.num_facts - 1
        if is_last and _has_digit(self._answers[0]):
            found = [number for line in lines for number in re.findall(r"\b\d+\b", line)]
        else:
            found = [_name_of(_head(line)) for line in others if _head(line)]
        return [each for each in found if each and not self._is_accepted(each) and each != right]

    def copied(self, index: int, values: Sequence[str], observation: str) -> str:
        """Copy the first words of the results."""
        shown = " ".join(_lines([observation])).replace("<", "(")
        return " ".join(shown.split()[:_COPIED_WORDS])

    # What the teacher believes

    def recall(self, index: int, values: Sequence[str]) -> str:
        """Return the answer, or what leads to it, where the question is remembered."""
        if not self._is_remembered:
            return ""
        if self._compares and self._has_titles:
            return f"enough about {_name_of(self._titles[index])}"
        if index == self.num_facts - 1:
            return self._answers[0]
        return _name_of(self._titles[index + 1])

    def invent(self, index: int, values: Sequence[str], rng: random.Random) -> str:
        """Make up an answer that looks right and is wrong, or what could lead to one."""
        if self._compares and self._has_titles:
            return f"something about {_name_of(self._titles[index])}"
        return self._wrong_answer(rng)

    def _wrong_answer(self, rng: random.Random) -> str:
        right = self._answers[0]
        opposite = _OTHER_CLOSED.get(right.lower())
        if opposite:
            return opposite
        names = [_name_of(title) for title in self._titles] if self._compares else []
        others = [name for name in names if not self._is_accepted(name)]
        if others:
            return rng.choice(others)
        for _ in range(_NUM_DRAWS):
            answer = self._teacher.draw_answer(right, rng)
            if not self._is_accepted(answer):
                return answer
        return "unknown"

    def compare(self, values: Sequence[str]) -> str:
        """Put what was found of each title side by side."""
        if not self._compares or self.num_facts < 2:
            return ""
        named = [_name_of(title) for title in self._titles]
        found = [f"{name}: {value}" for name, value in zip(named, values, strict=True)]
        return "; ".join(found)

    def expression(self, values: Sequence[str]) -> str:
        """Tell that real questions need no calculation that is known."""
        return ""

    def conclude(self, values: Sequence[str], shown: Shown) -> str:
        """Take the last value; a comparison is right only if all that it compares is."""
        if not self._compares or not self._has_titles:
            return self._answers[0] if self._is_accepted(values[-1]) else values[-1]
        for index, value in enumerate(values):
            is_found = value == self.recall(index, values)
            for line in _lines(shown.observations):
                is_found |= _is_about(line, self._title(index, shown)) and _holds(line, value)
            if not is_found:
                return self._wrong_answer(random.Random(f"{self.question_id}/{values}"))
        return self._answers[0]

    def slip(self, values: Sequence[str], answer: str, rng: random.Random) -> str:
        """Take the other one of two, or an earlier value."""
        others = [*values[:-1], *(_name_of(title) for title in self._titles)]
        wrong = [each for each in others if each != answer and not self._is_accepted(each)]
        return wrong[0] if wrong and not self._compares else self._wrong_answer(rng)


def _name_of(title: str) -> str:
    """Return a title without the kind in brackets that tells it from its namesakes."""
    return _KIND_OF_TITLE.sub("", title) or title


def _names_in(question: str) -> Iterator[str]:
    """Yield the names in a question: what is quoted, and runs of words with a capital or digit."""
    straight = question.translate(_STRAIGHT)
    yield from re.findall(r'"([^"]{2,80})"', straight)
    run: list[str] = []
    for token in straight.split():
        word = token.strip(_PUNCTUATION).removesuffix("'s")
        has_capital = word[:1].isupper() or word[:1].isdigit()
        is_name = has_capital and (bool(run) or word.lower() not in _FUNCTION_WORDS)
        begins_anew = token[0] in _PUNCTUATION
        continues = is_name or (bool(run) and word in _JOINING_WORDS)
        if run and (begins_anew or not continues):
            yield _without_joining(run)
            run = []
        if is_name or (continues and run):
            run.append(word)
        is_short = token.endswith(".") and len(word) <= _MAX_SHORT_CHARS
        if run and ((token[-1] in _PUNCTUATION and not is_short) or token.endswith("'s")):
            yield _without_joining(run)
            run = []
    if run:
        yield _without_joining(run)


def _without_joining(run: Sequence[str]) -> str:
    """Join a run of words without joining words at its end."""
    kept = list(run)
    while len(kept) > 1 and kept[-1] in _JOINING_WORDS:
        kept.pop()
    return " ".join(kept)


def _with_words_before(question: str, name: str) -> str:
    """Put the question's own words before a name: `the director of Iron Sky Road`."""
    before, found, _ = question.partition(name)
    if not found:
        return name
    kept: list[str] = []
    for word in reversed(before.split()[-6:]):
        is_plain = word.isalpha() and word.islower()
        if not is_plain or word in _FUNCTION_WORDS - {"of", "the", "a", "an", "by", "in"}:
            break
        kept.insert(0, word)
    while kept and kept[0] not in ("the", "a", "an"):
        kept.pop(0)
    return " ".join([*kept, name])


def _lines(observations: Sequence[str]) -> list[str]:
    """List the results of observations, without their numbers."""
    lines: list[str] = []
    for observation in observations:
        lines += [" ".join(part.split()) for part in _RESULT.split(observation)[1:]]
    return lines


def _head(line: str) -> str:
    """Return the title that a result begins with; empty where there is none."""
    head, colon, _ = line.partition(": ")
    return harmless(head) if colon and len(head) <= _MAX_TITLE_CHARS else ""


def _is_about(line: str, title: str) -> bool:
    """Tell whether a result begins with this title."""
    return harmless(line).casefold().startswith(f"{title.casefold()}: ")


def _holds(text: str, name: str) -> bool:
    return f" {' '.join(words(name))} " in f" {' '.join(words(text))} "
