"""Render the card of a trained model: its chain, its data, and the results of these very weights.

    coa models model=data/train/sft2

Writes data/models/{name}/README.md and the picture it shows. Same inputs give same bytes.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.settings.params import Params
from coa.store.output_folder import OwnFolder
from data_cards.cards.card_files import CITED, write_files
from data_cards.cards.model_card import MODEL_CARDS, card_folder, model_card
from data_cards.settings import RenderParams, check

OUT = MODEL_CARDS
OWN_FOLDER = OwnFolder("coa models", "README.md", r"README\.md|curves\.png", mark=CITED)


@dataclass(frozen=True, slots=True)
class ModelsParams:
    """Which model gets a card."""

    model: str = ""
    """Its folder, such as data/train/sft2."""


def main(arguments: Sequence[str]) -> str:
    """Render one model's card and return the summary line."""
    params = Params.load("models", arguments)
    folder = Path(params.section(ModelsParams).model)
    out = card_folder(folder)
    section = params.section(RenderParams, "render")
    check(section)
    card = model_card(folder, section)
    files = {"README.md": card.text.encode()}
    curves = folder / "curves.png"
    if curves.exists():
        files["curves.png"] = curves.read_bytes()
    write_files(out, files, OWN_FOLDER)
    return f"{out}: {len(card.chain)} stages, {len(card.results)} results"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
