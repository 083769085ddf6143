"""Compare tokenising with exact masks to plain batch tokenisation of the same texts.

    python -m bench.masks TOKENIZER [ROWS]

TOKENIZER is a folder or a name on the Hub. The rows are trajectories of about 1,500 tokens with two
searches in words of the microworld's size, from a seed. Plain tokenisation gets whole texts in
batches of 1,000 and makes no mask. The ways take turns, and the best of three runs counts. Target:
half the speed of plain tokenisation.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from coa import protocol
from coa.policy.local import load_tokenizer
from coa.tokens import PieceEncoder, tokenise
from coa.trajectory import Outcome, Step

NUM_REPEATS = 3
BATCH = 1000
WORDS = (
    *("the", "of", "in", "was", "and", "by", "film", "director", "born", "city", "company"),
    *("which", "who", "founded", "river", "award", "novel", "Maria", "Torres", "Kindred"),
    *("Quarry", "Villa", "Pellin", "Estavia", "1987", "2004", "author", "university", "mayor"),
)


def text_of(words: random.Random, num_words: int) -> str:
    """Make a text of so many words."""
    return " ".join(words.choices(WORDS, k=num_words))


def make_row(seed: int) -> tuple[str, tuple[Step, ...]]:
    """Make a prompt and the steps of a trajectory with two searches."""
    words = random.Random(seed)
    prompt = f"Question: {text_of(words, 20)}?\n\n{protocol.THINK_OPEN}\n"
    steps: list[Step] = []
    for _ in range(2):
        call = f"{protocol.open_tag('search')} {text_of(words, 6)} {protocol.close_tag('search')}"
        steps += protocol.parse_policy(f"{text_of(words, 60)} {call}")
        steps.append(protocol.observation("search", text_of(words, 450), Outcome.OK))
    answer = f"{text_of(words, 60)}\n{protocol.THINK_CLOSE}\n\n\\boxed{{{text_of(words, 2)}}}"
    return prompt, (*steps, *protocol.parse_policy(answer))


def plainly(tokenizer: Any, rows: Sequence[tuple[str, tuple[Step, ...]]]) -> int:
    """Tokenise whole texts in batches; return the number of tokens."""
    num_tokens = 0
    for start in range(0, len(rows), BATCH):
        texts = [prompt + protocol.render(steps) for prompt, steps in rows[start : start + BATCH]]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        num_tokens += sum(len(ids) for ids in encoded)
    return num_tokens


def with_masks(tokenizer: Any, rows: Sequence[tuple[str, tuple[Step, ...]]]) -> int:
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
    rows = [make_row(seed) for seed in range(num_rows)]
    ways: dict[str, Callable[[Any, Any], int]] = {"plain": plainly, "with masks": with_masks}
    best: dict[str, float] = {}
    for _ in range(NUM_REPEATS):
        for way, run in ways.items():
            start = time.perf_counter()
            num_tokens = run(tokenizer, rows)
            speed = num_tokens / (time.perf_counter() - start)
            best[way] = max(best.get(way, 0.0), speed)
    for way, speed in best.items():
        print(f"{way:12} {speed:>12,.0f} tokens/s  {speed / best['plain']:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
