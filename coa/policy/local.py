"""A policy in this process: `transformers`' `AutoModelForCausalLM`, many requests in one call, ids in and ids out.

Token ids are sampled once and never made from text again: a request's `context_ids` go into the model as they are, and
the ids that come back end with the token that completed the stop string, or with the end-of-turn token. Text is only
ever decoded from them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coa.errors import ConfigError, MissingExtraError, unknown_name
from coa.policy import Completion, Finish, Request, cut_at_stop
from coa.tokens import PieceEncoder
from coa.trajectory import Author

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Which model to load, and where."""

    model: str = ""
    """A folder, or a name on the Hub."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, ...; `auto` is the GPU where there is one."""
    dtype: str = "auto"
    """`float32`, `bfloat16` or `float16`; `auto` is bfloat16 on a GPU and float32 on the CPU."""
    batch_size: int = 64
    """How many requests go through the model together."""


class LocalPolicy:
    """Continues requests with a model in this process.

    Every request is sampled by a random generator of its own, seeded with the request's seed, so what else is in the
    batch makes no difference but for the rounding of padded arithmetic. The model is used as it is: who trains it
    switches it to evaluation mode first.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, batch_size: int = 64) -> None:
        self._model = model
        self._encoder = PieceEncoder(tokenizer)
        self._num_tokens = len(tokenizer)
        self._name = name
        self._batch_size = batch_size
        self._end_ids = _end_ids(model, tokenizer)
        self._pad_id = tokenizer.pad_token_id or 0  # masked, so any will do
        self._window: int | None = getattr(model.config, "max_position_embeddings", None)

    @classmethod
    def load(cls, settings: LocalSettings) -> "LocalPolicy":
        """Load a model with its tokenizer.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            ConfigError: there is no such model, device or dtype.
        """
        if not settings.model:
            raise ConfigError("no model is named", expected="teacher.local.model: a folder or a name on the Hub")
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "train") from error
        tokenizer = load_tokenizer(settings.model)
        device = _device(torch.cuda.is_available(), settings.device)
        dtype = _dtype(device, settings.dtype)
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype)
        except (OSError, ValueError) as error:
            raise _not_loaded("model", settings.model, error) from error
        return cls(model.to(device).eval(), tokenizer, name=settings.model, batch_size=settings.batch_size)

    @property
    def name(self) -> str:
        """The model, as results and journals should call it."""
        return self._name

    def encode(self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT) -> tuple[int, ...]:
        """Token ids of a piece of text, with nothing added.

        Tokens added as ordinary ones (`special=False`), as a student's tags should be, are tokens everywhere.
        """
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` costs as a prompt."""
        return len(self.encode(text, is_prompt=True))

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order.

        Contexts of like length go through the model together. One that fills the model's window gets an empty
        completion that ends for its length. A completed stop string ends the text, while the ids keep the whole token
        that completed it; the end-of-turn token stays in the ids and out of the text.

        Raises:
            ConfigError: a context is empty.
        """
        rows = [self._row(request) for request in requests]
        waiting = sorted((row for row in rows if row.finish is None), key=lambda row: len(row.context_ids))
        for start in range(0, len(waiting), self._batch_size):
            self._generate(waiting[start : start + self._batch_size])
        return [row.completion() for row in rows]

    def _row(self, request: Request) -> "_Row":
        given = request.context_ids
        ids = self.encode(request.context, is_prompt=True) if given is None else given
        if not ids:
            raise ConfigError("a context is empty", expected="at least one token to continue")
        room = request.max_tokens if self._window is None else self._window - len(ids)
        return _Row(request, ids, min(request.max_tokens, room), self._encoder, self._end_ids)

    def _generate(self, rows: Sequence["_Row"]) -> None:
        """Run the rows to their ends; each takes its tokens as they are sampled."""
        import torch

        def take(input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            """Hand each open row its new token; say which rows are over (a stopping criterion)."""
            for row, token in zip(rows, input_ids[:, -1].tolist(), strict=True):
                if row.finish is None:
                    row.take(token)
            return torch.tensor([row.finish is not None for row in rows], device=input_ids.device)

        width = max(len(row.context_ids) for row in rows)
        gaps = [width - len(row.context_ids) for row in rows]
        ids = [[self._pad_id] * gap + list(row.context_ids) for gap, row in zip(gaps, rows, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        device = self._model.device
        self._model.generate(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=torch.tensor(mask, device=device),
            generation_config=self._plain(max(row.limit for row in rows)),
            logits_processor=[_Sampler(rows, self._num_tokens, device)],
            stopping_criteria=[take],
        )

    def _plain(self, max_new_tokens: int) -> Any:
        """Settings that keep `generate` from adding what the model's own defaults ask for; `_Sampler` does the rest."""
        from transformers import GenerationConfig

        settings: Any = GenerationConfig  # its constructor is not typed
        return settings(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=1.0,
            top_p=1.0,
            top_k=50,
            repetition_penalty=1.0,
            pad_token_id=self._pad_id,
            eos_token_id=sorted(self._end_ids) or None,
        )


@dataclass(slots=True)
class _Row:
    """One request on its way through the model."""

    request: Request
    context_ids: tuple[int, ...]
    limit: int
    """How many tokens it may write: what was asked for, or what the model's window leaves."""
    encoder: PieceEncoder
    end_ids: frozenset[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None

    def __post_init__(self) -> None:
        if self.limit <= 0:
            self.finish = Finish.LENGTH

    def take(self, token: int) -> None:
        """Append a sampled token and find out whether the row is over."""
        self.ids.append(token)
        if token in self.end_ids:
            self.text, self.finish = self.encoder.decode(self.ids[:-1]), Finish.END
        elif self._has_stopped():
            self.finish = Finish.STOP
        elif len(self.ids) >= self.limit:
            self.text, self.finish = self.encoder.decode(self.ids), Finish.LENGTH

    def _has_stopped(self) -> bool:
        """Whether the last token completed a stop string.

        A token is at least one byte, so the tail of as many tokens as the stop string has bytes holds it; decoding
        all the text for every token would cost the square of its length.
        """
        stop = self.request.stop
        if not stop:
            return False
        tail = self.encoder.decode(self.ids[-max(len(item.encode()) for item in stop) :])
        if not any(item in tail for item in stop):
            return False
        self.text, stopped = cut_at_stop(self.encoder.decode(self.ids), stop)
        return stopped

    def completion(self) -> Completion:
        """The row's outcome."""
        assert self.finish is not None
        return Completion(self.text, self.finish, len(self.ids), len(self.context_ids), tuple(self.ids))


class _Sampler:
    """Picks each row's next token by the row's own temperature, top_p and generator (a logits processor).

    `generate` then takes the only token that is left. A uniform number is looked up in the cumulative distribution in
    the order of the vocabulary, so that rounding can change a pick only at a boundary.
    """

    def __init__(self, rows: Sequence[_Row], num_tokens: int, device: "torch.device") -> None:
        import torch

        self._num_tokens = num_tokens
        self._generators = [random.Random(row.request.seed) for row in rows]
        temperatures = torch.tensor([row.request.temperature for row in rows], device=device)
        self._is_greedy = temperatures <= 0
        self._temperatures = temperatures.masked_fill(self._is_greedy, 1.0)[:, None]
        top_p = torch.tensor([row.request.top_p for row in rows], device=device)[:, None]
        self._top_p = top_p if bool((top_p < 1).any()) else None

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        known = scores[:, : self._num_tokens]  # a model's vocabulary may be padded beyond its tokenizer's
        picked = known.argmax(dim=-1)
        if not self._is_greedy.all():
            picked = torch.where(self._is_greedy, picked, self._draw(known))
        return torch.full_like(scores, -torch.inf).scatter_(1, picked[:, None], 0.0)

    def _draw(self, scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        uniform = [[generator.random()] for generator in self._generators]
        chances = torch.softmax(scores / self._temperatures, dim=-1)
        if self._top_p is not None:
            chances = self._nucleus(chances, self._top_p)
        cumulative = chances.cumsum(dim=-1, dtype=torch.float64)  # so many small terms would lose bits in float32
        point = torch.tensor(uniform, device=scores.device, dtype=torch.float64) * cumulative[:, -1:]
        return torch.searchsorted(cumulative, point, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)

    @staticmethod
    def _nucleus(chances: "torch.Tensor", top_p: "torch.Tensor") -> "torch.Tensor":
        """Drop the tokens beyond the smallest set of likeliest ones that holds `top_p`; the likeliest always stays."""
        ranked, order = chances.sort(dim=-1, descending=True, stable=True)
        before = ranked.double().cumsum(dim=-1) - ranked
        keeps = (before < top_p) | (before <= 0)
        return chances.new_zeros(chances.shape).scatter_(1, order, ranked * keeps)


def load_tokenizer(name: str) -> Any:
    """The tokenizer in a folder or on the Hub.

    Raises:
        MissingExtraError: transformers is not installed.
        ConfigError: there is no such tokenizer.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _not_loaded("tokenizer", name, error) from error


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a turn: the tokenizer's, and those of the model's own generation settings."""
    own = model.generation_config.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)


def _device(has_gpu: bool, device: str) -> str:
    if device == "auto":
        return "cuda" if has_gpu else "cpu"
    if device.startswith("cuda") and not has_gpu:
        raise ConfigError("there is no GPU", expected="device=cpu or device=auto", got=f"device={device}")
    return device


def _dtype(device: str, dtype: str) -> str:
    if dtype == "auto":
        return "bfloat16" if device.startswith("cuda") else "float32"
    known = ("auto", "float32", "bfloat16", "float16")
    if dtype not in known:
        raise unknown_name("dtype", dtype, known)
    return dtype


def _not_loaded(kind: str, name: str, error: Exception) -> ConfigError:
    first_line = str(error).partition("\n")[0]
    fix = "give a folder with its files, or a name on the Hub"
    return ConfigError(f"cannot load the {kind} {name!r}", got=first_line, fix=fix)
