"""Of the microworld one can tell what a model knows, of the real world nobody can."""

from pathlib import Path

import msgspec
from omegaconf import OmegaConf

from coa.microworld.factory import MicroworldParams
from coa.microworld.phrases import need
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, GroupSize, WorldSettings, make_world
from coa.policy.teacher.sentences import search
from coa.records import protocol
from coa.records.question import Question
from coa.settings.params import Params
from coa.student.knowledge import NOBODY_CAN_TELL, KnowledgeProbe, open_probe

SMALL = GroupSize(12, 12, 6, 6)
SETTINGS = WorldSettings(known=SMALL, train=SMALL, validation=SMALL, test=SMALL)
WORLD = make_world(SETTINGS)
REAL = Question("nq/1", "Who wrote Middlemarch?", ("George Eliot",), "test", source="nq")


def params(folder: Path, **sections: object) -> Params:
    path = folder / "params.yaml"
    OmegaConf.save(OmegaConf.create(msgspec.to_builtins(sections)), path)
    return Params.load("train", path=path)


def test_of_the_real_world_nobody_can_tell_what_is_known() -> None:
    steps = protocol.parse_policy(f"{need('author', 'Middlemarch')} {search('Middlemarch')}")
    assert NOBODY_CAN_TELL.needs_no_search(REAL) is None
    assert not list(NOBODY_CAN_TELL.decisions(steps))
    assert NOBODY_CAN_TELL.last_needed(steps) is None


def test_one_question_of_the_invented_world_opens_it(tmp_path: Path) -> None:
    invented = make_questions(WORLD, Group.VALIDATION, 1, seed=0)
    given = params(tmp_path, microworld=MicroworldParams(world=SETTINGS))
    found = open_probe([REAL, *invented], given)
    assert found.needs_no_search(invented[0]) is not None
    assert found.needs_no_search(REAL) is None


def test_beside_the_invented_world_rollouts_about_the_real_one_show_no_decision() -> None:
    probe = KnowledgeProbe(WORLD)
    steps = protocol.parse_policy(f"{need('author', 'Middlemarch')} {search('Middlemarch')}")
    assert not list(probe.decisions(steps))
    assert probe.last_needed(steps) is None
