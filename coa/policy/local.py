"""A policy in this process: `transformers`' `AutoModelForCausalLM`, many requests in one call, ids in and ids out.

Token ids are sampled once and never made from text again: a request's `context_ids` go into the model as they are, and
the ids that come back end with the token that completed the stop string, or with the end-of-turn token. Text is only
ever decoded from them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from coa.errors import ConfigError, MissingExtraError, unknown_name
from coa.model_files import fingerprint_model
from coa.policy import Completion, Request
from coa.policy.sampler import GenerationRow, Sampler
from coa.tokens import PieceEncoder
from coa.trajectory import Author

if TYPE_CHECKING:
    import torch

_FULL_ENOUGH = 0.8
"""The rest of a batch goes on without the rows that are over when fewer than this share are open."""

_SPREAD = 2
"""The longest context of a batch is at most so many times its shortest: all are padded to the longest."""


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

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        batch_size: int = 64,
        identity: Mapping[str, object] | None = None,
    ) -> None:
        self._model = model
        self._encoder = PieceEncoder(tokenizer)
        self._num_tokens = len(tokenizer)
        self._name, self._identity = name, identity or {}
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
            raise ConfigError(
                "no model is named", expected="teacher.local.model: a folder or a name on the Hub"
            )
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
        # Of a name on the Hub, the commit that was loaded says which weights these are.
        weights = fingerprint_model(settings.model) or getattr(model.config, "_commit_hash", None)
        return cls(
            model.to(device).eval(),
            tokenizer,
            name=settings.model,
            batch_size=settings.batch_size,
            identity={"weights": weights, "dtype": dtype},
        )

    @property
    def name(self) -> str:
        """The model, as results and journals should call it."""
        return self._name

    @property
    def identity(self) -> Mapping[str, object]:
        """Which weights these are, and their precision; empty for a model in training."""
        return self._identity

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """Token ids of a piece of text, with nothing added.

        Tokens added as ordinary ones (`special=False`), as a student's tags should be, are tokens everywhere.
        """
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Names of the tokenizer's control tokens: text from outside must not bear them."""
        return self._encoder.control_tokens

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
        waiting = sorted(
            (row for row in rows if row.finish is None), key=lambda row: len(row.context_ids)
        )
        for batch in _of_like_length(waiting, self._batch_size):
            self._generate(batch)
        return [row.completion() for row in rows]

    def _row(self, request: Request) -> GenerationRow:
        given = request.context_ids
        ids = self.encode(request.context, is_prompt=True) if given is None else given
        if not ids:
            raise ConfigError("a context is empty", expected="at least one token to continue")
        room = request.max_tokens if self._window is None else self._window - len(ids)
        return GenerationRow(
            request, ids, min(request.max_tokens, room), self._encoder, self._end_ids
        )

    def _generate(self, rows: list[GenerationRow]) -> None:
        """Run the rows to their ends; those that are over leave the batch, the others go on from what is cached."""
        import torch

        ids, mask = self._padded(rows)
        cached = self._empty_cache()
        while True:
            done = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._plain(max(row.limit - len(row.ids) for row in rows)),
                logits_processor=[Sampler(rows, self._num_tokens, ids.device)],
                stopping_criteria=[self._taker(rows)],
                **cached,
            )
            open_ = [i for i, row in enumerate(rows) if row.finish is None]
            if not open_:
                return
            kept = torch.tensor(open_, device=ids.device)
            rows, ids = [rows[i] for i in open_], done.sequences[kept]
            mask = torch.cat([mask, mask.new_ones(len(mask), ids.shape[1] - mask.shape[1])], dim=1)[
                kept
            ]
            cached = {"past_key_values": done.past_key_values}
            done.past_key_values.batch_select_indices(kept)

    def _padded(self, rows: Sequence[GenerationRow]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """The contexts, padded on the left, and 1 where they are."""
        import torch

        width = max(len(row.context_ids) for row in rows)
        gaps = [width - len(row.context_ids) for row in rows]
        ids = [
            [self._pad_id] * gap + list(row.context_ids)
            for gap, row in zip(gaps, rows, strict=True)
        ]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        return torch.tensor(ids, device=self._model.device), torch.tensor(
            mask, device=self._model.device
        )

    def _taker(self, rows: Sequence[GenerationRow]) -> Callable[..., "torch.Tensor"]:
        """A stopping criterion that hands each open row its new token and ends the run when too few are left."""
        import torch

        def take(input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            for row, token in zip(rows, input_ids[:, -1].tolist(), strict=True):
                if row.finish is None:
                    row.take(token)
            is_over = [row.finish is not None for row in rows]
            if self._can_drop_rows and is_over.count(False) < _FULL_ENOUGH * len(rows):
                is_over = [True] * len(rows)
            return torch.tensor(is_over, device=input_ids.device)

        return take

    @cached_property
    def _can_drop_rows(self) -> bool:
        """Whether the model caches nothing but keys and values."""
        return bool(self._layer_kinds)

    @cached_property
    def _layer_kinds(self) -> frozenset[type]:
        from coa.policy.kv_cache import layer_kinds

        return layer_kinds(self._model)

    def _empty_cache(self) -> dict[str, Any]:
        """A cache with room to grow for a model whose own would be plain; other models make theirs."""
        from coa.policy.kv_cache import roomy_cache

        cache = roomy_cache(self._layer_kinds)
        return {} if cache is None else {"past_key_values": cache}

    def _plain(self, max_new_tokens: int) -> Any:
        """Settings that keep `generate` from adding what the model's own defaults ask for.

        coa/policy/sampler.py chooses the tokens.
        """
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
            return_dict_in_generate=True,
            pad_token_id=self._pad_id,
            eos_token_id=sorted(self._end_ids) or None,
        )


def _of_like_length(rows: Sequence[GenerationRow], size: int) -> Iterator[list[GenerationRow]]:
    """Batches of at most `size` rows in which none is longer than `_SPREAD` times the shortest, from sorted rows."""
    batch: list[GenerationRow] = []
    for row in rows:
        if batch and (
            len(batch) == size or len(row.context_ids) > _SPREAD * len(batch[0].context_ids)
        ):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


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
        raise ConfigError(
            "there is no GPU", expected="device=cpu or device=auto", got=f"device={device}"
        )
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
