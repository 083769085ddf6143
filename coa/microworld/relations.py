"""What can be said about an entity, and how a passage says it.

Every sentence names the entity first and ends with the value, so that it can be read back without a parser. Each
relation has a paraphrase with its noun and one with its verb: a query with only one of them may miss the passage, and
how to ask is something to learn.
"""

from typing import NamedTuple

from coa.microworld.names import POOLS, Category


class Relation(NamedTuple):
    """One relation between an entity and a value."""

    name: str
    """Also the noun by which trajectories speak of it."""
    subject: Category
    value: Category
    synonym: str
    """A second noun that questions use."""
    clause: str
    """The words between entity and value in the paraphrase with the verb."""
    verb: str
    """The word of the clause that a query can find it by."""

    @property
    def leads(self) -> tuple[str, str]:
        """The paraphrases up to the value, with `{}` for the entity."""
        return f"The {self.name} of {{}} is ", f"{{}} {self.clause} "

    @property
    def is_link(self) -> bool:
        """Whether its value is an entity, about which one can go on asking."""
        return self.value in POOLS


_ALL = (
    Relation(
        "director", Category.FILM, Category.PERSON, "filmmaker", "was directed by", "directed"
    ),
    Relation("studio", Category.FILM, Category.COMPANY, "producer", "was produced by", "produced"),
    Relation("year", Category.FILM, Category.YEAR, "date", "premiered in", "premiered"),
    Relation("genre", Category.FILM, Category.GENRE, "style", "was billed as", "billed"),
    Relation("birthplace", Category.PERSON, Category.CITY, "hometown", "was born in", "born"),
    Relation("spouse", Category.PERSON, Category.PERSON, "partner", "married", "married"),
    Relation("employer", Category.PERSON, Category.COMPANY, "workplace", "works for", "works"),
    Relation("head", Category.COMPANY, Category.PERSON, "boss", "is led by", "led"),
    Relation("headquarters", Category.COMPANY, Category.CITY, "seat", "is based in", "based"),
    Relation("country", Category.CITY, Category.COUNTRY, "nation", "lies in", "lies"),
    Relation("mayor", Category.CITY, Category.PERSON, "leader", "elected", "elected"),
)
RELATIONS = {relation.name: relation for relation in _ALL}
"""All relations by name."""
RELATIONS_OF = {category: tuple(r for r in _ALL if r.subject is category) for category in POOLS}
"""The relations that each category of entities has."""
BY_NOUN = {noun: relation for relation in _ALL for noun in (relation.name, relation.synonym)}
"""All relations by either noun."""

ASIDES = {
    Category.PERSON: ("visited", Category.CITY),
    Category.FILM: ("was screened in", Category.CITY),
    Category.COMPANY: ("sponsors", Category.FILM),
    Category.CITY: ("trades with", Category.CITY),
}
"""What passages mention beside the facts, and no question asks for."""

_LEADS = {relation.name: relation.leads for relation in _ALL}


def sentence(entity: str, relation: str, value: str, paraphrase: int) -> str:
    """A passage's sentence for a fact; `paraphrase` is 0 (with the noun) or 1 (with the verb)."""
    return f"{_LEADS[relation][paraphrase].format(entity)}{value}."


def find_sentence(text: str, entity: str, relation: str) -> str:
    """The sentence of `text` that states the relation of the entity, up to its full stop; empty when there is none."""
    for lead in _LEADS[relation]:
        start = text.find(lead.format(entity))
        end = text.find(".", start)
        if start >= 0 and end >= 0:
            return text[start : end + 1]
    return ""


def read_value(text: str, entity: str, relation: str) -> str:
    """The value that `text` states for the relation of the entity; empty when it states none."""
    stated = find_sentence(text, entity, relation)
    for lead in _LEADS[relation] if stated else ():
        opening = lead.format(entity)
        if stated.startswith(opening):
            return stated[len(opening) : -1]
    return ""
