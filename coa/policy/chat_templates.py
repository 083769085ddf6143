"""Write a tokenizer's chat template in the form of the settings `chat_template`."""

from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from coa.errors import ConfigError
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.tokens import PieceEncoder


def load_prompt(file: str, template: str, tokenizer: Any) -> Prompt:
    """Load a prompt file inside a chat template; an empty one stands for the tokenizer's own."""
    prompt = Prompt.load(Path(file), template or own_template(tokenizer))
    return prompt.for_policy(PieceEncoder(tokenizer))


def own_template(tokenizer: Any) -> str:
    """Return the tokenizer's chat template around `{prompt}`, up to where the policy's text begins.

    Some templates open the thinking themselves (DeepSeek-R1's distilled models). `Prompt.load` does
    it for all, so that opening is taken away here: the thinking is opened once.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "the tokenizer has no chat template",
            where=tokenizer.name_or_path,
            fix="set train.chat_template and evaluate.policy.chat_template, such as "
            "'{prompt}\\n\\n'",
        )
    message = [{"role": "user", "content": "{prompt}"}]
    try:
        text: str = tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        raise ConfigError(
            "the tokenizer's chat template cannot be filled",
            where=tokenizer.name_or_path,
            got=error,
            fix="mend it, or set train.chat_template and evaluate.policy.chat_template",
        ) from error
    if text.rstrip().endswith(protocol.THINK_OPEN):
        return text.rstrip().removesuffix(protocol.THINK_OPEN)
    return text
