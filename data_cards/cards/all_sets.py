"""Make the cards of all sets, and the front page of the repository that holds them."""

from pathlib import Path
from typing import NamedTuple

from coa.records.sets import AssembleParams
from coa.settings.params import Params
from data_cards.cards.card import Card, SetCard, front_page, set_card
from data_cards.catalogue import built_sets
from data_cards.settings import RenderParams, check, shown_settings


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


def render(params: Params, section: RenderParams, published: Path) -> Rendered:
    """Measure the sets and write their cards.

    Args:
        params: All settings.
        section: What the cards cannot count.
        published: The folder with the sets as they are published (`write_published`).

    Raises:
        ConfigError: a setting cannot be shown in a card.
        InputError: a file is missing or broken, or a set is empty.
    """
    check(section)
    settings = shown_settings(params)
    sizes = params.section(AssembleParams, "assemble")
    cards = []
    for name in built_sets(sizes):
        cards.append(set_card(name, settings, sizes.sizes[name], published, section))
    return Rendered(front_page(cards, sizes, section), tuple(cards))
