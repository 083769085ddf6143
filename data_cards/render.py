"""Render dataset cards: Markdown with the Hub's metadata, every number counted from files.

    python -m data_cards.render

Reads data/assemble/, data/questions.parquet, data/filter/, data/branch/, data/grade.parquet, the
prompts and, where they are there, data/screen/, data/analyse.parquet and reports/pictures/*.png.
Writes data/render/README.md for all sets, and data/render/{set}/README.md for each with the
pictures it shows.

One repository on the Hub holds all sets, each as a configuration of its own, with its files at
data/{set}/{split}.parquet. data/render/ with those files beside it is that repository.
data/render/{set}/ with its own files is one that holds this set alone. Either way the paths in the
cards are the same. Same inputs give same bytes: no dates, nothing from the network.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from coa.files import RENDERED
from coa.output_folder import OwnFolder, replace_folder
from coa.params import Params
from data_cards.cards.card import Card, SetCard, front_page, set_card
from data_cards.cards.measure import measure
from data_cards.catalogue import SetName
from data_cards.facts import num_questions_in_both_splits
from data_cards.settings import RenderParams, check, shown_settings

OUT = RENDERED
OWN_FOLDER = OwnFolder(
    "python -m data_cards.render",
    "README.md",
    rf"README\.md|({'|'.join(SetName)})/(README\.md|pictures/[\w-]+\.png)",
)


class Rendered(NamedTuple):
    """All cards of a run."""

    front: Card
    sets: tuple[SetCard, ...]

    def files(self) -> dict[str, bytes]:
        """Give the cards and their pictures by their path in a repository, the front page first.

        Raises:
            OutputError: a picture cannot be read.
        """
        found = self.texts()
        for card in self.sets:
            for picture in card.card.pictures:
                found[f"{card.info.name}/pictures/{picture.name}"] = picture.read_bytes()
        return found

    def texts(self) -> dict[str, bytes]:
        """Give the cards alone by their path in a repository."""
        found = {"README.md": self.front.text.encode()}
        for card in self.sets:
            found[f"{card.info.name}/README.md"] = card.card.text.encode()
        return found


def render(params: Params, section: RenderParams) -> Rendered:
    """Measure the sets and write their cards.

    Raises:
        ConfigError: a setting cannot stand in a card.
        InputError: a file is missing or broken, or a set is empty.
    """
    check(section)
    settings = shown_settings(params)
    cards = []
    for name in SetName:
        facts = measure(name, settings)
        cards.append(set_card(facts, section))
    front = front_page(cards, num_questions_in_both_splits(), section)
    return Rendered(front, tuple(cards))


def write_files(folder: Path, files: Mapping[str, bytes], own: OwnFolder) -> None:
    """Replace `folder`, which the same command made, with one that has these files.

    Raises:
        OutputError: a file cannot be written, or others stand in the folder.
    """
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


def main(arguments: Sequence[str]) -> str:
    """Render the cards and return the summary line."""
    params = Params.load("render", arguments)
    rendered = render(params, params.section(RenderParams))
    write_files(OUT, rendered.files(), OWN_FOLDER)
    sizes = [f"{card.info.num_rows:,} {card.info.name}" for card in rendered.sets]
    return f"{OUT}: {', '.join(sizes)}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
