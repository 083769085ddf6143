"""Find why an answer is wrong where no gold titles say what had to be found on the way.

What is known is the accepted answer, what was shown, and what was asked for. The rules apply in
order. They look at the answer; of the way to it they see guesses alone: a fact that was misread, or
recalled with confidence, looks like a right one.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence

from coa.records.causes import Cause, Finding
from coa.records.trajectory import Mode, StepKind
from curate.diagnosis.case import (
    NAMELESS,
    Case,
    Place,
    answer_as_claim,
    causes_unsearched,
    claim_of_answer,
    finding_on,
    memory_cause,
    queries_in,
    quote,
    states,
    was_shown,
    whole_place,
)
from curate.diagnosis.claims import (
    Basis,
    Claim,
    Utterance,
    gives_up,
    holds_any,
    is_in,
    names_and_numbers,
    padded,
    says_not_found,
    texts_of,
)
from curate.diagnosis.gold import GoldFact
from curate.diagnosis.queries import NAMED_SHARE, content_words, repeated_in_vain, stems
from curate.diagnosis.same_names import with_digits

_NO_TITLES = "the question has no gold titles"
_HALF = 1 / 2
_MIN_THINGS = 2
"""A question about both of two things names so many."""
_MIN_DESCRIBING = 2
"""A query about something without a name shares so many content words with the question."""
_SEVERAL = 2
"""So many queries are searching, and no mere check of an answer that was given."""
_BOTH = frozenset({"both", "all", "each"})
_INFERS = re.compile(r"\b(?:so|thus|therefore|hence|since|because|suggests?|indicates?)\b", re.I)
"""A guess with such a word follows from what was read; it is not about something else."""
_DENIES = re.compile(r"\b(?:not|no|neither|nor|whether|if)\b|n't\b", re.IGNORECASE)


def diagnose_without_titles(case: Case) -> list[Finding]:
    """Apply the rules in order, and return what the first that applies has found."""
    for rule in _RULES:
        findings = rule(case)
        if findings:
            return findings
    return [Finding(Cause.UNKNOWN, evidence=_NO_TITLES)]


def _ignored(case: Case) -> list[Finding]:
    """Find an accepted answer that was shown, and not taken.

    A policy that never mentions it must have been shown it in a passage about what was asked. One
    that mentions it has read it, whatever the passage is about.
    """
    answer = _accepted(case)
    if answer is None:
        return []
    naming = [i for i, said in enumerate(case.said) if holds_any(said.norm, answer.items)]
    if any(case.said[i].kind is StepKind.THOUGHT for i in naming):
        shown_at = [i for i in naming if case.said[i].kind is StepKind.OBSERVATION]
        at = min(shown_at, default=None)
    else:
        at = _first_shown(case, answer)
    if at is None:
        return []
    shown = case.steps[case.said[at].step].passages or (NAMELESS,)
    place = _place_of_answer(case, answer, at + 1)
    return [finding_on(Cause.EVIDENCE_IGNORED, place, shown, needs_titles=False)]


def _dropped_at_last(case: Case) -> list[Finding]:
    """Find an accepted answer that the last thought states, where another one was given.

    The answer given is neither in that thought nor in anything that was shown: `yes` to an open
    question, or the name of a command.
    """
    answer = _accepted(case)
    thoughts = [said for said in case.said if said.kind is StepKind.THOUGHT]
    if answer is None or not thoughts:
        return []
    last = [said for said in thoughts if said.step == thoughts[-1].step]
    named = [said for said in last if holds_any(said.norm, answer.items)]
    is_given = any(is_in(case.prediction, said.norm) for said in last)
    if not named or is_given or _DENIES.search(named[-1].text) or was_shown(case, len(case.said)):
        return []
    evidence = f"{quote(named[-1].text)}, yet it answered {quote(case.prediction)}"
    return [Finding(Cause.REASONING_SLIP, len(case.steps) - 1, evidence)]


def _unsearched(case: Case) -> list[Finding]:
    """Find an answer for which nothing was searched.

    In CoT, where nothing can be searched, the cause is how the facts were stated, and that is known
    only where all were stated alike.
    """
    if queries_in(case.said):
        return []
    bases = {claim.basis for _, claim in case.claims}
    if case.mode is Mode.COT and (len(bases) != 1 or Basis.READ in bases):
        return []
    claim = case.claims[0][1] if case.claims else answer_as_claim(case)
    return _without_search(case, claim)


def _guessed_on_the_way(case: Case) -> list[Finding]:
    """Find a guess that the policy then used, as if it had been found.

    What it guessed was neither asked about nor shown before. In an open question of CoA a later
    query names it; elsewhere nothing tells whether a guess is used, and the first one counts.
    """
    must_be_searched = case.mode is Mode.COA and _accepted(case) is not None
    since = 0
    for i, claim in case.claims:
        if claim.basis is Basis.READ:
            since = i
        if claim.basis is not Basis.GUESSED:
            continue
        known = [_asked(case), *(said.norm for said in case.observations(i))]
        new = [value for value in claim.values if not any(is_in(value, text) for text in known)]
        queries = [padded(query.text) for query in queries_in(case.said[i:])]
        is_searched = any(holds_any(query, new) for query in queries)
        if new and (is_searched or not must_be_searched):
            before = case.said[since:i]
            if queries_in(before) or not queries_in(case.said[i:]):
                return _judge_searches(case, before, claim)
            return _judge_searches_for_guess(case, new, claim)
    return []


def _recalled(case: Case) -> list[Finding]:
    """Find an answer that the policy named before its first search.

    An answer that the question names says nothing: it is in every first thought. Where a later
    query asks what was asked, and not for the answer alone, later rules judge what came of it.
    """
    if _accepted(case) is None or not queries_in(case.said) or is_in(case.prediction, _asked(case)):
        return []
    named = case.first_mention((case.prediction,))
    if named is None or queries_in(case.said[:named]):
        return []
    _, claim = claim_of_answer(case, 0)
    return _judge_searches_for_guess(case, (case.prediction,), claim)


def _followed(case: Case) -> list[Finding]:
    """Find an answer that was taken from a passage that was shown.

    No such passage states the accepted answer, else an earlier rule would have found it.
    """
    answer = _accepted(case)
    if answer is None or gives_up(case.prediction):
        return []
    names_the_asked = is_in(case.prediction, _asked(case))
    if names_the_asked and not holds_any(_asked(case), answer.items):
        return []  # a word of the question is in every passage
    for i, said in enumerate(case.said):
        if said.kind is StepKind.OBSERVATION and _shows(said, case):
            place = _place_of_answer(case, answer, i + 1)
            names = case.steps[said.step].passages
            return [finding_on(Cause.DISTRACTOR_FOLLOWED, place, names, needs_titles=False)]
    return []


def _concluded_wrongly(case: Case) -> list[Finding]:
    """Find a “no” although a thought says of each thing named what the question asks of both."""
    if _accepted(case) or not case.prediction.startswith("no"):
        return []
    things = _things_named(case.question)
    if len(things) < _MIN_THINGS:
        return []
    names = content_words(" ".join(things))
    asked = content_words(case.question) - names - _BOTH
    said_of_all = asked and all(_is_affirmed(case, thing, asked) for thing in things)
    if not said_of_all:
        return []
    last = len(case.steps) - 1
    return [Finding(Cause.REASONING_SLIP, last, f"both are so, yet “{case.prediction}”")]


def _not_found(case: Case) -> list[Finding]:
    """Judge the searches behind an answer that no passage showed.

    Where the answer is closed, the last step must say that something was not found.
    """
    thoughts = [said for said in case.said if said.kind is StepKind.THOUGHT]
    last = [said for said in thoughts if said.step == thoughts[-1].step]
    if not (_accepted(case) or any(says_not_found(said.text) for said in last)):
        return []
    end, claim = claim_of_answer(case, 0)
    read = [i for i, other in case.claims if i < end and other.basis is Basis.READ]
    is_guess = claim.basis is Basis.GUESSED and not _INFERS.search(claim.sentence)
    if read and is_guess:
        return _judge_searches(case, case.said[read[-1] : end], claim)
    return _judge_searches(case, case.said, claim)


def _accepted(case: Case) -> GoldFact | None:
    """Choose the accepted answer as the fact to be found; None where the answer is closed."""
    return case.gold.facts[-1] if case.gold.facts else None


def _asked(case: Case) -> str:
    """Normalise the question, so that whole words can be searched."""
    return padded(case.question)


def _place_of_answer(case: Case, fact: GoldFact, start: int) -> Place:
    """Find the claim that states the answer given, in the place of the accepted one.

    Nothing that was said before the index `start`, where a passage was shown, can be blamed on it.
    """
    end, claim = claim_of_answer(case, start)
    return Place(start=start, end=end, claim=claim, fact=fact)


def _first_shown(case: Case, fact: GoldFact) -> int | None:
    """Find the index of the first observation that states a fact."""
    place = whole_place(case, fact)
    if not case.shown(place):
        return None
    # The more was shown, the more is stated: the first end will do from which on it is.
    ends = range(1, len(case.said) + 1)
    return bisect_left(ends, True, key=lambda end: bool(case.shown(place._replace(end=end))))


def _without_search(case: Case, claim: Claim) -> list[Finding]:
    """Blame a claim for which nothing was searched."""
    evidence = quote(claim.sentence)
    return [Finding(cause, claim.step, evidence) for cause in causes_unsearched(case.mode, claim)]


def _judge_searches_for_guess(case: Case, values: Sequence[str], claim: Claim) -> list[Finding]:
    """Judge searches that were made only after a guess or a recollection.

    A query that asks for what was guessed looks for nothing else. Where all do, nothing was
    searched for a guess on the way, and badly for the answer; a single query only confirms it.
    Where one asks what the question asks, later rules decide.
    """
    queries = queries_in(case.said)
    thoughts = texts_of(case.said, StepKind.THOUGHT)
    topic = content_words(" ".join([case.question, *thoughts]))
    for query in queries:
        if holds_any(padded(query.text), values):
            continue
        # It asks what was asked by a name, or by words of the question.
        shared = content_words(query.text) & content_words(case.question)
        if len(shared) >= _MIN_DESCRIBING or _names_and_asks(query.text, case, topic):
            return []
    if case.prediction not in values or len(queries) < _SEVERAL:
        return _without_search(case, claim)
    memory = Finding(memory_cause(claim), claim.step, quote(claim.sentence))
    return [Finding(Cause.BAD_QUERY, queries[0].step, quote(queries[0].text)), memory]


def _judge_searches(case: Case, between: Sequence[Utterance], claim: Claim) -> list[Finding]:
    """Judge what was searched before a claim that no passage states, and how it was stated."""
    queries = queries_in(between)
    if not queries:
        return _without_search(case, claim)
    memory = Finding(memory_cause(claim), claim.step, quote(claim.sentence))
    thoughts = texts_of(between, StepKind.THOUGHT)
    topic = content_words(" ".join([case.question, *thoughts]))
    again = repeated_in_vain(queries)
    if again is not None:
        return [Finding(Cause.BAD_QUERY, again.step, f"again: {quote(again.text)}"), memory]
    for query in queries:
        if _names_and_asks(query.text, case, topic):
            return [Finding(Cause.RETRIEVAL_MISS, query.step, quote(query.text)), memory]
    last = queries[-1]
    return [Finding(Cause.BAD_QUERY, last.step, quote(last.text)), memory]


def _names_and_asks(query: str, case: Case, topic: frozenset[str]) -> bool:
    """Tell whether a query has words of a name, and others that ask something of the topic.

    The name is in the question or in a claim. Where there is none, words that describe the thing
    will do. A word that the topic lacks is a paraphrase, unless other questions ask by it.
    """
    words = content_words(query)
    names = _things_named(case.question)
    for _, claim in case.claims:
        names += claim.values
    if not names:
        return len(words & topic) >= _MIN_DESCRIBING
    for name in names:
        own = content_words(name)
        asked = words - own
        if not own or len(words & own) < NAMED_SHARE * len(own) or not asked:
            continue
        if not asked.isdisjoint(topic) or asked.isdisjoint(case.asking):
            return True
    return False


def _things_named(question: str) -> list[str]:
    """List the names in a question, those joined by “and” each by itself."""
    things: list[str] = []
    for name in names_and_numbers(question):
        things += [part for part in name.split(" and ") if content_words(part)]
    return things


def _shows(said: Utterance, case: Case) -> bool:
    """Tell whether an observation holds the answer given, or half of the words that it adds.

    Numbers may be in words, and words in another form.
    """
    shown = with_digits(said.norm)
    answer = with_digits(case.prediction)
    if is_in(answer, shown) or states(said, case.prediction, case.question):
        return True
    added = stems(content_words(answer) - content_words(case.question))
    return bool(added) and len(added & stems(content_words(shown))) >= _HALF * len(added)


def _is_affirmed(case: Case, thing: str, asked: frozenset[str]) -> bool:
    """Tell whether a thought that denies nothing says what was asked of a thing that it names."""
    for said in case.said:
        if said.kind is not StepKind.THOUGHT or _DENIES.search(said.text):
            continue
        own = stems(content_words(said.norm))
        if is_in(thing, said.norm) and stems(asked) <= own:
            return True
    return False


_RULES: tuple[Callable[[Case], list[Finding]], ...] = (
    _dropped_at_last,
    _ignored,
    _unsearched,
    _guessed_on_the_way,
    _recalled,
    _followed,
    _concluded_wrongly,
    _not_found,
)
