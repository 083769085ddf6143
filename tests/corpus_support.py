"""Write the rows of a corpus, for the tests of its reading and of the index."""

import json
from pathlib import Path


def write_jsonl(path: Path, *lines: object) -> Path:
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    return path


def row(number: int, **changes: object) -> dict[str, object]:
    return {"id": f"p{number}", "title": f"Title {number}", "text": f"Text {number}."} | changes
