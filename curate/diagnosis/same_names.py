"""Write nationalities as countries and dates in one order, so that two spellings become one."""

import re

_COUNTRY_OF = {
    "american": "united states",
    "argentinian": "argentina",
    "british": "united kingdom",
    "chinese": "china",
    "czech": "czech republic",
    "danish": "denmark",
    "dutch": "netherlands",
    "english": "england",
    "filipino": "philippines",
    "finnish": "finland",
    "french": "france",
    "greek": "greece",
    "irish": "ireland",
    "lebanese": "lebanon",
    "norwegian": "norway",
    "polish": "poland",
    "scottish": "scotland",
    "spanish": "spain",
    "swedish": "sweden",
    "swiss": "switzerland",
    "taiwanese": "taiwan",
    "thai": "thailand",
    "turkish": "turkey",
    "vietnamese": "vietnam",
    "welsh": "wales",
}
"""Nationalities that do not begin like their country; Australian and Australia do."""
_COUNTRY_NAMES = {
    "united states of america": "united states",
    "america": "united states",
    "usa": "united states",
    "us": "united states",
    "great britain": "united kingdom",
    "uk": "united kingdom",
    "holland": "netherlands",
    "czechia": "czech republic",
}
_COUNTRIES = _COUNTRY_NAMES | _COUNTRY_OF
_COUNTRY = re.compile(
    rf"(?<!north )(?<!south )(?<!central )(?<!latin )(?<!native )\b(?:{'|'.join(_COUNTRIES)})\b"
)
_MONTHS_TEXT = (
    "january february march april may june july august september october november december"
)
_MONTHS = tuple(_MONTHS_TEXT.split())
_DAY = re.compile(r"([0-3]?[0-9])(?:st|nd|rd|th)?")
_YEAR = re.compile(r"[0-9]{3,4}")
_MONTH_LETTERS = 3


def with_countries(text: str) -> str:
    """Replace nationalities and other names of countries in a normalised text by one name each."""
    return _COUNTRY.sub(lambda found: _COUNTRIES[found[0]], text)


def date_of(text: str) -> tuple[str, str, str] | None:
    """Read a normalised text that is a date alone: year, month and day, whatever their order."""
    year = ""
    month = ""
    day = ""
    for word in text.split():
        if word in ("of", "on"):
            continue
        name = _month(word)
        if name and not month:
            month = name
        elif _YEAR.fullmatch(word) and not year:
            year = word
        elif not day:
            number = _DAY.fullmatch(word)
            if number is None:
                return None
            day = number[1].lstrip("0")
        else:
            return None
    return (year, month, day) if month and day else None


def _month(word: str) -> str:
    """Find the month that a word abbreviates; empty where it abbreviates none."""
    if len(word) < _MONTH_LETTERS:
        return ""
    for month in _MONTHS:
        if month.startswith(word):
            return month
    return ""
