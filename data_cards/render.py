"""Render dataset cards: Markdown with the Hub's metadata, every number counted from files.

    coa render

Reads data/assemble/, data/questions.parquet, data/filter/, data/grade.parquet, the prompts, with
pairs data/branch/ and, where they are there, data/screen/, data/analyse.parquet and
reports/pictures/*.png. Writes data/render/README.md for all sets, which names those that have no
row, and data/render/{set}/README.md for each set that was built with the pictures it shows.

One repository on the Hub holds all sets, each as a configuration of its own, with its files at
data/{set}/{split}.parquet. data/render/ with those files beside it is that repository.
data/render/{set}/ with its own files is one that holds this set alone. Either way the paths in the
cards are the same. Same inputs give same bytes: no dates, nothing from the network.
"""

import sys
from collections.abc import Sequence

from coa.settings.params import Params
from coa.store.files import RENDERED
from coa.store.output_folder import OwnFolder
from data_cards.cards.card import render
from data_cards.cards.card_files import CITED, write_files
from data_cards.catalogue import SetName
from data_cards.settings import RenderParams

OUT = RENDERED
OWN_FOLDER = OwnFolder(
    "coa render",
    "README.md",
    rf"README\.md|({'|'.join(SetName)})/(README\.md|pictures/[\w-]+\.png)",
    mark=CITED,
)


def main(arguments: Sequence[str]) -> str:
    """Render the cards and return the summary line."""
    params = Params.load("render", arguments)
    rendered = render(params, params.section(RenderParams))
    write_files(OUT, rendered.files(), OWN_FOLDER)
    sizes = [f"{card.info.num_rows:,} {card.info.name}" for card in rendered.sets]
    if not sizes:
        return f"{OUT}: no set was built, nothing can be trained"
    return f"{OUT}: {', '.join(sizes)} (train and validation)"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
