"""Corpus files to the index folder of the embedded search engine.

    python -m coa.search.index [corpus=FILE_OR_FOLDER]

Reads parquet, JSON lines or CSV; `index.columns` says which of their columns holds what. Writes data/index.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coa.metrics import write_metrics
from coa.params import Params
from coa.progress import Progress
from coa.search.corpus import corpus_files, corpus_hash, read_passages
from coa.search.embedded import IndexSettings, build_index

OUT = Path("data/index")


@dataclass(frozen=True, slots=True)
class IndexParams:
    """What is searched, and how its text is cut into terms."""

    corpus: str
    """A .parquet, .jsonl or .csv file of passages, a folder of them, or a pattern such as raw/*.parquet; `dvc repro`
    follows files and folders, not patterns. Ids are unique over all files, and all have the same columns."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our column to the file's, where the names differ: {text: body}; {contents: contents} for wiki-18's form."""
    is_stemmed: bool = True
    """Reduce English words to their stems."""


def main(arguments: Sequence[str]) -> str:
    """Build the index that `params.yaml` describes; the summary line is returned."""
    params = Params.load("index", arguments).section(IndexParams)
    files = corpus_files(params.corpus)
    passages = read_passages(files, params.columns)
    settings = IndexSettings(is_stemmed=params.is_stemmed)
    with Progress("index", None, "passages") as progress:
        manifest = build_index(passages, OUT, settings, corpus_hash(files), progress)
    write_metrics("index", {"num_passages": manifest.num_passages})
    return f"{OUT}: {manifest.num_passages:,} passages from {params.corpus}, {manifest.fingerprint}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
