"""Judge answers by exact match, with planted errors, in place of a model.

It reads the prompts of coa/judging/prompts/ as a model does, and is served as one. What it gets
wrong is known, so the agreement that is measured of it can be checked.
"""

import json
import re
from collections.abc import Mapping

from coa.policy import Request
from coa.policy.scripted import ScriptedPolicy, scripted_name
from coa.records import protocol
from coa.records.grading import grade_prediction, normalise
from coa.records.ranking import seeded_rank

_FIELD = re.compile(r'^(Question|Accepted answers|Criterion|Answer): (".*")$', re.MULTILINE)
_SEPARATOR = "; "
_FLIPPED = {
    "CORRECT": "INCORRECT",
    "INCORRECT": "CORRECT",
    "NOT_ATTEMPTED": "CORRECT",
    "MET": "NOT_MET",
    "NOT_MET": "MET",
}


def scripted_judge(flips: float = 0.0, seed: int = 0) -> ScriptedPolicy:
    """Make a judge that turns around a share of its verdicts, chosen by the seed and what is asked.

    An answer meets a criterion where it contains the criterion's words.
    """

    def reply(request: Request) -> str:
        fields = dict(_FIELD.findall(request.context))
        verdict = _verdict({name: json.loads(value) for name, value in fields.items()})
        share = int(seeded_rank(repr(fields), seed, "flip")[:8], 16) / 16**8
        word = _FLIPPED[verdict] if share < flips else verdict
        is_thinking = request.context.rstrip().endswith(protocol.THINK_OPEN)
        return f"{protocol.THINK_CLOSE}\n{word}" if is_thinking else word

    return ScriptedPolicy(reply, scripted_name("judge", flips, seed))


def join_answers(gold_answers: tuple[str, ...]) -> str:
    """Join accepted answers to the one text that a judge is shown."""
    return _SEPARATOR.join(gold_answers)


def _verdict(fields: Mapping[str, str]) -> str:
    answer = fields["Answer"]
    if "Criterion" in fields:
        is_met = normalise(fields["Criterion"]) in normalise(answer)
        return "MET" if is_met else "NOT_MET"
    if not answer:
        return "NOT_ATTEMPTED"
    grade = grade_prediction(answer, fields["Accepted answers"].split(_SEPARATOR))
    return "CORRECT" if grade.exact_match else "INCORRECT"
