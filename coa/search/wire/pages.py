"""The endpoints that open a page: ASearcher's `/access` and OpenResearcher's `/get_content`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from coa.search import Passage
from coa.search.wire import Dialect, contents_of, malformed, url_of

Request = TypeVar("Request", bound=msgspec.Struct)


class PageEndpoint(ABC, Generic[Request]):
    """One endpoint that opens pages, from both ends."""

    dialect: ClassVar[Dialect]
    path: ClassVar[str]
    request: type[Request]
    replies: ClassVar[tuple[Any, ...]]

    @abstractmethod
    def urls(self, request: Request) -> list[str]:
        """The addresses that are opened."""

    @abstractmethod
    def write(self, pages: Sequence[Passage | None]) -> object | None:
        """The reply's body, a page or None for each address; None says that there is no such page."""

    @abstractmethod
    def ask(self, url: str) -> dict[str, Any]:
        """The body of a request for one page."""

    @abstractmethod
    def text(self, reply: Any) -> str | None:
        """The page's text in the reply to such a request; None where there is no such page.

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

    dialect, path = Dialect.ASEARCHER, "/access"
    request, replies = AccessRequest, (AccessReply,)

    def urls(self, request: AccessRequest) -> list[str]:
        """The addresses that are opened."""
        return request.urls

    def write(self, pages: Sequence[Passage | None]) -> object | None:
        """`{"result": [...]}`, null where there is no page."""
        return AccessReply(
            [AccessedPage(url_of(page), contents_of(page)) if page else None for page in pages]
        )

    def ask(self, url: str) -> dict[str, Any]:
        """One address in a list."""
        return {"urls": [url]}

    def text(self, reply: Any) -> str | None:
        """The text of the only page."""
        pages = reply.get("result") if isinstance(reply, dict) else None
        if not isinstance(pages, list) or len(pages) != 1:
            raise malformed('{"result": [...]} with one page for the one address', reply)
        return None if pages[0] is None else _text(pages[0], "contents")


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

    dialect, path = Dialect.OPENRESEARCHER, "/get_content"
    request, replies = GetContentRequest, (GetContentReply,)

    def urls(self, request: GetContentRequest) -> list[str]:
        """The address that is opened."""
        return [request.url]

    def write(self, pages: Sequence[Passage | None]) -> object | None:
        """The page."""
        (page,) = pages
        return GetContentReply(url_of(page), page.title, page.text) if page else None

    def ask(self, url: str) -> dict[str, Any]:
        """The address as it is."""
        return {"url": url}

    def text(self, reply: Any) -> str | None:
        """The page's text."""
        return _text(reply, "content") or None


def _text(page: Any, name: str) -> str:
    if not isinstance(page, dict) or not isinstance(page.get(name), str):
        raise malformed(f'a page {{"{name}"}}', page)
    text: str = page[name]
    return text
