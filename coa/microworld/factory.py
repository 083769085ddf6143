"""Make the teacher from the section `microworld` of params.yaml."""

from dataclasses import dataclass, field

from coa.microworld.teacher import Teacher
from coa.microworld.world import WorldSettings, make_world
from coa.policy.scripted import ScriptedPolicy, scripted_name
from coa.policy.teacher.settings import TeacherSettings


@dataclass(frozen=True, slots=True)
class MicroworldParams:
    """Settings of the world, its questions and its teacher."""

    world: WorldSettings = field(default_factory=WorldSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    seed: int = 0
    """Decides which of the possible questions are asked, and in what words."""
    num_train: int = 22_000
    """Number of train questions."""
    num_validation: int = 1_500
    """Number of validation questions."""
    num_test: int = 2_500
    """Number of test questions."""
    num_documents: int = 35_000
    """Number of texts for pre-training, about 71 tokens each."""
    notation_share: float = 0.0
    """Share of these texts that show how calls are written, as mere notation: a student that has
    never met a tag does not sample it, whatever SFT 1 teaches of when to act."""


def scripted_teacher(params: MicroworldParams) -> ScriptedPolicy:
    """Make the policy that answers any question of the world that `params` describes."""
    name = scripted_name("microworld", params.world, params.teacher)
    teacher = Teacher(make_world(params.world), settings=params.teacher)
    return ScriptedPolicy(teacher.write, name)
