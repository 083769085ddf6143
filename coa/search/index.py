"""Build the index folder of the embedded search engine from corpus files.

    coa search index [corpus=FILE_OR_FOLDER] [out=data/index]

Reads parquet, JSON lines or CSV; `index.columns` says which of their columns holds what. Where the
questions are there, it reports for each data set which gold titles the corpus lacks.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from coa.errors import ConfigError
from coa.progress import Progress
from coa.questions.gold_titles import GoldTitles
from coa.records.question import Question
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.corpus import corpus_files, corpus_hash, expected_rows, read_passages
from coa.settings.outputs import check_place
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import INDEX, QUESTIONS
from coa.store.metrics import write_metrics


@dataclass(frozen=True, slots=True)
class IndexParams:
    """Settings of the index: what is searched, and how its text is cut into terms."""

    corpus: str = ""
    """A .parquet, .jsonl (also .gz, .zst), .json or .csv file of passages, a folder, or a pattern
    such as `raw/*.parquet`; `dvc repro` follows files and folders alone. Ids are unique over all
    files, and all have the same columns."""
    out: str = INDEX.as_posix()
    """The folder that is written; `dvc repro` knows the default alone."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our column to the file's, where the names differ: `{text: body}`; `{contents: contents}` for
    wiki-18's form."""
    reader: str = ""
    """A function of yours that reads each file, as `module:name`: it is given the path and yields
    rows, each a dict (examples/own_parts.py). Files may then have any ending."""
    is_stemmed: bool = True
    """Reduce English words to their stems."""


def check_is_own(params: IndexParams) -> bool:
    """Return whether this is the index of the pipeline, as params.yaml alone describes it.

    Raises:
        ConfigError: another index would take the place of the pipeline's.
    """
    if Path(params.out).resolve() != INDEX.resolve():
        return False
    if replace(params, out=INDEX.as_posix()) == Params.load("index").section(IndexParams):
        return True
    if INDEX.exists():
        raise ConfigError(
            f"{INDEX} is the index of the pipeline: nothing was overwritten",
            where="the command line",
            expected="the settings `index` of params.yaml for this folder",
            got=f"corpus={params.corpus}",
            fix="name another folder, such as out=data/my_index, or change params.yaml",
        )
    return False


def main(arguments: Sequence[str]) -> str:
    """Build the index that `params.yaml` describes and return the summary line."""
    params = Params.load("index", arguments).section(IndexParams)
    check_place(params.out, "coa.search.index")
    is_pipelines = check_is_own(params)
    files = corpus_files(params.corpus, params.reader)
    out = Path(params.out)
    gold = GoldTitles(tables.read_table(QUESTIONS, Question) if QUESTIONS.is_file() else ())

    def read_and_note() -> Iterator[Passage]:
        for passage in read_passages(files, params.columns, params.reader):
            gold.see(passage.title)
            yield passage

    settings = IndexSettings(is_stemmed=params.is_stemmed)
    digest = corpus_hash(files)
    expected = None if params.reader else expected_rows(files)
    with Progress("index", expected, "passages") as progress:
        manifest = build_index(read_and_note(), out, settings, digest, progress)
    coverage = gold.coverage()
    if is_pipelines:
        by_set = {name: asdict(found) for name, found in coverage.items()}
        write_metrics("index", {"num_passages": manifest.num_passages, "gold_titles": by_set})
    lines = [
        f"{out}: {manifest.num_passages:,} passages from {params.corpus}, {manifest.fingerprint}"
    ]
    for name, found in coverage.items():
        if found.incomplete:
            lines.append(
                f"{name}: {found.incomplete:,} of {found.questions:,} questions lack a gold "
                f"passage; {found.missing:,} of {found.titles:,} gold titles are of no passage"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
