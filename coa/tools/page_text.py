"""Turn web pages into text, one after another, in the processes of `coa/tools/open_page.py`.

A stranger's HTML can cost a parser minutes and gigabytes: an opening tag looks through all elements
that are open, so 300 KB of `<nav>` take ten seconds and more, and 60 KB of unclosed `<b>` unfold to
gigabytes. So pages are parsed where they can be ended. Nothing of the project is imported, so that
a process starts in a tenth of a second.
"""

import json
import struct
import sys
from contextlib import suppress
from typing import BinaryIO

REQUEST = struct.Struct(">?III")
"""Header of each page: whether it is HTML, the words and characters wanted, its length in bytes."""
REPLY = struct.Struct(">I")
"""Header of each reply, `[title, text]` in JSON: its length in bytes."""
MAX_MEMORY = 1 << 30
"""Bytes of address space of one process; an ordinary page of two megabytes takes a tenth."""
_MAX_TITLE_CHARS = 300
_SILENT = (
    "script, style, noscript, template, svg, iframe, form, nav, header, footer, aside, [hidden]"
)
"""Parts of a page that its readers are not shown, or do not read."""


def main() -> None:
    """Answer the pages that come on stdin until it ends."""
    _limit_memory()
    pages, replies = sys.stdin.buffer, sys.stdout.buffer
    while answer(pages, replies):
        replies.flush()


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # not every platform has or allows it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def answer(pages: BinaryIO, replies: BinaryIO) -> bool:
    """Read one page and write its title and text; False when there are no more."""
    header = pages.read(REQUEST.size)
    if len(header) < REQUEST.size:
        return False
    is_html, max_words, max_chars, num_bytes = REQUEST.unpack(header)
    body = pages.read(num_bytes)
    if is_html:
        title, text = html_text(body)
    else:
        title, text = "", body.decode("utf-8", "replace")
    words = text.split()[:max_words]
    shown_title = " ".join(title.split())[:_MAX_TITLE_CHARS]
    shown_text = " ".join(words)[:max_chars]
    reply = json.dumps([shown_title, shown_text]).encode()
    replies.write(REPLY.pack(len(reply)) + reply)
    return True


def html_text(html: bytes) -> tuple[str, str]:
    """Extract title and text of a page, without what its readers do not see."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    if tree.css_matches("html[hidden]"):
        return "", ""
    for node in tree.css(_SILENT):
        node.decompose()
    title = tree.css_first("title")
    body = tree.body
    title_text = title.text() if title else ""
    body_text = body.text(separator=" ") if body else ""
    return title_text, body_text


if __name__ == "__main__":
    main()
