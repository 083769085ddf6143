"""Run a real vLLM server on this machine's CPU, with a tiny Qwen3 that thinks, acts and answers.

The model learns four questions by heart in two forms: in the protocol's tags, for raw completions,
and as Qwen's chat template writes reasoning and calls (`<tool_call>` around JSON), for chat. What
it has learned comes out to the letter: stop strings fire, and vLLM's parsers have something to
parse. The environment is that of `python -m scripts.vllm_cpu`.
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coa.policy.chat.families import ChatSettings
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.question import Question
from coa.search import Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import ObservationSettings, SearchTool
from scripts.vllm_cpu import FOLDER

ROOT = Path(__file__).parent.parent
MODEL = "tiny"
DIRECTORS = {
    "Iron Harbor": "Nora Brandt",
    "Quiet Ember": "Leon Yates",
    "Silver Ransom": "Mira Nash",
    "Hollow Summit": "Karl Keller",
}
WINDOW = 1024
"""Tokens that the model and the server read."""
START_SECONDS = 600
_TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Tokens of their own, as in Qwen3: the reasoning parser looks for their ids."""
_CHAT_TEMPLATE = r"""
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.reasoning %}
{{- '<think>\n' + message.reasoning.strip('\n') + '\n</think>\n\n' }}
{%- endif %}
{{- message.content or '' }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""
_NUM_STEPS = 200
_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_CI_ENV": "1",
    "OMP_NUM_THREADS": "1",
    # Without these two the first request with log-probabilities takes most of a minute.
    "TORCH_COMPILE_DISABLE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def questions() -> list[Question]:
    """Make the questions that the model knows."""
    made = []
    for number, (film, director) in enumerate(DIRECTORS.items()):
        made.append(Question(f"q{number}", f"Who directed {film}?", (director,), "train"))
    return made


def found(film: str) -> str:
    """Return what the search shows of a film."""
    return f"result 1: {film} was directed by {DIRECTORS[film]}."


def search_tool() -> SearchTool:
    """Open a search over one passage for each question."""
    passages = []
    for film, director in DIRECTORS.items():
        passages.append(Passage(film, film, f"{film} was directed by {director}."))
    settings = ObservationSettings(top_k=1, shows_titles=False)
    return SearchTool(EmbeddedSearch.in_memory(tuple(passages)), settings)


def prompt(name: str) -> Prompt:
    """Load a prompt of teachers: `coa` shows tags, `chat_coa` does not."""
    return Prompt.load(ROOT / f"synth/prompts/{name}.txt", "{prompt}\n\n")


def texts_in_tags() -> list[str]:
    """Write the rollouts in the protocol's tags, as the loop continues them."""
    texts = []
    for question, (film, director) in zip(questions(), DIRECTORS.items(), strict=True):
        texts.append(
            f"{prompt('coa').fill(question.question)}I need the director of {film}. "
            f"<begin_search> director of {film} </end_search>"
            f"{protocol.observation_text('search', found(film))}It says {director}.\n"
            f"</think>\n\n\\boxed{{{director}}}<|im_end|>"
        )
    return texts


def conversations() -> list[list[dict[str, Any]]]:
    """Write the rollouts as conversations: to their own end, and with a forced answer."""
    made = []
    for question, (film, director) in zip(questions(), DIRECTORS.items(), strict=True):
        asked = prompt("chat_coa").fill(question.question).partition(protocol.THINK_OPEN)[0]
        function = {"name": "search", "arguments": {"query": f"director of {film}"}}
        begun: list[dict[str, Any]] = [
            {"role": "user", "content": asked.strip()},
            {
                "role": "assistant",
                "reasoning": f"I need the director of {film}.",
                "tool_calls": [{"type": "function", "function": function}],
            },
            {"role": "tool", "content": found(film)},
        ]
        answer = f"\\boxed{{{director}}}"
        thought = f"It says {director}."
        made.append([*begun, {"role": "assistant", "reasoning": thought, "content": answer}])
        ask = {"role": "user", "content": ChatSettings().answer_request}
        made.append([*begun, ask, {"role": "assistant", "content": answer}])
    return made


def save_model(folder: Path) -> None:
    """Train the model and save it with its tokenizer; a matter of half a minute."""
    import torch

    from coa.student.small import StudentSettings, random_model
    from scripts.tiny_base import bpe_tokenizer

    plain = [json.dumps(conversation) for conversation in conversations()]
    tokenizer = bpe_tokenizer([*texts_in_tags(), *plain], 700, WINDOW)
    tokenizer.add_tokens(list(_TOKENS))
    tokenizer.chat_template = _CHAT_TEMPLATE
    texts = texts_in_tags()
    for conversation in conversations():
        texts.append(tokenizer.apply_chat_template(conversation, tokenize=False))
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    shape = StudentSettings(num_heads=2, num_layers=2, max_context_tokens=WINDOW)
    model = random_model(tokenizer, shape, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(_NUM_STEPS):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def serve_vllm(model: Path, log: Path, *options: str) -> Iterator[str]:
    """Serve a model with `vllm serve` and yield the base URL.

    Raises:
        AssertionError: The server ended, or did not answer in time.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    python = FOLDER / "bin/python"
    preloaded = {"LD_PRELOAD": str(FOLDER / "lib/libiomp5.so")}
    command = [str(python), str(FOLDER / "bin/vllm"), "serve", str(model)]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--max-model-len", str(WINDOW), "--seed", "0"]
    command += ["--enforce-eager", "--max-num-seqs", "16", "--generation-config", "vllm"]
    environment = {**os.environ, **_ENVIRONMENT, **preloaded}
    environment.pop("PYTHONPATH", None)
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            [*command, *options], env=environment, stdout=file, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(1)
    raise AssertionError(f"vLLM did not start: {log.read_text(encoding='utf-8')[-3000:]}")


def post(base_url: str, page: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request and return the reply, whatever its status."""
    request = urllib.request.Request(
        f"{base_url}/{page}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            reply: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as refused:
        reply = json.load(refused)
    return reply
