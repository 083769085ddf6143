"""Write names, numbers and dates in one way, so that two spellings become one.

Nationalities become countries, number words digits, short first names and abbreviated states whole.
"""

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
_NUMBER_WORDS_TEXT = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
"""
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS_TEXT.split())}
_DIGITS |= {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70"}
_DIGITS |= {"eighty": "80", "ninety": "90", "once": "1", "twice": "2"}
_DIGITS |= {"double": "2", "2x": "2", "triple": "3", "3x": "3", "4x": "4", "5x": "5"}
_STATES_TEXT = """
al alabama, ak alaska, az arizona, ar arkansas, ca california, co colorado, ct connecticut,
dc district of columbia, de delaware, fl florida, ga georgia, hi hawaii, id idaho, il illinois,
in indiana, ia iowa, ks kansas, ky kentucky, la louisiana, me maine, md maryland, ma massachusetts,
mi michigan, mn minnesota, ms mississippi, mo missouri, mt montana, ne nebraska, nv nevada,
nh new hampshire, nj new jersey, nm new mexico, ny new york, nc north carolina, nd north dakota,
oh ohio, ok oklahoma, or oregon, pa pennsylvania, ri rhode island, sc south carolina,
sd south dakota, tn tennessee, tx texas, ut utah, vt vermont, va virginia, wa washington,
wv west virginia, wi wisconsin, wy wyoming
"""
_STATES = dict(entry.strip().split(" ", 1) for entry in _STATES_TEXT.split(","))
"""The states of the United States by their postal codes."""
_ROMAN_TEXT = "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi"
_ROMAN = {word: str(number) for number, word in enumerate(_ROMAN_TEXT.split(), start=1)}
_ERAS = {"ce": "ad", "bce": "bc"}
_FULL_NAMES_TEXT = """
andy andrew, bill william, bob robert, charlie charles, chuck charles, dave david, dick richard,
ed edward, frank francis, hank henry, harry henry, jack john, jim james, jimmy james, joe joseph,
kate katherine, larry lawrence, liz elizabeth, maggie margaret, mike michael, peggy margaret,
rick richard, steve stephen, ted edward, tom thomas, tony anthony, will william
"""
_FULL_NAMES = dict(entry.strip().split(" ") for entry in _FULL_NAMES_TEXT.split(","))
"""First names by the most common short forms."""
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


def with_digits(text: str) -> str:
    """Write the number words of a normalised text as digits: five times, 5 times."""
    return " ".join(_DIGITS.get(word, word) for word in text.split(" "))


def in_one_way(text: str) -> str:
    """Write a normalised name as others write it: in full, with digits.

    A short first name becomes the whole one, a state's postal code at the end its name, a Roman
    number at the end a digit, and Washington, D.C., the District of Columbia.
    """
    words = with_digits(text).split()
    if len(words) < 2:
        return " ".join(words)
    words[0] = _FULL_NAMES.get(words[0], words[0])
    words[-1] = _STATES.get(words[-1], words[-1])
    words[-1] = _ERAS.get(words[-1], words[-1])
    words[-1] = _ROMAN.get(words[-1], words[-1])
    return " ".join(words).replace("washington district of columbia", "district of columbia")


def date_of(text: str) -> tuple[str, str, str] | None:
    """Read a normalised text that is a date alone: year, month and day, whatever their order."""
    year = ""
    month = ""
    day = ""
    for word in text.split():
        if word in ("of", "on"):
            continue
        months = [it for it in _MONTHS if it.startswith(word)]
        name = months[0] if months and len(word) >= _MONTH_LETTERS else ""
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
