"""Download public question sets from the Hugging Face Hub into local parquet files.

    coa fetch dataset=hotpotqa split=train out=data/raw/hotpotqa_train.parquet
    coa fetch suite=paper     # every file that conf/paper.yaml reads

It also takes `revision=...` and `num_questions=...`. A file that is there already, of the same
revision, is kept. To read a file, name it in `questions.files`:

    - {path: data/raw/hotpotqa_train.parquet, format: hotpotqa, split: train}

The rows are written as they are published. This is a command and not a stage: a pipeline should not
depend on what the Hub serves tomorrow, but on the file (`dvc add` it). Its metadata names
repository, configuration, split and commit. HF_ENDPOINT names a mirror, HF_TOKEN a token; with
HF_HUB_OFFLINE=1 an earlier download is used.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from coa.errors import (
    CoaError,
    ConfigError,
    InputError,
    MissingExtraError,
    ServiceError,
    unknown_name,
    writing_error,
)
from coa.settings.outputs import check_place
from coa.settings.params import Params
from coa.store.output_file import check_own_file
from coa.store.whole_files import replacing
from coa.terminal import printable
from synth.question_formats import QuestionFormat

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

_COMMIT = re.compile("[0-9a-f]{40}")
_ROWS_PER_GROUP = 1000
"""As in coa/store/tables.py: rows with ten long passages stay a few megabytes."""


class Suite(StrEnum):
    """A group of files that are downloaded together."""

    NONE = ""
    """No group: the one split that the other settings name."""
    PAPER = "paper"
    """HotpotQA's train and validation questions, and the test sets of AutoCoA: NQ, TriviaQA,
    2WikiMultihopQA, MuSiQue and Bamboogle (for HotpotQA, its validation questions)."""


@dataclass(frozen=True, slots=True)
class FetchParams:
    """Settings of a download."""

    dataset: QuestionFormat = QuestionFormat.HOTPOTQA
    """The data set; it decides the repository and the configuration."""
    split: str = "train"
    """The split's name in the repository: train, validation, dev, ..."""
    out: str = "data/raw/hotpotqa_train.parquet"
    """The .parquet file to write."""
    repository: str = ""
    """Another repository, or a folder, with rows in the same form or in FlashRAG's; empty for the
    usual one."""
    config: str = ""
    """The configuration of another repository."""
    revision: str = ""
    """A branch, tag or commit; empty for the newest."""
    num_questions: int = 0
    """Number of rows to write, from the first; 0 writes all. The download is always whole."""
    suite: Suite = Suite.NONE
    """A group of files, one after another, instead of the one split; all in data/raw/."""


class Fetched(NamedTuple):
    """What was downloaded, or was there already."""

    num_rows: int
    metadata: dict[str, str]
    """The file's: repository, configuration, split, commit, limit."""
    was_there: bool
    """Whether the file was there already and was kept."""


class HubSource(NamedTuple):
    """A repository of the Hub with a data set in files that load without a script."""

    repo: str
    config: str = ""


SOURCES = {
    QuestionFormat.HOTPOTQA: HubSource("hotpotqa/hotpot_qa", "fullwiki"),
    QuestionFormat.TWO_WIKI: HubSource("framolfese/2WikiMultihopQA"),
    QuestionFormat.MUSIQUE: HubSource("dgslibisey/MuSiQue"),
    QuestionFormat.NQ: HubSource("google-research-datasets/nq_open", "nq_open"),
    QuestionFormat.TRIVIAQA: HubSource("mandarjoshi/trivia_qa", "rc.nocontext"),
    QuestionFormat.BAMBOOGLE: HubSource("chiayewken/bamboogle"),
}


def _file(dataset: QuestionFormat, split: str, config: str = "") -> FetchParams:
    return FetchParams(dataset, split, f"data/raw/{dataset}_{split}.parquet", config=config)


SUITES = {
    Suite.PAPER: (
        _file(QuestionFormat.HOTPOTQA, "train"),
        _file(QuestionFormat.HOTPOTQA, "validation"),
        _file(QuestionFormat.NQ, "validation"),
        # `rc`, the usual configuration, has rows of two sources of evidence, and ids occur twice.
        _file(QuestionFormat.TRIVIAQA, "validation", "unfiltered.nocontext"),
        _file(QuestionFormat.TWO_WIKI, "validation"),
        _file(QuestionFormat.MUSIQUE, "validation"),
        _file(QuestionFormat.BAMBOOGLE, "test"),
    )
}
"""The files of each suite: the splits as published whose answers are public."""


def source_of(params: FetchParams) -> HubSource:
    """Return the repository to read.

    Raises:
        ConfigError: none is named, and the usual one of the data set is not known.
    """
    if params.repository:
        return HubSource(params.repository, params.config)
    source = SOURCES.get(params.dataset)
    if source is None:
        raise unknown_name(
            "data set",
            params.dataset,
            SOURCES,
            where="fetch.dataset; or name a repository: fetch.repository",
        )
    return HubSource(source.repo, params.config or source.config)


def fetch(params: FetchParams) -> Fetched:
    """Download the split and write it, unless the file is there already.

    Raises:
        ConfigError: the data set is not known, or the file's ending is not .parquet.
        InputError: the Hub has no such repository, configuration, revision or split, or its files
            cannot be read.
        ServiceError: the Hub cannot be reached, or the offline mode is on and there is no earlier
            download.
        MissingExtraError: `datasets` is not installed.
        OutputError: the file cannot be written.
    """
    out = Path(params.out)
    source = source_of(params)
    if out.suffix != ".parquet":
        raise ConfigError(f"fetch.out must end in .parquet: {params.out!r}", where="fetch.out")
    check_place(params.out, "synth.fetch")
    check_own_file(out, b"coa.dataset", ())
    builder = _builder(source, params)
    metadata = {
        "coa.dataset": str(params.dataset),
        "coa.repo": source.repo,
        "coa.config": str(builder.config.name),
        "coa.split": params.split,
        "coa.revision": str(builder.hash),  # the commit; for a folder, a hash of its files
        "coa.limit": str(params.num_questions),
    }
    if _is_there(out, metadata):
        return Fetched(pq.read_metadata(out).num_rows, metadata, was_there=True)
    rows = _download(builder, source, params)
    return Fetched(_write(out, rows, metadata, params.num_questions), metadata, was_there=False)


def _is_there(out: Path, metadata: dict[str, str]) -> bool:
    """Tell whether the file has these rows already; a broken file has not."""
    if not out.is_file():
        return False
    try:
        found = pq.read_schema(out).metadata or {}
    except (pa.ArrowInvalid, OSError):
        return False
    return all(found.get(key.encode()) == value.encode() for key, value in metadata.items())


def _builder(source: HubSource, params: FetchParams) -> "DatasetBuilder":
    """Find the data set and its revision; no rows are downloaded yet."""
    try:
        from datasets import load_dataset_builder
    except ImportError:
        raise MissingExtraError("datasets", "train") from None
    with _readable_errors(source, params.revision):
        builder = load_dataset_builder(
            source.repo, source.config or None, revision=params.revision or None
        )
    if _COMMIT.fullmatch(params.revision) and builder.hash != params.revision:
        # The Hub's client falls back on any earlier download, and a folder has no revisions.
        raise InputError(
            "only another revision is there",
            where=source.repo,
            got=builder.hash,
            fix="reach the Hub, or leave fetch.revision empty and take what is there",
        )
    return builder


def _download(builder: "DatasetBuilder", source: HubSource, params: FetchParams) -> "Dataset":
    with _readable_errors(source, params.revision):
        builder.download_and_prepare()
    known = sorted(builder.info.splits or {})
    if params.split not in known:
        raise InputError(
            f"there is no split {params.split!r}",
            where=source.repo,
            expected=f"one of {', '.join(known)}",
            fix="set fetch.split",
        )
    return builder.as_dataset(params.split)


@contextmanager
def _readable_errors(source: HubSource, revision: str) -> Iterator[None]:
    """Turn errors of `datasets` and the Hub's client into readable ones, narrower kinds first."""
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError

    parts = (source.repo, source.config, revision)
    where = " ".join(part for part in parts if part)
    try:
        yield
    except FileNotFoundError as error:
        fix = "check fetch.repository and fetch.revision; a private repository needs HF_TOKEN"
        raise InputError(
            "there is no such data set", where=where, got=_line(error), fix=fix
        ) from error
    except (OSError, HTTPError) as error:
        fix = (
            "check the network, HF_ENDPOINT and the free space of HF_HOME, then run the same "
            "command again; with HF_HUB_OFFLINE=1 only what was downloaded before is there"
        )
        raise ServiceError("the download failed", where=where, got=_line(error), fix=fix) from error
    except (ValueError, RuntimeError, DatasetsError) as error:
        fix = (
            "check fetch.config; a repository that needs a script of its own cannot be loaded: "
            "choose one with parquet"
        )
        raise InputError(
            "the data set cannot be loaded", where=where, got=_line(error), fix=fix
        ) from error


def _line(error: Exception) -> str:
    """Return the first line of an error's text, else the name of its type."""
    lines = str(error).splitlines()
    if lines and lines[0]:
        return lines[0]
    return type(error).__name__


def _write(out: Path, rows: "Dataset", metadata: dict[str, str], limit: int) -> int:
    """Write the rows as they are; the file appears at the end, when it is complete."""
    count: int = rows.num_rows
    if limit:
        count = min(limit, count)
    table = rows.select(range(count)).data.table.replace_schema_metadata(metadata)
    try:
        with replacing(out) as partial:
            pq.write_table(table, partial, row_group_size=_ROWS_PER_GROUP, compression="zstd")
    except OSError as error:
        raise writing_error(out, error) from error
    return count


def fetch_all(files: Sequence[FetchParams]) -> str:
    """Download files one after another, and return a line that counts them.

    One that fails does not keep the others from being downloaded.

    Raises:
        CoaError: files cannot be downloaded; names each of them. A full disk, or a file of
            somebody else in the way, ends the command at once.
    """
    failed: dict[str, CoaError] = {}
    num_there = 0
    for file in files:
        try:
            done = fetch(file)
        except (InputError, ServiceError) as error:
            failed[file.out] = error
            continue
        num_there += done.was_there
        print(printable(_line_of(file, done)), file=sys.stderr)
    if failed:
        raise _not_all(failed, len(files))
    return f"{len(files)} files are there, {num_there} of them were there before"


def _not_all(failed: dict[str, CoaError], num_files: int) -> CoaError:
    """Return the error that names every file that is missing, and why."""
    lines: list[str] = []
    for out, error in failed.items():
        reason = ", ".join(text for text in (error.details["where"], error.details["got"]) if text)
        lines.append(f"\n    {out}: {error.what} ({reason})")
    fixes = dict.fromkeys(error.details["what to do"] for error in failed.values())
    fix = "; ".join(fixes)
    is_unreachable = any(isinstance(error, ServiceError) for error in failed.values())
    kind = ServiceError if is_unreachable else InputError
    return kind(
        f"{len(failed)} of {num_files} files were not downloaded",
        got="".join(lines),
        fix=f"{fix}; then run the same command again: it keeps the files that are there",
    )


def _line_of(file: FetchParams, done: Fetched) -> str:
    origin = [done.metadata[f"coa.{part}"] for part in ("repo", "config")]
    what = f"{file.out}: {done.num_rows:,} rows of {', '.join(origin)}"
    kept = ", there already: kept" if done.was_there else ""
    return f"{what}, at {done.metadata['coa.revision']}{kept}"


def suite_files(params: FetchParams) -> list[FetchParams]:
    """List the files of a suite, with the number of rows that is asked for.

    Raises:
        ConfigError: a setting is set that belongs to one data set.
    """
    for name in ("repository", "config", "revision"):
        if getattr(params, name):
            raise ConfigError(
                f"fetch.{name} has no meaning beside fetch.suite",
                got=getattr(params, name),
                fix=f"leave fetch.{name} empty, or download the files one by one",
            )
    return [replace(file, num_questions=params.num_questions) for file in SUITES[params.suite]]


def main(arguments: Sequence[str]) -> str:
    """Download one split, or the files of a suite, and return the summary line."""
    params = Params.load("fetch", arguments).section(FetchParams)
    if params.suite is not Suite.NONE:
        return fetch_all(suite_files(params))
    return _line_of(params, fetch(params))


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
