"""Say in a passage how an entity is related to a value, and read it back.

Every sentence names the entity first and ends with the value, so that it can be read back without a
parser. Each relation has a paraphrase with its noun and one with its verb: a query with only one of
them may miss the passage, so a student has to learn how to ask.
"""

from typing import NamedTuple

from coa.microworld.names import POOLS, Category


class Relation(NamedTuple):
    """A relation between an entity and a value."""

    name: str
    """Also the noun that trajectories use for it."""
    subject: Category
    value: Category
    synonym: str
    """A second noun that questions use."""
    clause: str
    """The words between entity and value in the paraphrase with the verb."""
    verb: str
    """The word of the clause that a query can contain."""

    @property
    def leads(self) -> tuple[str, str]:
        """Return the paraphrases up to the value, with `{}` for the entity."""
        return f"The {self.name} of {{}} is ", f"{{}} {self.clause} "

    @property
    def is_link(self) -> bool:
        """Tell whether its value is an entity, about which a question can ask further."""
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
"""The relations of every world by name."""
BIRTH_YEAR = Relation(
    "birthyear", Category.PERSON, Category.BIRTH_YEAR, "birthyear", "dates from", "dates"
)
"""A further relation of the worlds whose questions ask for ages."""
BY_NAME = RELATIONS | {BIRTH_YEAR.name: BIRTH_YEAR}
"""The relations of all worlds by name."""


def _relations_of(category: Category) -> tuple[Relation, ...]:
    return tuple(relation for relation in _ALL if relation.subject is category)


RELATIONS_OF = {category: _relations_of(category) for category in POOLS}
"""The relations that each category of entities has."""
BY_NOUN = RELATIONS | {relation.synonym: relation for relation in _ALL}
"""All relations by either noun."""

ASIDES = {
    Category.PERSON: ("visited", Category.CITY),
    Category.FILM: ("was screened in", Category.CITY),
    Category.COMPANY: ("sponsors", Category.FILM),
    Category.CITY: ("trades with", Category.CITY),
}
"""A clause that passages add to the facts, and what it is about; no question asks for it."""

_LEADS = {name: relation.leads for name, relation in BY_NAME.items()}


def sentence(entity: str, relation: str, value: str, paraphrase: int) -> str:
    """Write a passage's sentence for a fact; `paraphrase` is 0 (noun) or 1 (verb)."""
    return f"{_LEADS[relation][paraphrase].format(entity)}{value}."


def find_sentence(text: str, entity: str, relation: str) -> str:
    """Find the sentence of `text` that states the relation of the entity, with its full stop.

    Empty when there is none.
    """
    for lead in _LEADS[relation]:
        start = text.find(lead.format(entity))
        end = text.find(".", start)
        if start >= 0 and end >= 0:
            return text[start : end + 1]
    return ""


def read_value(text: str, entity: str, relation: str) -> str:
    """Read the value that `text` states for the relation of the entity; empty when none."""
    stated = find_sentence(text, entity, relation)
    for lead in _LEADS[relation]:
        opening = lead.format(entity)
        if stated.startswith(opening):
            return stated[len(opening) : -1]
    return ""
