"""Whatever is in a profile or in params.yaml, the command ends in a message within seconds."""

import time
from pathlib import Path

import pytest

from coa.errors import CoaError, ConfigError
from coa.settings.params import Params, read_profiles, write_profile
from coa.settings.sections import kind_of
from coa.settings.text import merge_comments

ROOT = Path(__file__).parent.parent
DEFAULT = ROOT / "conf/microworld.yaml"
SECONDS = 20.0
"""Far above what is needed, for busy machines; what multiplies would need years."""


def multiplied(first: str, indent: str = "") -> str:
    lines = [f"{indent}{first}0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        lines.append(f"{indent}{first}{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


HOSTILE: dict[str, str | bytes] = {
    "empty": "",
    "blank": "\n \n",
    "comments": "# nothing\n",
    "null": "null",
    "list": "- sample",
    "number": "5",
    "text": "hello",
    "date": "2024-01-01",
    "two documents": "sample: {seed: 1}\n---\nsample: {seed: 2}",
    "tab": "sample:\n\tseed: 1",
    "cut": "sample: {seed: [1",
    "key twice": "sample: {seed: 1, seed: 2}",
    "section twice": "sample: {seed: 1}\nsample: {seed: 2}",
    "reference in a text": "render: {title: 'a ${x} b'}",
    "reference that is cut": "render: {title: '${'}",
    "reference to itself": "render: {title: '${render.title}'}",
    "ring": "render: {title: '${render.repository}', repository: '${render.title}'}",
    "ring of sections": "render: {title: '${prompts.coa}'}\nprompts: {coa: '${render.title}'}",
    "resolver": "render: {title: '${nothing:1}'}",
    "section by reference": "render: ${sample}",
    "section by its own name": "render: ${render}",
    "own section by reference": "mine: ${yours}",
    "missing mark": "render: {title: '???'}",
    "date within": "render: {title: 2024-01-01}",
    "moment within": "render: {title: 2024-01-01T00:00:00Z}",
    "set": "assemble: !!set {a, b}",
    "set within": "grade: {samples: !!set {a, b}}",
    "ordered": "grade: !!omap [a: 1]",
    "bytes": "render: {title: !!binary aGVsbG8=}",
    "python": "render: !!python/object/apply:os.system ['true']",
    "unknown tag": "render: !mine {a: 1}",
    "number as key": "1: {a: 2}",
    "null as key": "~: {a: 2}",
    "truth as key": "true: {a: 2}",
    "float as key": "1.5: 3",
    "list as key": "? [a, b]\n: 1",
    "mapping as key": "? {a: b}\n: 1",
    "date as key": "2024-01-01: 3",
    "bytes as key": "? !!binary aGVsbG8=\n: 1",
    "number as key within": "sample: {1: 2}",
    "null as key within": "sample: {~: 2}",
    "list as key within": "sample: {? [a, b] : 2}",
    "dotted section": "sample.seed: 2",
    "empty key": "'': {a: 1}",
    "empty key within": "sample: {'': 1}",
    "bracket in a key": "'sample[0]': 1",
    "long key": "? " + "a" * 5_000 + "\n: 1",
    "deep mapping": "a: " + "{b: " * 3_000 + "1" + "}" * 3_000,
    "deep list": "a: " + "[" * 5_000 + "]" * 5_000,
    "deep setting": "sample: {seed: " + "[" * 400 + "]" * 400 + "}",
    "deep in an open mapping": "train: {rl2: {rewards: " + "{a: " * 300 + "1" + "}" * 302,
    "anchors that multiply": multiplied("a"),
    "anchors that multiply within": "grade:\n" + multiplied("a", "  "),
    "list in itself": "grade: {samples: &a [x, *a]}",
    "mapping in itself": "grade: &a {samples: *a}",
    "unknown anchor": "sample: *nothing",
    "merge of a number": "sample:\n  <<: 5",
    "digits": "sample: {seed: " + "9" * 5_000 + "}",
    "large number": "sample: {seed: 99999999999999999999}",
    "fraction": "sample: {seed: 1.5}",
    "not a number": "sample: {seed: .nan}",
    "list as a section": "sample: [1, 2]",
    "number as a section": "sample: 3",
    "text as a section": "sample: hello",
    "mapping for a list": "grade: {samples: {a: 1}}",
    "list of mappings": "grade: {samples: [{a: 1}]}",
    "number for records": "questions: {files: 5}",
    "texts for records": "questions: {files: [a]}",
    "nulls for records": "questions: {files: [~]}",
    "text for a section within": "teacher: {server: hello}",
    "list for all": "train: [a]",
    "null byte": b"sample: {seed: \x00}",
    "latin1": "render: {title: caf\xe9}".encode("latin-1"),
    "utf16": "sample: {seed: 1}".encode("utf-16"),
    "surrogate": 'render: {title: "\\ud800"}',
    "surrogate as bytes": b"render: {title: \xed\xa0\x80}",
    "bad directive": "%YAML 9.9\n---\nsample: {seed: 1}",
    "merge marks": "<<<<<<< HEAD\nsample: {seed: 1}\n=======\nsample: {seed: 2}\n>>>>>>> other",
    "template": "sample: {seed: {{ x }}}",
    "long line of blanks": "a: '" + " " * 200_000 + "b'",
    "too large": "# " + "x" * 300_000,
}


def load_all(path: Path) -> None:
    """Read a file as params.yaml, every section of ours that it has included."""
    params = Params.load("sample", ["num_rollouts=1"], path)
    for name in params.chosen:
        kind = kind_of(name)
        if kind is not None:
            params.section(kind, name)
    params.values()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_profile_ends_in_a_message_within_seconds(tmp_path: Path, name: str) -> None:
    content = HOSTILE[name]
    path = tmp_path / "profile.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    began = time.monotonic()
    with pytest.raises(CoaError) as raised:
        write_profile(path, tmp_path / "params.yaml", DEFAULT)
    assert len(str(raised.value)) < 3_000
    assert not (tmp_path / "params.yaml").exists()
    if name not in ("own section by reference", "long line of blanks"):
        with pytest.raises(CoaError):
            load_all(path)
    assert time.monotonic() - began < SECONDS
    read_profiles(path)


def test_what_is_no_file_is_not_read_without_end(tmp_path: Path) -> None:
    for path in (Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            write_profile(path, tmp_path / "params.yaml", DEFAULT)


def test_a_profile_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_bytes(b"\xef\xbb\xbf# ours\r\nsample:\r\n  seed: 11  # eleven\r\n")
    write_profile(path, tmp_path / "params.yaml", DEFAULT)
    assert Params.load("sample", [], tmp_path / "params.yaml").chosen["sample"]["seed"] == 11


def test_an_empty_params_file_is_answered_with_a_command_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coa.params import main

    monkeypatch.chdir(tmp_path)
    Path("conf").symlink_to(ROOT / "conf")
    for content in ("", "# mine\n"):
        Path("params.yaml").write_text(content)
        with pytest.raises(ConfigError) as raised:
            Params.load("sample")
        advice = raised.value.details["what to do"].partition("python -m coa.params ")[2]
        main(advice.split())
        assert Params.load("sample").chosen


@pytest.mark.parametrize(
    "text", ["  # a", "'x # y'  # b", "[a # b]", "{a: 'b'} # c", "x" + " " * 99_999]
)
def test_comments_are_found_in_linear_time(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(f"sample:\n  seed: {text}\n")
    began = time.monotonic()
    merge_comments(path)
    assert time.monotonic() - began < SECONDS
