"""Publish the sets, or a trained model, with their card on the Hugging Face Hub, behind a gate.

    python -m data_cards.publish repository=me/coa dry_run=true
    python -m data_cards.publish repository=me/coa allow=scripted_teacher
    python -m data_cards.publish repository=me/coa-sft2 model=data/train/sft2

Copies the files to a private folder, checks the copy and uploads that copy with one commit and one
tag. Refuses with all reasons at once (data_cards/publishing/gate.py); `allow` waives reasons by
name. Publishing the same files again changes nothing. Appends to publications.jsonl which revision
of the Hub, code, dvc.lock and DVC remote belong together.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub.utils.tqdm import disable_progress_bars

from coa.errors import ConfigError, OutputError, writing_error
from coa.output_folder import remove_leftovers, working_folder
from coa.params import Params
from data_cards.cards.safe_markdown import visible
from data_cards.publishing.checked_copy import FOLDER
from data_cards.publishing.gate import Reason, Refusal, enforce, how_to_waive, read_allowed
from data_cards.publishing.hub import HubRepository, Remote
from data_cards.publishing.preparing import prepare_model, prepare_sets
from data_cards.publishing.publication import (
    LINEAGE,
    Change,
    Publication,
    changes,
    hashes_of,
    lineage_record,
    version_section,
)
from data_cards.settings import PublishParams, RenderParams, check
from data_cards.tracing import provenance

_MAX_SHOWN = 40


def with_record(
    publication: Publication, checked: Sequence[Reason], waived: Sequence[Reason]
) -> Publication:
    """Add the record of this version to a publication and to its card."""
    record = lineage_record(checked, waived)
    card = publication.files["README.md"]
    assert isinstance(card, bytes)
    files = dict(publication.files)
    files["README.md"] = card + version_section(record).encode()
    files[LINEAGE] = record
    hashes = dict(publication.hashes)
    for name in ("README.md", LINEAGE):
        hashes[name] = hashes_of(files[name])
    return publication._replace(files=files, hashes=hashes)


def next_tag(wanted: str, tags: Sequence[str]) -> str:
    """Name the next version: `wanted`, or one more than the last v-number."""
    if wanted:
        return wanted
    last = 0
    for tag in tags:
        if tag[:1] == "v" and tag[1:].isdecimal():
            last = max(last, int(tag[1:]))
    return f"v{last + 1}"


def upload(
    hub: HubRepository, publication: Publication, params: PublishParams
) -> tuple[str, str, int]:
    """Bring the Hub to this version, and return tag, revision and how many files changed.

    Raises:
        OutputError: the name is taken by something else, or the version's name by other files.
        ServiceError: the Hub cannot be reached or refuses.
    """
    remote = hub.look()
    if remote is None:
        hub.create(private=params.private)
        remote = hub.look() or Remote("", {}, {})
    changed = plan(hub, publication, remote)
    named = [tag for tag, revision in remote.tags.items() if revision == remote.head]
    if not changed and named and params.tag in ("", *named):
        return params.tag or named[-1], remote.head, 0
    tag = next_tag(params.tag, list(remote.tags))
    if tag in remote.tags:
        raise OutputError(
            f"the version {tag} is there already, with other files",
            where=hub.url,
            expected="a version of its own",
            fix="leave publish.tag empty, or give a new name: a tagged version never changes",
        )
    revision = remote.head
    if changed:
        title = f"{tag}: {publication.summary}"
        revision = hub.commit(changed, publication.files, parent=remote.head, title=title)
        check_arrived(hub, publication, revision)
    hub.tag(tag, revision)
    return tag, revision, len(changed)


def check_arrived(hub: HubRepository, publication: Publication, revision: str) -> None:
    """Compare the hashes of the Hub's files with those that were taken before the checks.

    Raises:
        OutputError: a file differs; the commit gets no tag.
        ServiceError: the Hub cannot be reached.
    """
    remote = hub.look(revision) or Remote("", {}, {})
    differing = [change.path for change in changes(publication.hashes, remote.files)]
    if differing:
        raise OutputError(
            "the Hub has other files than those that were checked",
            where=f"{hub.url}, commit {revision}",
            expected="the hashes that were taken before the checks",
            got=provenance.shown(differing),
            fix="the commit has no tag; publish again, which replaces these files, or delete it",
        )


def plan(hub: HubRepository, publication: Publication, remote: Remote) -> list[Change]:
    """List what publishing would change.

    Raises:
        OutputError: the repository holds files, but none that says that this command made it.
    """
    others = remote.files.keys() - {".gitattributes", "README.md"}
    if others and LINEAGE not in remote.files:
        raise OutputError(
            "the name is taken: the repository was not made by this command",
            where=hub.url,
            expected=f"an empty repository, or one with {LINEAGE}",
            got=", ".join(sorted(remote.files)[:5]),
            fix="publish under another name",
        )
    return changes(publication.hashes, remote.files)


def record(repository: str, kind: str, tag: str, revision: str, waived: Sequence[Reason]) -> bool:
    """Note which revisions belong together, once; return whether that is new.

    Raises:
        OutputError: the file cannot be written.
    """
    lock = provenance.read_lock() if provenance.LOCK.exists() else provenance.NO_LOCK
    line = {
        "repository": repository,
        "kind": kind,
        "tag": tag,
        "hub_revision": revision,
        "code_commit": provenance.code_state().commit,
        "dvc_lock_sha256": lock.sha256,
        "dvc_remote": provenance.dvc_remote(),
        "waived": list(waived),
    }
    try:
        known = []
        if provenance.RECORDS.exists():
            known = provenance.RECORDS.read_text(encoding="utf-8").splitlines()
        is_new = json.dumps(line) not in known
        if is_new:
            with provenance.RECORDS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise writing_error(provenance.RECORDS, error) from error
    return is_new


def show_plan(
    hub: HubRepository,
    publication: Publication,
    against: Sequence[Refusal],
    params: PublishParams,
) -> str:
    """Show what would be refused and what would change, for a dry run.

    Raises:
        OutputError: the name is taken by something else.
        ServiceError: the Hub cannot be reached or refuses.
    """
    owners = hub.writable_owners()
    remote = hub.look()
    changed = plan(hub, publication, remote or Remote("", {}, {}))
    state = "as it is"
    if not remote and owners is None:
        state = "not public; whether it is there was not looked up, for there is no token"
    elif not remote:
        state = f"a new {'private' if params.private else 'public'} repository"
    lines = [f"{hub.url}: {state}"]
    if owners is not None and params.repository.partition("/")[0] not in owners:
        lines.append(
            f"would be refused: no right to write to {params.repository}: "
            f"the token is for {', '.join(f'{owner}/...' for owner in owners)}"
        )
    lines += [f"would be refused: {refusal.reason}: {refusal.detail}" for refusal in against]
    if against:
        lines.append(f"what to do: {how_to_waive(against, read_allowed(params.allow))}")
    lines += [str(change) for change in changed[:_MAX_SHOWN]]
    if len(changed) > _MAX_SHOWN:
        lines.append(f"... {len(changed) - _MAX_SHOWN:,} more files")
    lines.append(f"dry run: {len(changed):,} files would change, nothing was sent")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> str:
    """Publish and return the summary line."""
    params = Params.load("publish", arguments)
    section = params.section(PublishParams)
    render = params.section(RenderParams, "render")
    section = replace(section, repository=section.repository or render.repository)
    check(replace(render, repository=section.repository))
    if not section.repository:
        raise ConfigError(
            "there is no repository to publish to",
            where="publish.repository",
            expected="owner/name",
        )
    remove_leftovers(FOLDER)
    with working_folder(FOLDER) as private:
        return publish(params, section, private)


def publish(params: Params, section: PublishParams, private: Path) -> str:
    """Check a copy of the files, upload that copy and return the summary.

    Raises:
        OutputError: the gate refuses, or the copy cannot be written.
        ServiceError: the Hub cannot be reached or refuses.
    """
    allowed = read_allowed(section.allow)
    prepare = prepare_model if section.model else prepare_sets
    prepared = prepare(params, section, private)
    hub = HubRepository(prepared.publication.kind, section.repository)
    if not sys.stderr.isatty():
        disable_progress_bars()
    reasons = {refusal.reason for refusal in prepared.refusals}
    waived = tuple(sorted(reasons & allowed))
    publication = with_record(prepared.publication, prepared.checked, waived)
    left_out = ""
    if prepared.left_out:
        left_out = visible(f"; not published: {', '.join(prepared.left_out)}")
    if section.dry_run:
        against = [refusal for refusal in prepared.refusals if refusal.reason not in allowed]
        return show_plan(hub, publication, against, section) + left_out
    enforce(prepared.refusals, allowed)
    tag, revision, num_changed = upload(hub, publication, section)
    is_new = record(section.repository, publication.kind, tag, revision, waived)
    to_commit = f"; {provenance.RECORDS} has a new line: commit it" if is_new else ""
    what = f"{num_changed:,} files changed" if num_changed else "nothing has changed"
    return f"{hub.url} {tag} ({revision[:10]}): {what}{left_out}{to_commit}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
