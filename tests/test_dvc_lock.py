"""A dvc.lock that a merge or a crash has broken ends in a message whose advice works."""

import subprocess
import time
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.store.dvc_lock import LOCK, read_stages
from data_cards.provenance import read_lock, stale_stages
from lab.plan import read_data

OUTS = "outs:\n    - path: data/x\n      md5: {md5}\n      size: 1\n"
SOUND = "schema: '2.0'\nstages:\n  make:\n    cmd: echo\n    " + OUTS
CONFLICT = f"""schema: '2.0'
stages:
  make:
    cmd: echo
    outs:
    - path: data/x
<<<<<<< HEAD
      md5: {"a" * 32}
=======
      md5: {"b" * 32}
>>>>>>> other
      size: 1
"""
BROKEN = {
    "conflict": CONFLICT,
    "empty": "",
    "text": "hello",
    "list": "- 1",
    "no stages": "schema: '2.0'",
    "null stages": "stages:",
    "number as a stage": "stages: {make: 5}",
    "outs of numbers": "stages: {make: {outs: 5}}",
    "out without a path": "stages: {make: {outs: [{md5: a}]}}",
    "date": "stages: {make: 2024-13-99}",
    "deep": "stages: " + "[" * 3_000,
    "anchors": "a: &a [x, x]\nstages: {make: {outs: [*a, *a]}}",
}


def git(*arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lock_ends_in_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    LOCK.write_text(BROKEN[name])
    began = time.monotonic()
    for read in (read_lock, read_stages, read_data):
        with pytest.raises(InputError, match=r"cannot read dvc\.lock") as raised:
            read()
        assert "git checkout HEAD -- dvc.lock" in str(raised.value)
    assert time.monotonic() - began < 20
    LOCK.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read dvc\.lock"):
        read_lock()


def test_the_advice_for_a_conflict_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    for branch, md5 in (("main", "0"), ("one", "a"), ("two", "b")):
        if branch != "main":
            git("checkout", "-q", "-B", branch, "main")
        LOCK.write_text(SOUND.format(md5=md5 * 32))
        git("add", "-A")
        git("commit", "-q", "-m", branch)
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "one")
    assert "<<<<<<<" in LOCK.read_text()
    with pytest.raises(InputError, match="merge conflict"):
        stale_stages("make")
    with pytest.raises(InputError, match="merge conflict") as raised:
        read_lock()
    advice = raised.value.details["what to do"].partition(" takes")[0].split()
    subprocess.run(advice, check=True)
    assert read_lock().outs == {"make": {"data/x": "b" * 32}}


def test_a_sound_lock_is_read_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_lock().outs == {}
    LOCK.write_text(SOUND.format(md5="c" * 32))
    assert read_lock().outs == {"make": {"data/x": "c" * 32}}
    assert read_data() == {"data/x": "c" * 32}
