"""Review in a browser, as a person does: hostile texts are shown and do nothing.

The keyboard is enough. `make test-full` runs it; without a Chromium on this machine it skips
itself. With COA_SCREENSHOTS=folder it leaves the pictures of docs/images there.
"""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from annotate.layouts import is_chosen_left
from coa.records import protocol
from coa.records.causes import Analysis, Cause
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Outcome, Step, StepKind
from coa.store import tables
from coa.store.reviews import Preference, ReviewKind, ReviewQuestion, read_reviews, write_reviews
from tests.sample_records import make_analysis, make_graded, make_pair

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
RAN = "document.title = 'ran'"
HOSTILE = [
    f"<script>{RAN}</script>",
    f'</script><img src=x onerror="{RAN}"><svg onload="{RAN}">',
    "$& $1 $$ `code` **bold** ~~x~~ {{ 7*7 }} ${7*7} __x__ :smile:",
    "# heading\n\n- list\n\n```\nfence\n```\n\n    code\n\n\n\nafter blank lines",
    f"[link](javascript:{RAN}) <https://x.example> x@example.com www.example.com ![i](x)",
    (
        f"{protocol.THINK_OPEN} a {protocol.open_tag('search')} q "
        f"{protocol.close_tag('search')} {protocol.THINK_CLOSE}"
    ),
    "a < b > c & d &amp; &#60; &lt;b&gt; </div></div></td></table>",
    "\u202eabc\u202c \u200bzero\ufeffwidth\u2066 \u00adsoft",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n<details><summary>s</summary>",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 and back",
    (
        "<style>body{display:none}</style><iframe srcdoc='<script>1</script>'></iframe>"
        "<base href='https://x.example'>"
    ),
]
SHOWN = (
    """() => [...document.querySelectorAll('div[style*="unicode-bidi"]')]"""
    """.map(it => it.textContent)"""
)
STRANGE = (
    """() => document.querySelectorAll('div[style*="unicode-bidi"] *:not(span[title]), """
    """img[src="x"], '
    + 'iframe[srcdoc], [href*="x.example"], [href^="javascript"]').length"""
)
"""Elements that no page of Argilla has, and any in a text but frames around unseen characters."""


def trajectory(number: int, text: str, answer: str = "Ada") -> GradedTrajectory:
    """A trajectory that holds a text wherever one can stand."""
    asked = Question(f"q{number:02}", f"Who? {text}", (f"Ada {text}", "Ada"), "train", "bridge", 2)
    steps = (
        Step(StepKind.THOUGHT, Author.POLICY, f"Look: {text}"),
        Step(
            StepKind.ACTION,
            Author.POLICY,
            f"{protocol.open_tag('search')} {text} {protocol.close_tag('search')}",
        ),
        Step(StepKind.OBSERVATION, Author.ENVIRONMENT, f"result 1: {text}", outcome=Outcome.OK),
        Step(StepKind.ANSWER, Author.POLICY, f"{protocol.THINK_CLOSE} \\boxed{{{answer}}}"),
    )
    return make_graded(asked, steps)


def pair_of(row: GradedTrajectory) -> PreferencePair:
    it = row.trajectory
    guess = (Step(StepKind.ANSWER, Author.POLICY, f"{protocol.THINK_CLOSE} \\boxed{{Bo}}"),)
    return make_pair(it, it.steps[1:], guess, prefix=it.steps[:1])


def write_run(
    root: Path, folder: Path, rows: list[GradedTrajectory], *, prefix: str, server: Any
) -> None:
    """The files that push reads, and settings with a prefix of their own."""
    sections = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    sections["annotate"]["prefix"] = prefix
    sections["annotate"]["serve"]["state"] = str(server.folder / "state")
    (folder / "params.yaml").write_text(yaml.safe_dump(sections))
    tables.write_table(folder / "data/grade.parquet", GradedTrajectory, rows)
    tables.write_table(folder / "data/branch/pairs.parquet", PreferencePair, map(pair_of, rows))
    causes = [None if it.grade.exact_match else Cause.GRADED_WRONG for it in rows]
    analyses = map(make_analysis, rows, causes)
    tables.write_table(folder / "data/analyse.parquet", Analysis, analyses)
    write_reviews([], folder / "data/reviews.parquet")


@pytest.fixture(scope="module")
def page(running_review_server: Any) -> Iterator[Any]:
    """Open a page and sign in as Anna by the keyboard alone.

    A dialog or an error of the page's own is noted.
    """
    from playwright.sync_api import sync_playwright

    server = running_review_server
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.alarms = []
        page.on("dialog", lambda dialog: (page.alarms.append(dialog.message), dialog.dismiss()))
        page.goto(f"{server.url}/sign-in")
        page.wait_for_selector("input[type=password]")
        focus(page, "input:not([type=password])")
        page.keyboard.type("anna")
        page.keyboard.press("Tab")
        page.keyboard.type(server.passwords["anna"])
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "sign-in" not in url)
        yield page
        browser.close()


def focus(page: Any, selector: str) -> None:
    """Go to an element with the Tab key."""
    for _ in range(60):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}")


def open_data_set(page: Any, server: Any, name: str) -> None:
    """From the list of data sets into one of them, with Tab and Enter."""
    page.goto(server.url)
    link = page.locator("a", has_text=name).filter(has_text="review").first
    link.wait_for()
    target = link.get_attribute("href") or link.evaluate("it => it.href")
    focus(page, f'a[href="{target}"]')
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "annotation-mode" in url)
    page.locator('div[style*="unicode-bidi"]').first.wait_for()


def next_item(page: Any) -> None:
    before = page.evaluate(SHOWN)
    page.keyboard.press("ArrowRight")
    deadline = time.monotonic() + 60
    while page.evaluate(SHOWN) == before or not page.evaluate(SHOWN):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("COA_SCREENSHOTS"):
        time.sleep(1)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="module")
def hostile(
    root: Path, running_review_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Items made of hostile texts, pushed."""
    server, folder = running_review_server, tmp_path_factory.mktemp("hostile")
    rows = [trajectory(number, text) for number, text in enumerate(HOSTILE)]
    write_run(root, folder, rows, prefix="hostile", server=server)
    server.do_in(folder, "annotate.push", "num_items=50", "kinds=[trajectory,pair]")
    return server


@pytest.mark.parametrize("kind", ["trajectories", "pairs"])
def test_hostile_texts_are_shown_as_they_are_and_do_nothing(
    page: Any, hostile: Any, kind: str
) -> None:
    open_data_set(page, hostile, f"hostile-{kind}")
    title, seen = page.title(), set()
    for number in range(len(HOSTILE)):
        if number:
            next_item(page)
        seen.update(page.evaluate(SHOWN))
        assert page.evaluate(STRANGE) == 0
        assert page.locator("text=Submit").first.is_visible()  # the page around it is whole
    expected = {
        text for number, it in enumerate(HOSTILE) for text in texts_of(trajectory(number, it))
    }
    assert expected <= seen
    assert "ran" not in page.title()
    assert (page.title(), page.alarms) == (title, [])


def texts_of(row: GradedTrajectory) -> list[str]:
    return [
        row.trajectory.question,
        " • ".join(row.gold_answers),
        *(it.text for it in row.trajectory.steps),
    ]


def test_a_text_of_a_megabyte_is_folded_whole_and_soon_there(
    root: Path, page: Any, running_review_server: Any, tmp_path: Path
) -> None:
    row = trajectory(0, "word & <tag> " * 80_000)
    observation = row.trajectory.steps[2]
    steps = (Step(StepKind.THOUGHT, Author.POLICY, "short"), observation)
    row = replace(
        row, gold_answers=("Ada",), trajectory=replace(row.trajectory, steps=steps, question="Who?")
    )
    write_run(root, tmp_path, [row], prefix="large", server=running_review_server)
    running_review_server.do_in(tmp_path, "annotate.push", "kinds=[trajectory]")
    started = time.monotonic()
    open_data_set(page, running_review_server, "large-trajectories")
    assert time.monotonic() - started < 60
    assert observation.text in page.evaluate(SHOWN)
    assert not page.locator("details[open]").count()


def test_a_whole_review_by_the_keyboard_comes_back_as_it_was_meant(
    root: Path, page: Any, running_review_server: Any, tmp_path: Path
) -> None:
    server = running_review_server
    text = "The mayor of West Fenwick is Clara Fairfax. " * 40
    write_run(root, tmp_path, [trajectory(0, "the mayor", "Clara")], prefix="keys", server=server)
    row = trajectory(0, "of West Fenwick", "Ada the mayor")
    long = replace(row.trajectory.steps[2], text=f"result 1: {text}")
    row = replace(
        row,
        trajectory=replace(
            row.trajectory, steps=(*row.trajectory.steps[:2], long, row.trajectory.steps[3])
        ),
    )
    write_run(root, tmp_path, [row], prefix="keys", server=server)
    server.do_in(tmp_path, "annotate.push")

    open_data_set(page, server, "keys-trajectories")
    picture(page, "review_trajectory")
    focus(page, "#verdict_keep")
    page.keyboard.press("3")  # drop; the next question has its turn
    page.keyboard.press("3")  # the answer is not right
    page.keyboard.press("6")  # graded wrong
    submit(page)

    open_data_set(page, server, "keys-disputes")
    picture(page, "review_dispute")
    focus(page, "#same_answer_yes")
    page.keyboard.press("2")  # no
    submit(page)

    open_data_set(page, server, "keys-pairs")
    picture(page, "review_pair")
    focus(page, "#preference_A")
    page.keyboard.press("2")  # B
    page.keyboard.press("4")  # quite clear
    submit(page)

    server.do_in(tmp_path, "annotate.pull")
    found = {it.kind: it for it in read_reviews(tmp_path / "data/reviews.parquet")}
    said = {
        kind: {it.question: it.values for it in review.answers} for kind, review in found.items()
    }
    assert said[ReviewKind.TRAJECTORY] == {
        ReviewQuestion.VERDICT: ("drop",),
        ReviewQuestion.ANSWER_RIGHT: ("no",),
        ReviewQuestion.CAUSES: ("graded_wrong",),
    }
    assert said[ReviewKind.DISPUTE] == {ReviewQuestion.SAME_ANSWER: ("no",)}
    right = (
        Preference.REJECTED if is_chosen_left(found[ReviewKind.PAIR].item_id) else Preference.CHOSEN
    )
    assert said[ReviewKind.PAIR] == {
        ReviewQuestion.PREFERENCE: (right,),
        ReviewQuestion.CLARITY: ("4",),
    }


def submit(page: Any) -> None:
    """Enter, and wait until the page has sent it."""
    with page.expect_response(
        lambda response: "/responses" in response.url and response.request.method == "POST"
    ):
        page.keyboard.press("Enter")
