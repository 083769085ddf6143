"""Measure how fast foreign rows are read, and how much of that is the parsing of their JSON.

    python -m bench.ingest               # 10,000 rows of each format
    python -m bench.ingest 33333

A row has four searches with five documents each, about 7 KB, as R1-Searcher's rows have. Each
format is read from its file by `synth.ingest` up to our tags; writing the tables is not timed. The
ratio is to `json.loads` of the same lines in the same process. Target: 100,000 rows in less than
two minutes, with all that `python -m synth.ingest` does.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from coa.foreign.tag_families import R1_SEARCHER, SEARCH_O1, SEARCH_R1, TagFamily
from coa.policy.prompts import Prompt
from coa.records.trajectory import Mode
from synth.ingest import DroppedLine, ForeignFile, Ingestion

NUM_ROWS = 10_000
FAMILIES = (R1_SEARCHER, SEARCH_R1, SEARCH_O1)
PROMPTS: Mapping[Mode, Prompt] = {mode: Prompt("{question}", "") for mode in Mode}
WORDS = "the tower stands in the seventh district of a city on the river "


def make_row(number: int, family: TagFamily) -> dict[str, str]:
    """Make a row of a family; its question is its own."""
    call = family.calls[0][1]
    documents = "".join(f"({i + 1})Title: Tower {i} Text: {WORDS * 4}\n" for i in range(5))
    turns = []
    for i in range(4):
        turns.append(f"{WORDS * 3}{call.open} tower {i} {call.close}\n\n")
        turns.append(f"{family.observation.open}\n{documents}{family.observation.close}\n\n")
    text = "".join(turns) + "So it is Paris.</think>\n\n<answer> Paris </answer>"
    return {"question": f"Where is tower {number}?", "answer": "Paris", "response": text}


def cpu_seconds(run: Callable[[Path], None], path: Path) -> float:
    """Return the CPU seconds of this process while `run` reads a file."""
    start = time.process_time()
    run(path)
    return time.process_time() - start


def parse(path: Path) -> None:
    """Parse the JSON of every line."""
    for line in path.read_bytes().splitlines():
        json.loads(line)


def read(path: Path) -> None:
    """Read every row and write it in our tags, in memory."""
    ingestion = Ingestion(max_row_bytes=4_000_000)
    for row in ingestion.rows(ForeignFile(str(path))):
        if isinstance(row, DroppedLine):
            raise SystemExit(f"line {row.line} was dropped: {row.reason} {row.detail}")
        ingestion.in_own_tags(row, PROMPTS)


def main(num_rows: int) -> None:
    """Print a row of the table for each family."""
    print("| format | CPU seconds for 100,000 rows | parsing alone | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            path = Path(folder) / f"{family.format}.jsonl"
            with path.open("w") as file:
                for number in range(num_rows):
                    file.write(json.dumps(make_row(number, family)) + "\n")
            parsing = cpu_seconds(parse, path) / num_rows * 100_000
            reading = cpu_seconds(read, path) / num_rows * 100_000
            ratio = reading / parsing
            print(f"| {family.format} | {reading:.0f} | {parsing:.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ROWS)
