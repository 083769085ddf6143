"""Sample GRPO's rollouts with vLLM: a policy over an engine to which TRL has sent the weights.

    coa train stage=rl2     # with use_vllm: true, vllm_mode: server or colocate

TRL keeps vLLM's weights those of the model in training. Its own `generate` is not used: it has one
limit, seed and list of stop strings for a whole batch. A request of the loop becomes a request of
vLLM with its own: ids in, ids out, ended with the token that completed a stop string, and these ids
are what is trained. No process waits for another within a turn: in server mode each one sends its
own requests, in colocate mode each has its own engine. In server mode no rollout waits for another
either: each is a request at a time to the server, which batches them as they come.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from coa.errors import ConfigError, ServiceError
from coa.policy import AnyPolicy, Completion, Finish, Request, cut_at_stop
from coa.records.tokens import PieceEncoder
from coa.records.trajectory import Author

NOT_HONOURED: dict[str, Any] = {
    "vllm_importance_sampling_correction": False,
    "vllm_enable_sleep_mode": False,
    "vllm_structured_outputs_regex": None,
    "vllm_tensor_parallel_size": 1,
}
"""Settings of GRPOConfig that rollouts through vLLM would ignore, with the only values that they
may have."""
_AS_TRAINED = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Sent with every request: else a server takes these from the model's generation_config.json."""
_TIMEOUTS = (10.0, 1800.0)
"""Seconds to connect and to reply; torch lets processes wait as long for each other."""
_MAX_MESSAGE_CHARS = 300

Sampling = Mapping[str, Any]
"""Fields of vLLM's SamplingParams; its server takes the same names."""


class _VllmPolicy:
    """A policy that continues requests with vLLM.

    The seed of each is its own, so only rounding depends on what else is running.
    """

    def __init__(self, tokenizer: Any, window: int, name: str, end_ids: Sequence[int]) -> None:
        self._window = window
        self._encoder = PieceEncoder(tokenizer)
        self._end_ids = sorted({*end_ids, tokenizer.eos_token_id})
        self._name = name

    @property
    def name(self) -> str:
        """Name the model as results and journals should call it."""
        return self._name

    @property
    def identity(self) -> Mapping[str, object]:
        """Return nothing: rollouts of a model in training are not journaled."""
        return {}

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """Return the token ids of a piece of text, with nothing added."""
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """List the tokenizer's control tokens, which text from outside must not contain."""
        return self._encoder.control_tokens

    def count_tokens(self, text: str) -> int:
        """Count the tokens that `text` costs as a prompt."""
        return len(self.encode(text, is_prompt=True))

    def _context(self, request: Request) -> tuple[int, ...]:
        ids = request.context_ids
        if ids is None:
            ids = self.encode(request.context, is_prompt=True)
        if not ids:
            raise ConfigError("a context is empty", expected="at least one token to continue")
        return ids

    def _sampling(self, request: Request, limit: int) -> Sampling:
        return {
            **_AS_TRAINED,
            "max_tokens": limit,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "stop": list(request.stop),
            "stop_token_ids": self._end_ids,
            "include_stop_str_in_output": True,
            # A tag that a tokenizer knows as a special token would vanish from the text in which
            # vLLM looks for it.
            "skip_special_tokens": False,
        }

    def _completion(
        self, request: Request, num_context: int, limit: int, ids: list[int]
    ) -> Completion:
        """Read from the ids how the text ended: it is only ever decoded from them."""
        if ids and ids[-1] in self._end_ids:
            text = self._encoder.decode(ids[:-1])
            finish = Finish.END
        else:
            text, has_stopped = cut_at_stop(self._encoder.decode(ids), request.stop)
            finish = Finish.LENGTH
            if has_stopped:
                finish = Finish.STOP
                ids = self._up_to_stop(ids, request.stop)
        if finish is Finish.LENGTH and len(ids) < limit:
            raise ServiceError(
                "vLLM ended a text for no reason that we know",
                got=f"{len(ids)} of {limit} tokens, ending in {text[-20:]!r}",
                fix="give vLLM the model and tokenizer that are trained",
            )
        return Completion(text, finish, len(ids), num_context, tuple(ids))

    def _up_to_stop(self, ids: list[int], stop: Sequence[str]) -> list[int]:
        """Cut the ids after the token that completed a stop string.

        vLLM may have sampled several more in one go.
        """
        while cut_at_stop(self._encoder.decode(ids[:-1]), stop)[1]:
            ids = ids[:-1]
        return ids


class VllmPolicy(_VllmPolicy):
    """A policy over an engine in this process, which answers many requests in one call."""

    def __init__(
        self, engine: "ColocatedEngine", tokenizer: Any, *, name: str, end_ids: Sequence[int] = ()
    ) -> None:
        super().__init__(tokenizer, engine.window, name, end_ids)
        self._engine = engine

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order.

        A context that fills the window gets an empty completion that ends for its length.

        Raises:
            ServiceError: a text ends for no reason that we know.
        """
        contexts = [self._context(request) for request in requests]
        limits = []
        for request, context in zip(requests, contexts, strict=True):
            limits.append(min(request.max_tokens, self._window - len(context)))

        has_room = [i for i, limit in enumerate(limits) if limit > 0]
        sampling = [self._sampling(requests[i], limits[i]) for i in has_room]
        replies = self._engine.sample([contexts[i] for i in has_room], sampling)
        sampled: list[list[int]] = [[] for _ in requests]
        for i, ids in zip(has_room, replies, strict=True):
            sampled[i] = ids

        completions = []
        for i, request in enumerate(requests):
            completion = self._completion(request, len(contexts[i]), limits[i], sampled[i])
            completions.append(completion)
        return completions


class ServedVllmPolicy(_VllmPolicy):
    """A policy over vLLM's server, which batches requests as they come."""

    def __init__(
        self, engine: "ServedEngine", tokenizer: Any, *, name: str, end_ids: Sequence[int] = ()
    ) -> None:
        super().__init__(tokenizer, engine.window, name, end_ids)
        self._engine = engine

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context.

        A context that fills the window gets an empty completion that ends for its length.

        Raises:
            ServiceError: the server cannot be reached, refuses the request, or ends a text for no
                reason that we know.
        """
        context = self._context(request)
        limit = min(request.max_tokens, self._window - len(context))
        ids: list[int] = []
        if limit > 0:
            ids = await self._engine.sample(context, self._sampling(request, limit))
        return self._completion(request, len(context), limit, ids)


class ColocatedEngine:
    """vLLM in this process (`vllm_mode: colocate`)."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    @property
    def window(self) -> int:
        """Return the number of tokens that a sequence may have."""
        return int(self._llm.llm_engine.model_config.max_model_len)

    def sample(
        self, contexts: Sequence[Sequence[int]], sampling: Sequence[Sampling]
    ) -> list[list[int]]:
        """Return the ids that continue each context."""
        from vllm import SamplingParams

        if not contexts:
            return []
        prompts = [{"prompt_token_ids": list(ids)} for ids in contexts]
        params = [SamplingParams(**given) for given in sampling]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]


class ServedEngine:
    """vLLM behind its server (`vllm_mode: server`), through TRL's client.

    The session of TRL's VLLMClient repeats what fails for a moment. The number of `threads`, which
    send the requests, is that of the requests in flight.
    """

    def __init__(self, client: Any, threads: Executor) -> None:
        self._client = client
        self._threads = threads
        self._window = int(self._reply("GET", "/v1/models")["data"][0]["max_model_len"])

    @property
    def window(self) -> int:
        """Return the number of tokens that a sequence may have."""
        return self._window

    async def sample(self, context: Sequence[int], sampling: Sampling) -> list[int]:
        """Return the ids that continue a context.

        Raises:
            ServiceError: the server cannot be reached or refuses the request.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, context, sampling)

    def _ask(self, context: Sequence[int], sampling: Sampling) -> list[int]:
        body = {
            "model": self._client.model,
            "prompt": list(context),
            "return_token_ids": True,
            **sampling,
        }
        reply = self._reply("POST", "/v1/completions", json=body)
        return [int(token) for token in reply["choices"][0]["token_ids"]]

    def _reply(self, method: str, path: str, **options: Any) -> Any:
        import requests

        url = f"{self._client.base_url}{path}"
        fix = "see the server's log, and docs/scaling.md for how to start it"
        try:
            response = self._client.session.request(method, url, timeout=_TIMEOUTS, **options)
            if response.status_code == 200:
                return response.json()
        except requests.RequestException as error:
            raise ServiceError(
                "vLLM's server cannot be reached", where=url, got=error, fix=fix
            ) from error
        got = f"{response.status_code}: {response.text[:_MAX_MESSAGE_CHARS]}"
        raise ServiceError("vLLM's server refuses a request", where=url, got=got, fix=fix)


def open_policy(trainer: Any, tokenizer: Any, *, name: str, threads: Executor) -> AnyPolicy:
    """Open the policy over the engine of TRL's trainer, which holds the weights of this step.

    Every process calls this equally often: in server mode they wait here until the first one has
    sent the weights. `threads` then send the requests.
    """
    generation = trainer.vllm_generation
    end_ids = trainer.model.generation_config.eos_token_id or ()
    if isinstance(end_ids, int):
        end_ids = [end_ids]
    if generation.mode == "colocate":
        engine = ColocatedEngine(generation.llm)
        return VllmPolicy(engine, tokenizer, name=name, end_ids=end_ids)
    trainer.accelerator.wait_for_everyone()
    served = ServedEngine(_client(generation), threads)
    return ServedVllmPolicy(served, tokenizer, name=name, end_ids=end_ids)


def _client(generation: Any) -> Any:
    """Return TRL's client, made here where there is none.

    Only the first process has one already, with which it sends the weights.
    """
    from trl.generation.vllm_client import VLLMClient

    if not hasattr(generation, "vllm_client"):
        address = f"http://{generation.server_host}:{generation.server_port}"
        base_url = generation.server_base_url or address
        generation.vllm_client = VLLMClient(
            base_url=base_url, connection_timeout=generation.server_timeout
        )
    return generation.vllm_client
