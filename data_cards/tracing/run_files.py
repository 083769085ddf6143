"""Find in dvc.lock the files that a row passed through, with the hashes of the run that made it.

The row is in data/assemble. Where that folder is the one of dvc.lock, the lock says which files
`assemble` read, by their hashes, and which of its stages made them, and so on back to the
questions. A file that another run made breaks the chain: nothing before it is known.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from coa.files import ASSEMBLED
from data_cards.tracing.provenance import Lock, md5_of

LAST = "assemble"


class RunFile(NamedTuple):
    """A file on a row's way."""

    stage: str
    """Its name in dvc.yaml."""
    path: str
    md5: str
    """The hash by which DVC knows the file."""
    is_known: bool
    """Whether the run of `stage` that dvc.lock describes made it."""


def is_of_lock(lock: Lock) -> bool:
    """Return whether data/assemble is the one that dvc.lock describes."""
    md5 = lock.outs.get(LAST, {}).get(ASSEMBLED.as_posix(), "")
    return bool(md5) and md5_of(ASSEMBLED) == md5


def files_behind(lock: Lock, stages: Collection[str]) -> Iterator[RunFile]:
    """Yield the files of `stages` that led to data/assemble, the last stage first.

    Args:
        lock: One to which data/assemble belongs (`is_of_lock`).
        stages: Those that a row passed; what others made is left out.
    """
    makers = {}
    for stage, made in lock.outs.items():
        for path in made:
            makers[path] = stage
    for path, md5 in lock.outs[LAST].items():
        yield RunFile(LAST, path, md5, is_known=True)
    todo = [LAST]
    seen = {LAST}
    while todo:
        for path, md5 in lock.deps[todo.pop(0)].items():
            stage = makers.get(path, "")
            if stage not in stages or stage in seen:
                continue
            seen.add(stage)
            if lock.outs[stage][path] != md5:
                yield RunFile(stage, path, md5, is_known=False)
                continue
            todo.append(stage)
            for made_path, made_md5 in lock.outs[stage].items():
                yield RunFile(stage, made_path, made_md5, is_known=True)
