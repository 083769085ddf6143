"""Continue texts with a model in this process: `transformers`' `AutoModelForCausalLM`.

One call continues many requests. Token ids are sampled once and never encoded again from text: a
request's `context_ids` go into the model as they are, and the ids that come back end with the token
that completed the stop string, or with the end-of-turn token. The text is decoded from them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coa.errors import ConfigError, MissingExtraError, unknown_name
from coa.policy import Completion, Request
from coa.policy.local.sampler import GenerationRow, Sampler, batches_of_similar_length
from coa.records.tokens import PieceEncoder
from coa.records.trajectory import Author
from coa.store.model_files import fingerprint_model

if TYPE_CHECKING:
    import torch

_HUB_SECONDS = 10.0
"""How long the Hub may take to say whether it has a name."""
_FULL_ENOUGH = 0.8
"""When fewer than this share of a batch's rows are open, it continues without the finished ones."""


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Settings of the model in this process: which one to load, and where."""

    model: str = ""
    """A folder, or a name on the Hub."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, ...; `auto` is the GPU where there is one."""
    dtype: str = "auto"
    """`float32`, `bfloat16` or `float16`; `auto` is bfloat16 on a GPU and float32 on the CPU."""
    batch_size: int = 64
    """Number of requests that go through the model together."""


class LocalEncoder:
    """The name, the identity and the tokenizer of a model, without its weights."""

    def __init__(
        self, tokenizer: Any, *, name: str, identity: Mapping[str, object] | None = None
    ) -> None:
        self._encoder = PieceEncoder(tokenizer)
        self.name = name
        self.identity = identity or {}
        """Which weights these are, and their precision; empty for a model in training."""
        self.control_tokens = self._encoder.control_tokens

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """Encode a piece of text as token ids, with nothing added.

        Tokens added as ordinary ones (`special=False`), as a student's tags should be, are tokens
        everywhere.
        """
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    def count_tokens(self, text: str) -> int:
        """Count the tokens of `text` as a prompt."""
        return len(self.encode(text, is_prompt=True))


def load_encoders(settings: LocalSettings) -> list[LocalEncoder]:
    """Load a model's tokenizer and identity without its weights, to find its recorded calls.

    The list has one encoder for each precision that the model may have had, because `auto` depends
    on the machine. It is empty where the model is not a folder here.
    """
    weights = fingerprint_model(settings.model)
    if not weights:
        return []
    tokenizer = load_tokenizer(settings.model)
    dtypes = dict.fromkeys(_dtype(device, settings.dtype) for device in ("cpu", "cuda"))
    encoders = []
    for dtype in dtypes:
        same = {"weights": weights, "dtype": dtype}
        encoders.append(LocalEncoder(tokenizer, name=settings.model, identity=same))
    return encoders


class LocalPolicy(LocalEncoder):
    """A policy that continues requests with a model in this process.

    Every request is sampled by a random generator of its own, seeded with the request's seed, so
    the rest of the batch makes no difference except for the rounding of padded arithmetic. The
    model is used as it is: a trainer switches it to evaluation mode first.
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
        super().__init__(tokenizer, name=name, identity=identity)
        self._model = model
        self._num_tokens = len(tokenizer)
        self._batch_size = batch_size
        own = model.generation_config.eos_token_id
        ends = (*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id)
        self._end_ids = frozenset(token for token in ends if token is not None)
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
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(
                "there is no GPU", expected="device=cpu or device=auto", got=f"device={device}"
            )
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

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order.

        Contexts of similar length go through the model together. A context that fills the model's
        window gets an empty completion that ends for its length. A completed stop string ends the
        text, while the ids keep the whole token that completed it. The end-of-turn token is in the
        ids and not in the text.

        Raises:
            ConfigError: a context is empty.
        """
        rows = [self._row(request) for request in requests]
        waiting = [row for row in rows if row.finish is None]
        waiting.sort(key=lambda row: len(row.context_ids))
        for batch in batches_of_similar_length(waiting, self._batch_size):
            self._generate(batch)
        return [row.completion() for row in rows]

    def log_probabilities(
        self, contexts: Sequence[tuple[int, ...]], continuations: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """Tell the natural logarithm of each continuation's probability (`Scorer`)."""
        from coa.policy.local.scoring import ScoredText, log_probabilities

        texts = []
        for context, continuation in zip(contexts, continuations, strict=True):
            texts.append(ScoredText(context, continuation))
        return log_probabilities(
            self._model,
            texts,
            batch_size=self._batch_size,
            pad_id=self._pad_id,
            window=self._window,
        )

    def _row(self, request: Request) -> GenerationRow:
        ids = request.context_ids
        if ids is None:
            ids = self.encode(request.context, is_prompt=True)
        if not ids:
            raise ConfigError("a context is empty", expected="at least one token to continue")
        limit = request.max_tokens
        if self._window is not None:
            limit = min(limit, self._window - len(ids))
        return GenerationRow(request, ids, limit, self._encoder, self._end_ids)

    def _generate(self, rows: list[GenerationRow]) -> None:
        """Continue the rows until all are finished.

        Finished rows leave the batch; the others continue from what is cached.
        """
        import torch

        from coa.policy.local.kv_cache import roomy_cache

        ids, mask = self._padded(rows)
        roomy = roomy_cache(self._layer_kinds)
        cached = {} if roomy is None else {"past_key_values": roomy}
        while True:
            most_left = max(row.limit - len(row.ids) for row in rows)
            done = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._plain_settings(most_left),
                logits_processor=[Sampler(rows, self._num_tokens, ids.device)],
                stopping_criteria=[self._taker(rows)],
                **cached,
            )
            open_indices = [i for i, row in enumerate(rows) if row.finish is None]
            if not open_indices:
                return
            kept = torch.tensor(open_indices, device=ids.device)
            rows = [rows[i] for i in open_indices]
            ids = done.sequences[kept]
            num_new = ids.shape[1] - mask.shape[1]
            mask = torch.cat([mask, mask.new_ones(len(mask), num_new)], dim=1)[kept]
            cached = {"past_key_values": done.past_key_values}
            done.past_key_values.batch_select_indices(kept)

    def _padded(self, rows: Sequence[GenerationRow]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Pad the contexts on the left; return their ids, and a mask with 1 where they are."""
        import torch

        width = max(len(row.context_ids) for row in rows)
        ids = []
        mask = []
        for row in rows:
            length = len(row.context_ids)
            gap = width - length
            ids.append([self._pad_id] * gap + list(row.context_ids))
            mask.append([0] * gap + [1] * length)
        device = self._model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _taker(self, rows: Sequence[GenerationRow]) -> Callable[..., "torch.Tensor"]:
        """Make a stopping criterion that gives each open row its new token.

        It ends the run when too few rows are open.
        """
        import torch

        def take(input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            for row, token in zip(rows, input_ids[:, -1].tolist(), strict=True):
                if row.finish is None:
                    row.take(token)
            is_over = [row.finish is not None for row in rows]
            if self._layer_kinds and is_over.count(False) < _FULL_ENOUGH * len(rows):
                is_over = [True] * len(rows)
            return torch.tensor(is_over, device=input_ids.device)

        return take

    @cached_property
    def _layer_kinds(self) -> frozenset[type]:
        """The kinds of layers of a model that caches nothing but keys and values; else none."""
        from coa.policy.local.kv_cache import layer_kinds

        return layer_kinds(self._model)

    def _plain_settings(self, max_new_tokens: int) -> Any:
        """Make settings that override the model's own defaults for `generate`.

        coa/policy/local/sampler.py chooses the tokens.
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


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer in a folder or on the Hub."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error
    require_reachable("tokenizer", name)
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _not_loaded("tokenizer", name, error) from error


def require_reachable(kind: str, name: str) -> None:
    """Ask the Hub once for a name that is neither a folder here nor in the Hub's cache.

    Its client would ask for every file, again and again, and fill the screen with warnings.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if Path(name).exists():
        return
    try:
        for file in ("config.json", "tokenizer_config.json"):
            if isinstance(try_to_load_from_cache(name, file), str):
                return
        HfApi().model_info(name, timeout=_HUB_SECONDS)
    except (OfflineModeIsEnabled, HFValidationError):
        return  # Then the library refuses the name at once.
    except (HTTPError, OSError) as error:
        raise _not_loaded(kind, name, error) from error


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
    if name.count("/") != 1 and not Path(name).is_dir():
        first_line = "there is no such folder"  # The library takes it for a name, OWNER/NAME.
        beside = sorted(path.parent.name for path in Path(name).parent.glob("*/config.json"))
        fix = f"give a folder with a model; beside it: {', '.join(beside) or 'none'}"
    return ConfigError(f"cannot load the {kind} {name!r}", got=first_line, fix=fix)
