"""Compare tokenising with exact masks to plain batch tokenisation of the same texts.

    TOKENIZERS_PARALLELISM=false python -m bench.masks TOKENIZER [ROWS]

TOKENIZER is a folder or a name on the Hub. The rows are trajectories with two searches, made from a
seed: short ones have observations of 40 words, as in the microworld, long ones of 450, as real
search has. Plain tokenisation gets whole texts in batches of 1,000 and makes no mask. Both ways
take turns; the least CPU time of three runs counts. Target: half the speed of plain tokenisation.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from coa.policy.local.model import load_tokenizer
from coa.records import protocol
from coa.records.tokens import PieceEncoder, tokenise
from coa.records.trajectory import Outcome, Step

NUM_REPEATS = 3
BATCH = 1000
OBSERVATION_WORDS = {"short": 40, "long": 450}
WORDS = (
    *("the", "of", "in", "was", "and", "by", "film", "director", "born", "city", "company"),
    *("which", "who", "founded", "river", "award", "novel", "Maria", "Torres", "Kindred"),
    *("Quarry", "Villa", "Pellin", "Estavia", "1987", "2004", "author", "university", "mayor"),
)

Row = tuple[str, tuple[Step, ...]]
"""A prompt and the steps after it."""


def text_of(words: random.Random, num_words: int) -> str:
    """Make a text of so many words."""
    return " ".join(words.choices(WORDS, k=num_words))


def make_row(seed: int, num_observed: int) -> Row:
    """Make a trajectory with two searches and observations of so many words."""
    words = random.Random(seed)
    num_thought = 10 + num_observed // 10
    prompt = f"Question: {text_of(words, 15)}?\n\n{protocol.THINK_OPEN}\n"
    steps: list[Step] = []
    for _ in range(2):
        call = f"{protocol.open_tag('search')} {text_of(words, 5)} {protocol.close_tag('search')}"
        steps += protocol.parse_policy(f"{text_of(words, num_thought)} {call}")
        steps.append(protocol.observation("search", text_of(words, num_observed), Outcome.OK))
    answer = f"{text_of(words, num_thought)}\n{protocol.THINK_CLOSE}\n\n\\boxed{{Maria}}"
    return prompt, (*steps, *protocol.parse_policy(answer))


def plainly(tokenizer: Any, rows: Sequence[Row]) -> int:
    """Tokenise whole texts in batches; return the number of tokens."""
    num_tokens = 0
    for start in range(0, len(rows), BATCH):
        texts = [prompt + protocol.render(steps) for prompt, steps in rows[start : start + BATCH]]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        num_tokens += sum(len(ids) for ids in encoded)
    return num_tokens


def with_masks(tokenizer: Any, rows: Sequence[Row]) -> int:
    """Tokenise with masks as training does; return the number of tokens."""
    encoder = PieceEncoder(tokenizer)
    num_tokens = 0
    for prompt, steps in rows:
        tokens = tokenise(prompt, steps, encoder, end_id=tokenizer.eos_token_id)
        num_tokens += len(tokens.loss_mask)
    return num_tokens


def main(name: str, num_rows: int) -> None:
    """Measure both ways and print their speeds."""
    tokenizer = load_tokenizer(name)
    ways: dict[str, Callable[[Any, Sequence[Row]], int]]
    ways = {"plain": plainly, "with masks": with_masks}
    for size, num_observed in OBSERVATION_WORDS.items():
        rows = [make_row(seed, num_observed) for seed in range(num_rows)]
        best: dict[str, float] = {}
        for _ in range(NUM_REPEATS):
            for way, run in ways.items():
                start = time.process_time()
                num_tokens = run(tokenizer, rows)
                speed = num_tokens / (time.process_time() - start)
                best[way] = max(best.get(way, 0.0), speed)
        for way, speed in best.items():
            print(f"{size:6} {way:11} {speed:>12,.0f} tokens/s  {speed / best['plain']:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
