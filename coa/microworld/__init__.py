"""A small invented world, real in all but its facts, on which the whole pipeline runs without a GPU or a network.

names.py        the words that names are made of, and the plain values
relations.py    what can be said about an entity, and how a passage says it
world.py        settings and a seed -> entities, facts and passages
plans.py        a path through the facts -> a question's words, and back
paths.py        world -> all the paths that a question can ask for
questions.py    world -> questions of one to four hops, comparisons, yes or no
phrases.py      the sentences that a trajectory is written in, written and read back
progress.py     a rollout's text -> how far it has come with its plan
decisions.py    how good the teacher is, and what it decided
teacher.py      a scripted, imperfect policy that writes such trajectories
pretraining.py  world -> the texts from which a student learns the known facts and how to read
vocabulary.py   every word of all that
"""

from dataclasses import dataclass, field

from coa.microworld.decisions import TeacherSettings
from coa.microworld.world import WorldSettings
from coa.policy.scripted import ScriptedPolicy


@dataclass(frozen=True, slots=True)
class MicroworldParams:
    """The world, its questions and its teacher."""

    world: WorldSettings = field(default_factory=WorldSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    seed: int = 0
    """Which of the possible questions are asked, and how."""
    num_train: int = 22_000
    num_validation: int = 1_500
    num_test: int = 2_500
    num_documents: int = 35_000
    """Texts for pre-training, about 71 tokens each."""


def scripted_teacher(params: MicroworldParams) -> ScriptedPolicy:
    """The policy that answers any question of the world that `params` describes."""
    from coa.microworld.teacher import Teacher
    from coa.microworld.world import make_world

    return ScriptedPolicy(Teacher(make_world(params.world), settings=params.teacher).write, "microworld-teacher")
