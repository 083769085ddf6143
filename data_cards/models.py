"""Render the card of a trained model: its chain, its data, and the results of these very weights.

    python -m data_cards.models model=data/train/sft2

Writes data/models/{name}/README.md and the picture it shows. Same inputs give same bytes.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.settings.params import Params
from coa.store.output_folder import OwnFolder
from data_cards.cards.card_files import write_files
from data_cards.cards.measure_model import measure_model
from data_cards.cards.model_card import (
    MODEL_CARDS,
    ModelCard,
    card_files,
    card_folder,
    render_card,
)
from data_cards.settings import RenderParams, check

OUT = MODEL_CARDS
OWN_FOLDER = OwnFolder("python -m data_cards.models", "README.md", r"README\.md|curves\.png")


@dataclass(frozen=True, slots=True)
class ModelsParams:
    """Which model gets a card."""

    model: str = ""
    """Its folder, such as data/train/sft2."""


def model_card(folder: Path, params: Params) -> ModelCard:
    """Measure a model's folder and write its card.

    Raises:
        InputError: the folder is not a trained model, or a file is broken.
        ConfigError: a setting cannot be shown in a card.
    """
    section = params.section(RenderParams, "render")
    check(section)
    return render_card(measure_model(folder), section)


def main(arguments: Sequence[str]) -> str:
    """Render one model's card and return the summary line."""
    params = Params.load("models", arguments)
    folder = Path(params.section(ModelsParams).model)
    out = card_folder(folder)
    card = model_card(folder, params)
    write_files(out, card_files(card, folder), OWN_FOLDER)
    return f"{out}: {card.num_stages} stages, {card.num_results} results"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
