"""Publish the sets with their cards on the Hugging Face Hub, behind a gate.

    coa publish repository=me/coa dry_run=true
    coa publish repository=me/coa allow=scripted_teacher

Copies the files to a private folder, checks the copy and uploads that copy with one commit and one
tag. Refuses with all reasons at once (data_cards/publishing/gate.py); `allow` waives reasons by
name. Publishing the same files again changes nothing. Appends to publications.jsonl which revision
of the Hub, code, dvc.lock and DVC remote belong together.

`lineage.json` is the version's own record: the code commit, the hash of dvc.lock, the hash of every
file of the run, and what was waived. It holds no date and no address, so the same version always
gives the same bytes.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub.utils.tqdm import disable_progress_bars

from coa.errors import ConfigError, OutputError, ServiceError, writing_error
from coa.records.sets import AssembleParams
from coa.records.trajectory import SCHEMA_VERSION
from coa.settings.params import Params
from coa.store.files import ASSEMBLED, RENDERED
from coa.store.output_folder import remove_leftovers, working_folder
from data_cards import provenance
from data_cards.cards.card import render
from data_cards.cards.card_files import stale_files
from data_cards.cards.safe_markdown import Markdown, table
from data_cards.catalogue import (
    HAS_TRAJECTORIES,
    SetName,
    built_sets,
    published_path,
    published_splits,
    sets_in,
)
from data_cards.formats.published_rows import (
    published_file,
    student_prompt,
    write_published,
)
from data_cards.formats.traces import trace_files
from data_cards.publishing.checked_copy import (
    FOLDER,
    Content,
    Hashes,
    copy_sets,
    hashes_of,
    require_unchanged,
)
from data_cards.publishing.gate import (
    MUST_HOLD,
    Reason,
    Refusal,
    check_sets,
    enforce,
    how_to_waive,
    read_allowed,
)
from data_cards.publishing.hub import Change, HubRepository, Remote, changes
from data_cards.settings import PublishParams, RenderParams, check, shown_settings

LINEAGE = "lineage.json"
_MAX_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Version:
    """What is to be published, and what stands against it."""

    summary: str
    """One line for the commit."""
    files: dict[str, Content]
    """By their path in the repository."""
    hashes: dict[str, Hashes]
    """Those of the files, taken before they were checked."""
    refusals: list[Refusal]


def prepare_sets(params: Params, publish: PublishParams, private: Path) -> Version:
    """Copy the sets to a private folder, write from the copy what is published, and check both."""
    section = params.section(RenderParams, "render")
    names = built_sets(params.section(AssembleParams, "assemble"))
    copies = copy_sets(names, private)
    copied_sets = private / ASSEMBLED
    copied_sets.mkdir(parents=True, exist_ok=True)  # where no set was built
    published = private / "published"
    with sets_in(copied_sets):
        written = write_published(names, published, student_prompt(params))
        hashes = {path: hashes_of(path) for path in written}
        rendered = render(params, section)
        cards = rendered.files()
        refusals = check_sets(
            cards=rendered.sets,
            stale_cards=stale_files(RENDERED, cards),
            settings=shown_settings(params),
            params=publish,
            known_licences=section.licenses,
            published=published,
        )
        if publish.repository != section.repository:
            renamed = render(params, replace(section, repository=publish.repository))
            cards |= renamed.texts()  # The pictures stay those that were compared.
        files = {**cards, **set_files(names, publish.num_traces, published)}
    require_unchanged(copies)
    num_rows = sum(card.info.num_rows for card in rendered.sets)
    hashes_by_name = {}
    for name, content in files.items():
        known = hashes.get(content) if isinstance(content, Path) else None
        hashes_by_name[name] = known or hashes_of(content)
    return Version(f"{num_rows:,} rows", files, hashes_by_name, refusals)


def set_files(names: Sequence[SetName], num_traces: int, published: Path) -> dict[str, Content]:
    """Return the published files of the sets and some of their trajectories as session traces."""
    files: dict[str, Content] = {}
    for name in names:
        for split in published_splits(name):
            files[published_path(name, split)] = published_file(name, split, published)
        if name in HAS_TRAJECTORIES:
            files |= trace_files(name, num_traces)
    return files


def add_record(version: Version, waived: Sequence[Reason]) -> None:
    """Add lineage.json to a version, and what it says to the end of the card."""
    code = provenance.code_state()
    tool = f", with the toolkit `{code.tool}`" if code.tool else ""
    lock = provenance.read_lock()
    lineage = {
        "schema_version": SCHEMA_VERSION,
        "code_commit": code.commit,
        "tool": code.tool,
        "dvc_lock_sha256": lock.sha256,
        "outs_md5": lock.outs,
        "checked": list(Reason),
        "waived": list(waived),
    }
    rows = []
    for reason in Reason:
        holds = "**waived**" if reason in waived else "yes"
        rows.append((Markdown(f"`{reason}`"), Markdown(MUST_HOLD[reason]), Markdown(holds)))
    checks = table(("check", "what must hold", "holds"), rows)
    verdict = "Nothing was waived."
    if waived:
        names = ", ".join(f"`{reason}`" for reason in waived)
        verdict = f"**Published although these apply, waived by name: {names}.**"
    section = (
        "\n## This version\n\n"
        f"Code: commit `{code.commit or 'none'}`{tool}. "
        f"The SHA-256 of its `dvc.lock` is `{lock.sha256 or 'none'}`; "
        f"[{LINEAGE}]({LINEAGE}) has the hash of every file of the run.\n\n"
        f"Checked before publishing. {verdict}\n\n{checks}\n"
    )
    card = version.files["README.md"]
    assert isinstance(card, bytes)
    written = {
        "README.md": card + section.encode(),
        LINEAGE: (json.dumps(lineage, indent=2) + "\n").encode(),
    }
    for name, content in written.items():
        version.files[name] = content
        version.hashes[name] = hashes_of(content)


def next_tag(wanted: str, tags: Sequence[str]) -> str:
    """Name the next version: `wanted`, or one more than the last v-number."""
    if wanted:
        return wanted
    last = 0
    for tag in tags:
        if tag[:1] == "v" and tag[1:].isdecimal():
            last = max(last, int(tag[1:]))
    return f"v{last + 1}"


def upload(hub: HubRepository, version: Version, params: PublishParams) -> tuple[str, str, int]:
    """Bring the Hub to this version, and return tag, revision and how many files changed.

    Raises:
        OutputError: the name is taken by something else, or the version's name by other files.
        ServiceError: the Hub cannot be reached or refuses.
    """
    remote = hub.look()
    if remote is None:
        hub.create(private=params.private)
        remote = hub.look() or Remote()
    changed = plan(hub, version.hashes, remote)
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
        title = f"{tag}: {version.summary}"
        revision = hub.commit(changed, version.files, parent=remote.head, title=title)
        check_arrived(hub, version.hashes, revision)
    hub.tag(tag, revision)
    return tag, revision, len(changed)


def check_arrived(hub: HubRepository, hashes: Mapping[str, Hashes], revision: str) -> None:
    """Compare the hashes of the Hub's files with those that were taken before the checks.

    Raises:
        OutputError: a file differs; the commit gets no tag.
        ServiceError: the Hub cannot be reached.
    """
    remote = hub.look(revision) or Remote()
    differing = [change.path for change in changes(hashes, remote.files)]
    if differing:
        raise OutputError(
            "the Hub has other files than those that were checked",
            where=f"{hub.url}, commit {revision}",
            expected="the hashes that were taken before the checks",
            got=provenance.shown(differing),
            fix="the commit has no tag; publish again, which replaces these files, or delete it",
        )


def plan(hub: HubRepository, hashes: Mapping[str, Hashes], remote: Remote) -> list[Change]:
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
    return changes(hashes, remote.files)


def record(repository: str, tag: str, revision: str, waived: Sequence[Reason]) -> bool:
    """Note which revisions belong together, once; return whether that is new.

    Raises:
        OutputError: the file cannot be written.
    """
    code = provenance.code_state()
    line = json.dumps(
        {
            "repository": repository,
            "kind": "dataset",
            "tag": tag,
            "hub_revision": revision,
            "code_commit": code.commit,
            "tool": code.tool,
            "dvc_lock_sha256": provenance.read_lock().sha256,
            "dvc_remote": provenance.dvc_remote(),
            "waived": list(waived),
        }
    )
    path = provenance.RECORDS
    try:
        if path.exists() and line in path.read_text(encoding="utf-8").splitlines():
            return False
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise writing_error(path, error) from error
    return True


def show_plan(
    hub: HubRepository, version: Version, against: Sequence[Refusal], params: PublishParams
) -> str:
    """Show what would be refused and what would change, for a dry run.

    Where the Hub is not reached, the reasons against the version are all that is shown.
    """
    refused = [f"would be refused: {refusal.reason}: {refusal.detail}" for refusal in against]
    if against:
        refused.append(f"what to do: {how_to_waive(against, read_allowed(params.allow))}")
    try:
        owners = hub.writable_owners()
        remote = hub.look()
    except ServiceError as error:
        verdict = f"dry run: {len(against):,} reasons against publishing, nothing was sent"
        unknown = f"{hub.url}: not compared, for {error.what}"
        return "\n".join([*refused, unknown, verdict])
    changed = plan(hub, version.hashes, remote or Remote())
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
    lines += refused
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
    where = "publish.repository" if section.repository else "render.repository"
    section = replace(section, repository=section.repository or render.repository)
    check(replace(render, repository=section.repository), where)
    if not section.repository:
        raise ConfigError(
            "there is no repository to publish to",
            where="publish.repository",
            expected="owner/name",
            fix="write repository=OWNER/NAME, or set render.repository in your profile",
        )
    allowed = read_allowed(section.allow)
    remove_leftovers(FOLDER)
    with working_folder(FOLDER) as private:
        version = prepare_sets(params, section, private)
        hub = HubRepository(section.repository)
        if not sys.stderr.isatty():
            disable_progress_bars()
        waived = sorted({refusal.reason for refusal in version.refusals} & allowed)
        add_record(version, waived)
        if section.dry_run:
            against = [refusal for refusal in version.refusals if refusal.reason not in allowed]
            return show_plan(hub, version, against, section)
        enforce(version.refusals, allowed)
        tag, revision, num_changed = upload(hub, version, section)
    is_new = record(section.repository, tag, revision, waived)
    to_commit = f"; {provenance.RECORDS} has a new line: commit it" if is_new else ""
    what = f"{num_changed:,} files changed" if num_changed else "nothing has changed"
    return f"{hub.url} {tag} ({revision[:10]}): {what}{to_commit}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
