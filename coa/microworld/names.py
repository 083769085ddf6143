"""List the words that names are made of, and the plain values.

Each category of entity has one pool of first and one of second words. All groups of entities draw
from the same pools, so that a student meets every word while it is trained and has to learn to read
names it has never seen. No word is in two pools, in a template, or in a list of stop or question
words.
"""

import itertools
from enum import StrEnum
from typing import NamedTuple


class Category(StrEnum):
    """The category of a name or a value."""

    PERSON = "person"
    FILM = "film"
    COMPANY = "company"
    CITY = "city"
    YEAR = "year"
    """A plain value, like the two that follow: there are no facts about it."""
    GENRE = "genre"
    COUNTRY = "country"
    BIRTH_YEAR = "birth_year"
    """Only in worlds whose questions ask for ages."""


class Pool(NamedTuple):
    """The words that the names of one category are made of."""

    first: tuple[str, ...]
    second: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PERSON = Pool(
    _words(
        """
        Nora Otto Lena Viktor Mira Edgar Clara Hugo Ines Felix Ada Bruno Greta Oscar Tilda Simon
        Vera Anton Elsa Roland Freya Marcus Ingrid Leon Petra Casper Dora Ivan Selma Conrad Alma
        Gustav Helga Martin Nadia Rupert Olga Stefan Thea Walter Yvonne Arthur Bella Cedric
        Dalia Emil Fiona Gideon Hannah Isaac Julia Karl Lydia Milo Nina Orson Paula Quentin Rosa
        Silas Tamara Ulrich Valeria Wendel Xenia Yusuf Zora Albert Birgit Carlos
        """
    ),
    _words(
        """
        Brandt Keller Holloway Lindqvist Marlowe Novak Okafor Petrov Quigley Ramsey Sorensen
        Thornton Ullman Vasquez Whitlock Yamada Zeller Abernathy Bellamy Castellan Delacroix
        Eastman Farrow Gallagher Hawthorne Ibsen Jansen Kowalski Lombardi Moreau Nilsen Ortega
        Pemberton Rossi Santoro Takeda Underhill Varga Wexler Yates Zimmer Aldridge Bergman
        Calloway Duval Ellery Fontaine Grady Hendrix Ivers Jarvis Kessler Langley Mercer Norwood
        Osborne Prescott Radcliffe Sinclair Tolliver Upshaw Vaughn Winslow Ashby Blackwood
        Cordova Drummond Emerson Fairfax Goddard Hartley Ingram Jepsen Kendrick Lockhart Maddox
        Nash Oakley Pruitt Redmond Sheffield Tanner Ventura Wolcott Abbott Barlow Cranston
        Dalton Elwood Foster Garrison Hobbs Jennings Kirby Landry Monroe
        """
    ),
)
_FILM = Pool(
    _words(
        """
        Iron Silent Crimson Golden Broken Hollow Hidden Frozen Velvet Scarlet Burning Distant
        Endless Fallen Gentle Hungry Ivory Jagged Lonely Midnight Northern Obsidian Painted
        Quiet Restless Savage Twisted Unseen Violet Wandering Winter Amber Bitter Copper
        Drifting Electric Faded Glass Haunted Indigo Jade Kindred Lost Marble Neon Orphan Paper
        Quicksilver Rising Sacred Tender Urgent Vanishing Wild Azure Blind Cobalt Dusty Emerald
        Granite Humble Jealous Lucky Misty Noble Olive Pale Roaring Shattered
        """
    ),
    _words(
        """
        Harbor River Lantern Garden Mirror Orchard Bridge Castle Desert Echo Falcon Gate Horizon
        Island Journey Kingdom Labyrinth Meadow Needle Ocean Quarry Raven Shadow Tower Umbrella
        Valley Window Anchor Bell Candle Dagger Ember Forest Glacier Hammer Inferno Jungle Key
        Ladder Monsoon Nest Oath Pilgrim Queen Ransom Serpent Thunder Uprising Voyage Whisper
        Arrow Beacon Crown Dream Engine Feather Ghost Harvest Idol Jewel Knight Letter Mountain
        Nightfall Orbit Promise Reef Storm Tide Vault Wolf
        """
    ),
)
_COMPANY = Pool(
    _words(
        """
        Kestrel Apex Borealis Cascade Dynamo Equinox Fulcrum Gemini Helix Ionic Juniper Keystone
        Lumen Meridian Nimbus Orion Pinnacle Quasar Radiant Summit Titan Unity Vertex Wavelength
        Xenon Zenith Atlas Boulder Comet Delta Eclipse Frontier Galaxy Hyperion Icarus Jupiter
        Kinetic Legend Magnet Nova Octave Phoenix Quantum Rocket Solstice Trident Ultra Vector
        Whirlwind Argus Bison Cobra Draco Evergreen Fusion Griffin Heron Impala Jaguar Lynx
        """
    ),
    _words(
        """
        Motors Pictures Industries Media Systems Foods Energy Textiles Airlines Steel Records
        Press Labs Robotics Timber Holdings Shipping Optics Ceramics Mining Logistics Pharma
        Cement Brewing Electronics Chemicals Furniture Insurance Telecom Software
        """
    ),
)
_CITY = Pool(
    _words(
        """
        Port Lake Fort Mount Saint Glen North South East West Upper Lower Bay Cape Grand Royal
        Castel Fair Cold Rocky Sandy Stony Villa Monte
        """
    ),
    _words(
        """
        Velden Aldan Bremont Carwick Dunmore Elbury Farholm Grenova Halvik Istria Jorvale Kelso
        Lormont Maribel Norvik Ostrel Pellin Quorra Rosmere Stavros Tormund Ulvane Verona Wexham
        Yarrow Zorin Ashford Belmar Corvin Delmar Esker Fenwick Galway Harlow Inver Jasper
        Kingsley Lorne Melrose Nairn Orland Penrith Quill Rimini Selby Tarn Usk Varna Wick
        Yelland Zadar Alton Brae Calder Dorset Elgin Fallow Garth Hythe Ilford
        """
    ),
)
POOLS = {
    Category.PERSON: _PERSON,
    Category.FILM: _FILM,
    Category.COMPANY: _COMPANY,
    Category.CITY: _CITY,
}
"""The categories of entities, with their words; a name is one first and one second word."""

VALUES = {
    Category.YEAR: tuple(str(year) for year in range(1980, 2010)),
    Category.GENRE: _words(
        """
        drama comedy horror western thriller musical romance fantasy mystery adventure
        """
    ),
    Category.COUNTRY: _words(
        """
        Norland Ostania Valmora Kestria Drovia Belmark Sarvonia Tirelle Galdonia Morvania
        Estavia Luthria Pavonia Corsania Zelmark Ardovia Hestonia Wesmark Quentia Ithria
        """
    ),
    # All before the first film, so that every age is above 0.
    Category.BIRTH_YEAR: tuple(str(year) for year in range(1920, 1980)),
}
"""The categories of plain values, with all of them."""


def all_names(category: Category) -> list[str]:
    """List every name that the pools of a category can make, in a fixed order."""
    pool = POOLS[category]
    return [f"{first} {second}" for first, second in itertools.product(pool.first, pool.second)]
