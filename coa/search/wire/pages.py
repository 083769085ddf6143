"""Speak the protocols that open a page: ASearcher's `/access`, OpenResearcher's `/get_content`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from coa.search import Passage
from coa.search.wire import Dialect, contents_of, malformed, url_of

Request = TypeVar("Request", bound=msgspec.Struct)


class PageEndpoint(ABC, Generic[Request]):
    """One endpoint that opens pages, as the server and as the client see it."""

    dialect: ClassVar[Dialect]
    path: ClassVar[str]
    request: type[Request]
    replies: ClassVar[tuple[Any, ...]]

    @abstractmethod
    def urls(self, request: Request) -> list[str]:
        """List the addresses to open."""

    @abstractmethod
    def write(self, pages: Sequence[Passage | None]) -> object | None:
        """Build the reply's body from a page or None for each address.

        Returns None where the dialect answers that there is no such page.
        """

    @abstractmethod
    def ask(self, url: str) -> dict[str, Any]:
        """Build the body of a request for one page."""

    @abstractmethod
    def text(self, reply: Any) -> str | None:
        """Read the page's text in the reply to such a request; None where there is no such page.

        Raises:
            SearchError: the reply does not follow the protocol.
        """


class AccessRequest(msgspec.Struct):
    """`{"urls": addresses}`."""

    urls: list[str]


class AccessedPage(msgspec.Struct):
    """A page's text."""

    url: str
    contents: str


class AccessReply(msgspec.Struct):
    """A page for each address, or null."""

    result: list[AccessedPage | None]


class Access(PageEndpoint[AccessRequest]):
    """ASearcher's `/access`."""

    dialect = Dialect.ASEARCHER
    path = "/access"
    request = AccessRequest
    replies = (AccessReply,)

    def urls(self, request: AccessRequest) -> list[str]:
        """List the addresses to open."""
        return request.urls

    def write(self, pages: Sequence[Passage | None]) -> object | None:
        """Write `{"result": [...]}`, with null where there is no page."""
        accessed: list[AccessedPage | None] = []
        for page in pages:
            if page:
                accessed.append(AccessedPage(url_of(page), contents_of(page)))
            else:
                accessed.append(None)
        return AccessReply(accessed)

    def ask(self, url: str) -> dict[str, Any]:
        """Send one address in a list."""
        return {"urls": [url]}

    def text(self, reply: Any) -> str | None:
        """Read the text of the only page."""
        pages = reply.get("result") if isinstance(reply, dict) else None
        if not isinstance(pages, list) or len(pages) != 1:
            raise malformed('{"result": [...]} with one page for the one address', reply)
        if pages[0] is None:
            return None
        return _text(pages[0], "contents")


class GetContentRequest(msgspec.Struct):
    """`{"url": address}`."""

    url: str


class GetContentReply(msgspec.Struct):
    """A page."""

    url: str
    title: str
    content: str


class GetContent(PageEndpoint[GetContentRequest]):
    """OpenResearcher's `/get_content`; an unknown address is status 404."""

    dialect = Dialect.OPENRESEARCHER
    path = "/get_content"
    request = GetContentRequest
    replies = (GetContentReply,)

    def urls(self, request: GetContentRequest) -> list[str]:
        """Put the one address to open in a list."""
        return [request.url]

    def write(self, pages: Sequence[Passage | None]) -> object | None:
        """Write the page; there is no reply without one."""
        (page,) = pages
        if page is None:
            return None
        return GetContentReply(url_of(page), page.title, page.text)

    def ask(self, url: str) -> dict[str, Any]:
        """Send the address as it is."""
        return {"url": url}

    def text(self, reply: Any) -> str | None:
        """Read the page's text."""
        return _text(reply, "content") or None


def _text(page: Any, name: str) -> str:
    if not isinstance(page, dict) or not isinstance(page.get(name), str):
        raise malformed(f'a page {{"{name}"}}', page)
    text: str = page[name]
    return text
