"""A policy that follows a script: the shipped stand-in for a model, in tests, in the microworld and for gold titles."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

from coa.policy import Completion, Finish, Request, cut_at_stop
from coa.trajectory import Author

_TOKEN = re.compile(r"</?\w+>|\w+|[^\w\s]")


def scripted_name(kind: str, *told: object) -> str:
    """The name of a policy whose script depends on `told`: `scripted/{kind}-{8 hex digits}`.

    Whoever reads a row sees that no model wrote it, and calls made with other settings are not taken from the journal.
    """
    return f"scripted/{kind}-{hashlib.sha256(repr(told).encode()).hexdigest()[:8]}"


class ScriptedPolicy:
    """Writes what `script` says, and honours stop strings and the token limit as a server would.

    A script is a function from a request to the text that follows, or a list of texts that are given in order. Tokens
    are words, signs and tags.
    """

    def __init__(
        self, script: Callable[[Request], str] | Sequence[str], name: str = "scripted"
    ) -> None:
        self._name = name
        self._texts = iter(()) if callable(script) else iter(script)
        self._script = script if callable(script) else self._next_text
        self.requests: list[Request] | None = None if callable(script) else []
        """The requests answered from a list of texts, for tests to look at."""

    @property
    def name(self) -> str:
        """The model, as results and journals should call it."""
        return self._name

    @property
    def identity(self) -> Mapping[str, object]:
        """Nothing: the name holds all that a script depends on (`scripted_name`)."""
        return {}

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """A script has no token ids."""

    def count_tokens(self, text: str) -> int:
        """Words, signs and tags of `text`."""
        return len(_TOKEN.findall(text))

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        return self._complete(request)

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request, in order."""
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        text, stopped = cut_at_stop(self._script(request), request.stop)
        finish = Finish.STOP if stopped else Finish.END
        tokens = list(_TOKEN.finditer(text))
        if len(tokens) > request.max_tokens:
            end = tokens[request.max_tokens - 1].end() if request.max_tokens else 0
            text, tokens, finish = text[:end], tokens[: request.max_tokens], Finish.LENGTH
        return Completion(text, finish, len(tokens), self.count_tokens(request.context))

    def _next_text(self, request: Request) -> str:
        assert self.requests is not None
        self.requests.append(request)
        try:
            return next(self._texts)
        except StopIteration:
            raise IndexError(
                f"the script has no text for request {len(self.requests)}: {request.context[-80:]!r}"
            ) from None
