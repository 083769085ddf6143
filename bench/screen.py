"""Measure speed and memory of screening, and how many planted copies and overlaps it finds.

    python -m bench.screen               # 100,000 texts of 600 words; 2 minutes
    python -m bench.screen 10000

One text in ten copies an earlier one with some of its words replaced; one in a hundred holds ten
words of one of 7,000 evaluation questions, around a name. Times are CPU seconds of one core without
making the texts. datasketch does the same work on 2,000 of the texts, side by side: MinHash with as
many values and its own banding, candidates unverified.
"""

import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from coa.questions.evaluation_questions import EvaluationQuestion
from coa.records.plain_words import words
from curate.screen import ScreenParams
from curate.screening.near_duplicates import NUM_HASHES, NearDuplicates
from curate.screening.overlap import EvaluationSets
from curate.screening.shingles import hash_words

NUM_ROWS = 100_000
NUM_SLICE = 2_000
NUM_WORDS = 600
NUM_QUESTIONS = 7_000
BATCH = 1_000
SHARES_REPLACED = (0.0, 0.005, 0.01, 0.02, 0.05)
"""Of the words of a copy; at 5 words a shingle about 1.0, 0.95, 0.9, 0.82 and 0.63 of the shingles
stay common."""
PARAMS = ScreenParams()


class Text(NamedTuple):
    """A text and what was planted in it."""

    row_id: str
    words: list[str]
    copy_of: str
    has_overlap: bool


def make_questions() -> list[EvaluationQuestion]:
    """Make questions of fourteen words with a name in the middle."""
    generator = random.Random(1)
    vocabulary = [f"w{i:x}" for i in range(5000)]
    questions = []
    for i in range(NUM_QUESTIONS):
        drawn = generator.choices(vocabulary, k=14)
        text = " ".join([*drawn[:6], f"Name{i:x}", f"Second{i:x}", *drawn[6:]])
        questions.append(EvaluationQuestion("planted", f"e{i}", text))
    return questions


def make_texts(count: int, questions: list[EvaluationQuestion]) -> Iterator[Text]:
    """Make texts from 5,000 words, as unequally frequent as those of a language."""
    generator = random.Random(0)
    vocabulary = [f"w{i:x}" for i in range(5000)]
    draw = partial(generator.choices, vocabulary, cum_weights=_cumulative(5000))
    originals: list[tuple[str, list[str]]] = []
    for i in range(count):
        row_id, copy_of, text = f"q{i:07}", "", draw(k=NUM_WORDS)
        if i % 10 == 9:
            copy_of, text = originals[generator.randrange(len(originals))]
            text = list(text)
            num_replaced = round(NUM_WORDS * SHARES_REPLACED[i // 10 % 5])
            for place in generator.sample(range(NUM_WORDS), num_replaced):
                text[place] = draw(k=1)[0]
        elif i % 100 == 50:
            text[200:210] = words(questions[i % len(questions)].question)[2:12]
        elif len(originals) < 1000:
            originals.append((row_id, text))
        yield Text(row_id, text, copy_of, i % 100 == 50)


def put_a_word_in(question: str) -> str:
    """Put another word in the middle of a question."""
    own = question.split()
    return " ".join([*own[:7], "indeed", *own[7:]])


def _cumulative(count: int) -> list[float]:
    total, found = 0.0, []
    for rank in range(count):
        total += 1 / (rank + 10)
        found.append(total)
    return found


def batches(texts: Iterator[Text]) -> Iterator[list[Text]]:
    """Divide texts into batches as the stage does."""
    batch: list[Text] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class Clock:
    """Clock of CPU seconds by part of the work."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last = time.process_time()

    def start(self) -> None:
        """Start again; the time since the last call belongs to no part."""
        self._last = time.process_time()

    def stop(self, part: str) -> None:
        """Add the time since the last call to `part`."""
        now = time.process_time()
        self.spent[part] = self.spent.get(part, 0.0) + now - self._last
        self._last = now


def measure_ours(count: int, folder: Path) -> None:
    """Print time, memory and recall of the stage's parts."""
    clock = Clock()
    questions = make_questions()
    clock.start()
    evaluation = EvaluationSets(questions, run_words=PARAMS.ngram_words)
    clock.stop(f"read {NUM_QUESTIONS:,} evaluation questions")
    planted: dict[str, str] = {}
    num_overlaps = num_found = num_wrong = 0
    with NearDuplicates(
        folder, shingle_words=PARAMS.shingle_words, min_similarity=PARAMS.min_similarity
    ) as copies:
        for batch in batches(make_texts(count, questions)):
            joined = [" ".join(text.words) for text in batch]
            clock.start()
            split = [words(text) for text in joined]
            clock.stop("words")
            hashed = hash_words(split)
            clock.stop("hashes of words")
            shared = evaluation.shared(split, hashed)
            clock.stop("overlap")
            copies.add([text.row_id for text in batch], hashed)
            clock.stop("near-duplicates: signatures")
            for text, run in zip(batch, shared, strict=True):
                if text.copy_of:
                    planted[text.row_id] = text.copy_of
                num_overlaps += text.has_overlap
                if run is not None:
                    num_found += text.has_overlap
                    num_wrong += not text.has_overlap
        clock.start()
        found = {duplicate.row_id for duplicate in copies.find()}
        clock.stop("near-duplicates: candidates and counting")
    num_near = 0
    edited = [put_a_word_in(item.question) for item in questions]
    clock.start()
    for question in edited:
        num_near += evaluation.near(question) is not None
    clock.stop(f"near questions, of {len(edited):,}")
    for part, spent in clock.spent.items():
        print(f"{part:44}{spent:10.2f}{count / max(spent, 1e-9):15,.0f}")
    total = sum(clock.spent.values())
    print(f"{'all':44}{total:10.2f}{count / total:15,.0f}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    print(f"edited questions found: {num_near:,} of {len(edited):,}")
    print(f"overlaps found: {num_found:,} of {num_overlaps:,} planted, {num_wrong:,} others")
    print_recall("copies found", planted, found)


def print_recall(title: str, planted: dict[str, str], found: set[str]) -> None:
    """Print the share of the planted copies that was found, by how much of them was replaced."""
    for k, share in enumerate(SHARES_REPLACED):
        own = [row_id for row_id in planted if int(row_id[1:]) // 10 % 5 == k]
        share_found = len(found & set(own)) / max(len(own), 1)
        print(f"{title}, {share:.1%} of the words replaced: {share_found:7.1%}")
    print(f"{title}, not planted: {len(found - planted.keys()):,}")


def measure_datasketch(count: int) -> None:
    """Print time and recall of datasketch."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

    texts = list(make_texts(count, make_questions()))
    size = PARAMS.shingle_words
    index = MinHashLSH(threshold=PARAMS.min_similarity, num_perm=NUM_HASHES)
    found = set()
    started = time.process_time()
    for text in texts:
        signature = MinHash(num_perm=NUM_HASHES)
        runs = zip(*(text.words[i:] for i in range(size)), strict=False)
        signature.update_batch([" ".join(run).encode() for run in set(runs)])
        if index.query(signature):
            found.add(text.row_id)
        else:
            index.insert(text.row_id, signature)
    spent = time.process_time() - started
    print(f"{'near-duplicates':44}{spent:10.2f}{count / spent:15,.0f}")
    print_recall(
        "copies proposed", {text.row_id: text.copy_of for text in texts if text.copy_of}, found
    )


def main(arguments: list[str]) -> None:
    """Print the tables."""
    count = int(arguments[0]) if arguments else NUM_ROWS
    head = f"{'':44}{'seconds':>10}{'rows a second':>15}"
    for size in (count, NUM_SLICE):
        print(f"\n{size:,} texts of {NUM_WORDS} words, this project\n{head}")
        with tempfile.TemporaryDirectory() as folder:
            measure_ours(size, Path(folder))
    print(f"\n{NUM_SLICE:,} texts of {NUM_WORDS} words, datasketch\n{head}")
    measure_datasketch(NUM_SLICE)


if __name__ == "__main__":
    main(sys.argv[1:])
