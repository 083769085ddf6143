"""Follow a script instead of a model: in tests, in the microworld and for gold titles."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

from coa.own_parts import digest_of
from coa.policy import Completion, Finish, Request, cut_at_stop
from coa.policy.probe import scripted_answer
from coa.records.trajectory import Author

_TOKEN = re.compile(r"</?\w+>|\w+|[^\w\s]")
_QUESTION = "Question: "
_CHAT_MARKER = re.compile(r"<\|[^|>\s]+\|>.*")
"""What a chat template puts after the prompt, such as `<|im_end|>`."""


def scripted_name(kind: str, *settings: object) -> str:
    """Name a policy whose script depends on these settings: `scripted/{kind}-{8 hex digits}`.

    The name shows in every row that no model wrote it. It differs for other settings, so calls made
    with those are not taken from the journal.
    """
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()
    return f"scripted/{kind}-{digest[:8]}"


def is_scripted(model: str) -> bool:
    """Tell by its name whether a policy is a script."""
    return model.startswith("scripted/")


def asked_question(prompt: str) -> str:
    """Read the question at the end of a prompt, without the markers of a chat template."""
    line = prompt.rpartition(_QUESTION)[2].split("\n", 1)[0]
    return _CHAT_MARKER.sub("", line).strip()


def policy_of(function: Callable[[str], str]) -> "ScriptedPolicy":
    """Make a policy of a function from the context so far to the text that continues it.

    Its name changes with its source, so that calls of an earlier one are not taken from a journal.
    """
    name = f"{getattr(function, '__name__', 'policy')}-{digest_of(function)}"
    return ScriptedPolicy(lambda request: function(request.context), name)


class ScriptedPolicy:
    """A policy that writes a given text, and obeys stop strings and the token limit as a server.

    A script is a function from a request to the text that follows, or a list of texts that are
    given in order. Tokens are words, signs and tags.
    """

    identity: Mapping[str, object] = {}
    """Empty: the name covers all that a script depends on (`scripted_name`)."""

    def __init__(
        self, script: Callable[[Request], str] | Sequence[str], name: str = "scripted"
    ) -> None:
        self.name = name
        self.requests: list[Request] | None = None
        """The requests answered from a list of texts, for tests to look at."""
        if callable(script):
            self._script = script
        else:
            self._texts = iter(script)
            self._script = self._next_text
            self.requests = []

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """Return None: a script has no token ids."""

    def count_tokens(self, text: str) -> int:
        """Count the words, signs and tags of `text`."""
        return len(_TOKEN.findall(text))

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        return self._complete(request)

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request, in order."""
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        text = scripted_answer(request, offered="search")
        if text is None:
            text = self._script(request)
        text, stopped = cut_at_stop(text, request.stop)
        finish = Finish.STOP if stopped else Finish.END
        tokens = list(_TOKEN.finditer(text))
        if len(tokens) > request.max_tokens:
            tokens = tokens[: request.max_tokens]
            end = tokens[-1].end() if tokens else 0
            text = text[:end]
            finish = Finish.LENGTH
        return Completion(text, finish, len(tokens), self.count_tokens(request.context))

    def _next_text(self, request: Request) -> str:
        assert self.requests is not None
        self.requests.append(request)
        try:
            return next(self._texts)
        except StopIteration:
            number = len(self.requests)
            shown = request.context[-80:]
            raise IndexError(f"the script has no text for request {number}: {shown!r}") from None
