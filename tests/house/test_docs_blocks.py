"""Every block of commands in the documents says whether it is run by a test, and if not, why."""

from pathlib import Path

from tests.docs_support import (
    PAGES,
    ROOT,
    Block,
    is_known,
    missing_lines,
    read_blocks,
    read_commands,
)


def test_every_block_bears_a_mark() -> None:
    unmarked = []
    for page in PAGES:
        for block in read_blocks(page):
            if not is_known(block.mark):
                unmarked.append(f"{block.place}: {block.mark or 'no mark'}")
    assert unmarked == [], "write `<!-- run -->`, `<!-- long -->` or `<!-- needs: ... -->` above it"


def test_a_block_without_a_mark_or_with_an_unknown_one_is_found(tmp_path: Path) -> None:
    assert not is_known("")
    assert not is_known("needs: luck")
    assert is_known("needs: gpu")
    assert is_known("run")


def test_commands_are_parted_from_what_they_print() -> None:
    block = Block("page:1", "run", "console", "$ one  # why\nprinted\n...\n$ two\n")
    assert [command.typed for command in read_commands(block)] == ["one  # why", "two"]
    assert read_commands(block)[0].printed == ("printed", "...")


def test_what_a_page_shows_must_be_printed_with_any_numbers() -> None:
    printed = "a\n12,345 rows   kept\nb\n"
    assert missing_lines(("1 rows kept", "...", "b"), printed) == []
    assert missing_lines(("2 rows dropped",), printed) == ["2 rows dropped"]
    assert missing_lines(("b", "a"), printed) == ["a"]


def test_every_block_of_the_readme_is_run_but_the_whole_demo() -> None:
    for block in read_blocks(ROOT / "README.md"):
        typed = [command.typed for command in read_commands(block)]
        assert block.mark.startswith(("run", "long")) or any(
            command.startswith("make demo") for command in typed
        ), block
