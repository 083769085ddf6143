"""Hold one text of each format, cut where the author or the kind of the text changes."""

from dataclasses import dataclass

from coa.foreign.record import Format
from coa.foreign.tag_families import SEARCH_R1
from coa.records.trajectory import Author, StepKind

POLICY, ENVIRONMENT, SCAFFOLD = Author.POLICY, Author.ENVIRONMENT, Author.SCAFFOLD


@dataclass(frozen=True)
class Example:
    """A text of one format, cut where the author or the kind changes."""

    format: Format
    pieces: tuple[tuple[StepKind, Author, str], ...]
    calls: tuple[tuple[str, str], ...] = (("search", "capital of France"),)

    @property
    def text(self) -> str:
        return "".join(text for _, _, text in self.pieces)


EXAMPLES = [
    Example(
        Format.SEARCH_R1,
        (
            (StepKind.THOUGHT, POLICY, "<think> Hm. </think>\nNo tags."),
            (StepKind.MARKER, SCAFFOLD, SEARCH_R1.retry),
            (StepKind.THOUGHT, POLICY, "<think> I look. </think>\n"),
            (StepKind.ACTION, POLICY, "<search> capital of France </search>"),
            (
                StepKind.OBSERVATION,
                ENVIRONMENT,
                '\n\n<information>Doc 1(Title: "France (state)") Its capital is Paris.\n'
                "Doc 2(Title: Paris) A city.</information>\n\n",
            ),
            (StepKind.THOUGHT, POLICY, "<think> So. </think>\n"),
            (StepKind.ANSWER, POLICY, "<answer> Paris </answer>"),
        ),
    ),
    Example(
        Format.ASEARCHER,
        (
            (StepKind.THOUGHT, POLICY, "<think>I look.</think>\n"),
            (StepKind.ACTION, POLICY, "<search>capital of France</search>"),
            (StepKind.OBSERVATION, ENVIRONMENT, "\n\n<information>\nurl\n</information>\n\n"),
            (StepKind.MARKER, SCAFFOLD, "<think>"),
            (StepKind.THOUGHT, POLICY, "I open.</think>"),
            (StepKind.ACTION, POLICY, "<access>http://a.b/c</access>"),
            (StepKind.OBSERVATION, ENVIRONMENT, "\n\n<information>\nParis\n</information>\n\n"),
            (StepKind.MARKER, SCAFFOLD, "<think>"),
            (StepKind.THOUGHT, POLICY, "So.</think>"),
            (StepKind.ANSWER, POLICY, "<answer>Paris</answer>"),
        ),
        calls=(("search", "capital of France"), ("access", "http://a.b/c")),
    ),
    Example(
        Format.RESEARCH,
        (
            (StepKind.THOUGHT, POLICY, "<think> I look. </think> "),
            (StepKind.ACTION, POLICY, "<search> capital of France </search>"),
            (StepKind.OBSERVATION, ENVIRONMENT, " <result>\nParis\n</result>"),
            (StepKind.THOUGHT, POLICY, "\n<think> So. </think> "),
            (StepKind.ANSWER, POLICY, "<answer> It is \\[ \\boxed{Paris} \\] </answer>"),
        ),
    ),
    Example(
        Format.SEARCH_O1,
        (
            (StepKind.THOUGHT, POLICY, "I look.\n\n"),
            (
                StepKind.ACTION,
                POLICY,
                "<|begin_search_query|>capital of France<|end_search_query|>",
            ),
            (
                StepKind.OBSERVATION,
                ENVIRONMENT,
                "\n\n<|begin_search_result|>Paris<|end_search_result|>\n\n",
            ),
            (StepKind.THOUGHT, POLICY, "So it is.\n\n**Final Answer**\n"),
            (StepKind.ANSWER, POLICY, "\\[ \\boxed{Paris} \\]\n"),
        ),
    ),
    Example(
        Format.TOOL_CALL_TEXT,
        (
            (StepKind.THOUGHT, POLICY, "<think>\nI look.\n</think>\n"),
            (
                StepKind.ACTION,
                POLICY,
                '<tool_call>\n{"name": "search", "arguments": {"query": "capital of France"}}\n'
                "</tool_call>",
            ),
            (StepKind.THOUGHT, POLICY, "\n"),
            (
                StepKind.ACTION,
                POLICY,
                '<tool_call>{"name": "Visit", "arguments": {"url": ["u"], "n": 2}}</tool_call>',
            ),
            (
                StepKind.OBSERVATION,
                ENVIRONMENT,
                "<|im_end|>\n<|im_start|>user\n<tool_response>\nParis\n</tool_response>\n",
            ),
            (
                StepKind.OBSERVATION,
                ENVIRONMENT,
                "<tool_response>\npage\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
            ),
            (StepKind.THOUGHT, POLICY, "<think>\nSo.\n"),
            (StepKind.ANSWER, POLICY, "</think>\n\nParis<|im_end|>\n"),
        ),
        calls=(("search", "capital of France"), ("Visit", '{"url": ["u"], "n": 2}')),
    ),
    Example(
        Format.AUTOCOA,
        (
            (StepKind.THOUGHT, POLICY, "I look.\n"),
            (StepKind.ACTION, POLICY, "<begin_search> capital of France </end_search>"),
            (StepKind.OBSERVATION, ENVIRONMENT, "\n<search_result> Paris </search_result>\n"),
            (StepKind.THOUGHT, POLICY, "So.\n"),
            (StepKind.ANSWER, POLICY, "</think>\n\n\\boxed{Paris}"),
        ),
    ),
    Example(
        Format.REFLEXION,
        (
            (StepKind.MARKER, SCAFFOLD, "Thought 1:"),
            (StepKind.THOUGHT, POLICY, " I look."),
            (StepKind.MARKER, SCAFFOLD, "\nAction 1:"),
            (StepKind.ACTION, POLICY, " Search[capital of France]"),
            (StepKind.OBSERVATION, ENVIRONMENT, "\nObservation 1: Paris"),
            (StepKind.MARKER, SCAFFOLD, "\nAction 2:"),
            (StepKind.ANSWER, POLICY, " Finish[Paris]."),
            (StepKind.OBSERVATION, ENVIRONMENT, "\nObservation 2: Answer is CORRECT"),
        ),
    ),
    Example(
        Format.REACT,
        (
            (StepKind.MARKER, SCAFFOLD, "Thought:"),
            (StepKind.THOUGHT, POLICY, " I look.\n"),
            (StepKind.ACTION, POLICY, "Action: search[capital of France]"),
            (StepKind.OBSERVATION, ENVIRONMENT, "\nObservation: Paris\n"),
            (StepKind.ANSWER, POLICY, "Action: finish[Paris]"),
        ),
    ),
]
