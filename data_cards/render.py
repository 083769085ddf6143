"""The sets to dataset cards: Markdown with the Hub's metadata, every number counted from the files of the run.

    python -m data_cards.render

Reads data/assemble/, data/questions.parquet, data/filter/, data/branch/, data/grade.parquet, the prompts and, where
they are there, data/screen/excluded.parquet, data/analyse.parquet and reports/pictures/*.png. Writes
data/render/README.md for all sets, and data/render/{set}/README.md for each with the pictures it shows.

One repository on the Hub holds all sets, each as a configuration of its own, with its files at
data/{set}/{split}.parquet. data/render/ with those files beside it is that repository; data/render/{set}/ with its own
files is one that holds this set alone. Either way the paths in the cards are the same. Same inputs, same bytes: no
dates, nothing from the network.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from coa.errors import writing_error
from coa.params import Params
from data_cards.card import Card, front_page, set_card
from data_cards.catalogue import SetName
from data_cards.settings import RenderParams, check, shown_settings

OUT = Path("data/render")


def write_card(folder: Path, card: Card) -> None:
    """Write a card and its pictures; what stood in `folder` before is removed.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(card.text, encoding="utf-8", newline="\n")
        for picture in card.pictures:
            target = folder / "pictures" / picture.name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(picture, target)
    except OSError as error:
        raise writing_error(folder, error) from error


def main(arguments: Sequence[str]) -> str:
    """Render the cards; the summary line is returned."""
    params = Params.load("render", arguments)
    section = params.section(RenderParams)
    check(section)
    settings = shown_settings(params)
    cards = [set_card(name, settings, section) for name in SetName]
    write_card(OUT, front_page(cards, section))
    for card in cards:
        write_card(OUT / card.info.name, card.card)
    return f"{OUT}: " + ", ".join(f"{card.info.num_rows:,} {card.info.name}" for card in cards)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
