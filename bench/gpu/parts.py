"""Measure each part. A part yields its rows as they are done."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from bench.gpu import large_model
from bench.gpu.rows import Figure, Row
from bench.gpu.workplace import Workplace

LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft", "vllm", "deepspeed")
STUDENT_CHAIN = {
    "sft1": "pretrain",
    "sft2": "sft1",
    "sft3": "sft2",
    "rl1": "sft3",
    "rl2": "sft2",
}
"""Each stage of the student's chain with the one that it starts from."""
LARGE_STAGES = ("sft1", "sft2", "sft3", "rl2")
LARGE_CONTEXT = 1_024
"""Tokens of a row: the microworld's rows have some 250 in a tokenizer that was not made for it."""
LORA = "{r: 64, lora_alpha: 128, target_modules: all-linear, task_type: CAUSAL_LM}"

Part = Callable[[Workplace], Iterator[Row]]


def device() -> str:
    """Name the GPU with its memory, or the CPU."""
    import torch

    if not torch.cuda.is_available():
        return f"no GPU, {platform.machine()}"
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def versions(_: Workplace) -> Iterator[Row]:
    """List the libraries, since the machine may have others than those that are pinned."""
    found: dict[str, Figure] = {"Python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    import torch

    found["CUDA"] = torch.version.cuda or "none"
    yield Row("versions", "libraries", found)


def data(place: Workplace) -> Iterator[Row]:
    """Make the world and the sets that all others train on."""
    place.make_sets()
    sizes = json.loads((place.folder / "metrics/assemble.json").read_bytes())
    found: dict[str, Figure] = {f"{name} (rows)": each["train"] for name, each in sizes.items()}
    yield Row("data", "sets", found)


def student(place: Workplace) -> Iterator[Row]:
    """Take a student with random weights through all stages, and ask each stage's model."""
    place.make_sets()
    shape = [
        f"train.pretrain.student.{key}={value}"
        for key, value in asdict(place.sizes.student).items()
        if not isinstance(value, tuple)
    ]
    yield _trained(place, "pretrain", shape)
    for stage, init in STUDENT_CHAIN.items():
        settings = [f"train.{stage}.init=data/train/student_{init}"]
        if stage.startswith("sft"):
            settings += _arguments(stage, place.sizes.batch)
        row = _trained(place, stage, settings)
        name = f"student_{stage}"
        place.run(
            "evaluation.evaluate",
            f"model=data/train/{name}",
            "split=test",
            f"num_questions={place.sizes.num_questions}",
        )
        metrics = place.result(name)["metrics"]
        figures = {**row.figures}
        for metric in ("exact_match", "actions"):
            figures[metric] = metrics[metric]["value"]
        yield Row("student", stage, figures)


def _trained(place: Workplace, stage: str, settings: Sequence[str]) -> Row:
    steps = {"max_steps": place.sizes.steps[stage], "logging_steps": 1}
    arguments = [*settings, *_arguments(stage, steps)]
    return Row("student", stage, place.train(stage, f"student_{stage}", arguments))


def lora(place: Workplace) -> Iterator[Row]:
    """Train adapters of the large model: a few steps of each stage."""
    yield from _large(place, "lora", [f"train.lora={LORA}"])


def full(place: Workplace) -> Iterator[Row]:
    """Train all weights of the large model; Adafactor, since Adam's state would not fit."""
    yield from _large(place, "full", [])


def _large(place: Workplace, part: str, extra: Sequence[str]) -> Iterator[Row]:
    place.make_sets()
    model = large_model.make(place)
    sizes = place.sizes
    for stage in LARGE_STAGES:
        name = f"{part}_{stage}"
        settings: dict[str, Figure] = {
            "max_steps": sizes.large_steps,
            "logging_steps": 1,
            "activation_checkpointing": "true",
            "save_strategy": '"no"',  # YAML reads a bare no as false
        }
        if part == "full":
            settings["optim"] = "adafactor"
        if stage == "rl2":
            settings |= {
                "num_generations": sizes.large_batch,
                "beta": 0.0,
                "gradient_accumulation_steps": 1,
            }
        settings["per_device_train_batch_size"] = sizes.large_batch
        start = [f"train.{stage}.init={model}", f"train.max_context_tokens={LARGE_CONTEXT}"]
        arguments = [*start, *extra, *_arguments(stage, settings)]
        took: dict[str, Figure] = {**place.train(stage, name, arguments)}
        if stage == "rl2":
            rollouts = sizes.large_batch / float(took["seconds_per_step"])
            took["rollouts_per_hour"] = round(3600 * rollouts)
        yield Row(part, stage, took)
        large_model.remove_weights(place, name)


def logprobs(place: Workplace) -> Iterator[Row]:
    """Compare log-probabilities while sampling in bfloat16 with those of a trainer's pass."""
    yield Row("logprobs", "transformers", large_model.compare_log_probabilities(place))


def engines(_: Workplace) -> Iterator[Row]:
    """Name the engines that this machine lacks; those that are there have tests of their own."""
    for library in ("vllm", "deepspeed"):
        if find_spec(library) is None:
            yield Row("engines", library, not_run=f"{library} is not installed")
        else:
            yield Row("engines", library, not_run="not part of this bench; see docs/scaling.md")


def _arguments(stage: str, values: dict[str, Figure]) -> list[str]:
    return [f"train.{stage}.arguments.{key}={value}" for key, value in values.items()]


PARTS: dict[str, Part] = {
    "versions": versions,
    "data": data,
    "student": student,
    "lora": lora,
    "full": full,
    "logprobs": logprobs,
    "engines": engines,
}
"""In the order in which they should run: by worth."""
