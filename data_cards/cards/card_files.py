"""Write the files of cards into their folder, and find those there that are out of date."""

from collections.abc import Mapping
from pathlib import Path

from coa.store.output_folder import OwnFolder, replace_folder

CITED = "AutoCoA"
"""The work that every card cites, which distinguishes a card from other README.md files."""


def write_files(folder: Path, files: Mapping[str, bytes], own: OwnFolder) -> None:
    """Replace `folder`, which the same command made, with one that has these files."""
    with replace_folder(folder, own) as new:
        for name, content in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def stale_files(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """List the files that `folder` lacks, that differ from `files`, or that are not among them."""
    present = {}
    for path in folder.rglob("*"):
        if path.is_file():
            present[path.relative_to(folder).as_posix()] = path
    stale = present.keys() - files.keys()
    for name, content in files.items():
        if name not in present or present[name].read_bytes() != content:
            stale.add(name)
    return sorted(stale)
