"""Find the local files that `index.corpus` names, and estimate how many passages they hold."""

import re
from collections.abc import Sequence
from pathlib import Path

from coa.errors import ConfigError, InputError, ServiceError, check_no_folder
from coa.search.corpus import ENDINGS, corpus_files
from coa.sources import COMPRESSIONS, ending_of

_HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<pattern>.+))?")
_SAMPLE_BYTES = 1_000_000


def files_of(corpus: str) -> tuple[Path, ...]:
    """List the local files of a corpus.

    A data set of the Hub is downloaded first, or taken from an earlier download.

    Raises:
        InputError: there are no such files, or no such data set.
        ConfigError: the name of a data set cannot be read, or a file's ending is not known.
        ServiceError: the Hub cannot be reached, or the offline mode is on and there is no earlier
            download.
    """
    if not corpus.startswith("hub:"):
        return corpus_files(corpus)
    found = _HUB.fullmatch(corpus)
    if found is None:
        expected = "hub:OWNER/NAME[@REVISION][:PATTERN]"
        raise ConfigError(f"cannot read {corpus!r}", where="index.corpus", expected=expected)
    pattern = found["pattern"] or "*"
    folder = _download(found["repo"], found["revision"], pattern)
    files = [path for path in folder.rglob(pattern) if path.name.endswith(ENDINGS)]
    if not files:
        expected = f"*{', *'.join(ENDINGS)}"
        raise InputError(
            f"the data set {found['repo']} has no corpus files",
            expected=expected,
            fix="name a PATTERN",
        )
    return tuple(sorted(files))


def _download(repo: str, revision: str | None, pattern: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = [pattern]
    if not pattern.endswith(ENDINGS):
        wanted = [f"{pattern}{ending}" for ending in ENDINGS]
    try:
        folder = snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns=wanted
        )
        return Path(folder)
    except RepositoryNotFoundError as error:
        fix = "check the name; a private data set needs HF_TOKEN"
        what = f"there is no data set {repo} on the Hub"
        raise InputError(what, got=_first_line(error), fix=fix) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        fix = (
            "check the network and HF_ENDPOINT; with HF_HUB_OFFLINE=1 only what was downloaded "
            "before is there"
        )
        raise ServiceError(
            "the download failed", where=repo, got=_first_line(error), fix=fix
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    if not lines or not lines[0]:
        return type(error).__name__
    return lines[0]


def expected_rows(files: Sequence[Path]) -> int | None:
    """Estimate how many rows the files hold, to show the time left.

    The number is exact for parquet; of other files it is estimated from the length of the first
    lines. It is None where all of a compressed file would have to be read.
    """
    total = 0
    for path in files:
        count = _expected_in(path)
        if count is None:
            return None
        total += count
    return total


def _expected_in(path: Path) -> int | None:
    from coa.tables import open_parquet

    if ending_of(path) == ".parquet":
        return int(open_parquet(path).metadata.num_rows)
    if path.suffix in COMPRESSIONS:
        return None
    check_no_folder(path)
    try:
        with path.open("rb") as file:
            start = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise InputError(f"cannot read {path}", got=error.strerror or error) from error
    lines = start.count(b"\n")
    if not lines:
        return 0
    return round(path.stat().st_size / len(start) * lines)
