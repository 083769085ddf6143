"""What `index.corpus` names to local files, and about how many passages they hold."""

import re
from collections.abc import Sequence
from pathlib import Path

from coa.errors import ConfigError, InputError, ServiceError, check_no_folder
from coa.search.corpus import ENDINGS, corpus_files
from coa.sources import COMPRESSIONS, ending_of

_HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<pattern>.+))?")
_SAMPLE_BYTES = 1_000_000


def files_of(corpus: str) -> tuple[Path, ...]:
    """The local files of a corpus; a data set of the Hub is downloaded first, or taken from an earlier download.

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
    folder = _download(found["repo"], found["revision"], found["pattern"] or "*")
    files = sorted(
        path for path in folder.rglob(found["pattern"] or "*") if path.name.endswith(ENDINGS)
    )
    if not files:
        expected = f"*{', *'.join(ENDINGS)}"
        raise InputError(
            f"the data set {found['repo']} has no corpus files",
            expected=expected,
            fix="name a PATTERN",
        )
    return tuple(files)


def _download(repo: str, revision: str | None, pattern: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = [f"{pattern}{'' if pattern.endswith(ENDINGS) else ending}" for ending in ENDINGS]
    try:
        return Path(
            snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=wanted)
        )
    except RepositoryNotFoundError as error:
        fix = "check the name; a private data set needs HF_TOKEN"
        raise InputError(
            f"there is no data set {repo} on the Hub", got=_line(error), fix=fix
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        fix = "check the network and HF_ENDPOINT; with HF_HUB_OFFLINE=1 only what was downloaded before is there"
        raise ServiceError("the download failed", where=repo, got=_line(error), fix=fix) from error


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def expected_rows(files: Sequence[Path]) -> int | None:
    """About how many rows the files hold, for the time left: exact for parquet, else by the length of the first lines.

    None where nothing can be said without reading all of a compressed file.
    """
    counts = [_expected(path) for path in files]
    return None if None in counts else sum(count for count in counts if count is not None)


def _expected(path: Path) -> int | None:
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
    return round(path.stat().st_size / len(start) * lines) if lines else 0
