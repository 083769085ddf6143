"""Read the bearer token of search servers from the environment, its only source."""

import os

from coa.errors import ConfigError

TOKEN_VARIABLE = "COA_SEARCH_TOKEN"
"""Environment variable of the token, for servers that want one and clients that send it."""


def bearer_token() -> str:
    """Read the token; it is empty where none is set.

    Raises:
        ConfigError: it cannot be sent in a header.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(
            f"the token in {TOKEN_VARIABLE} cannot be sent", expected="printable ASCII on one line"
        )
    return token
