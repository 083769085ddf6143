"""From the section `microworld` of params.yaml to the teacher that knows its world."""

from dataclasses import dataclass, field

from coa.microworld.decisions import TeacherSettings
from coa.microworld.teacher import Teacher
from coa.microworld.world import WorldSettings, make_world
from coa.policy.scripted import ScriptedPolicy, scripted_name


@dataclass(frozen=True, slots=True)
class MicroworldParams:
    """The world, its questions and its teacher."""

    world: WorldSettings = field(default_factory=WorldSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    seed: int = 0
    """Which of the possible questions are asked, and how."""
    num_train: int = 22_000
    """Train questions."""
    num_validation: int = 1_500
    """Validation questions."""
    num_test: int = 2_500
    """Test questions."""
    num_documents: int = 35_000
    """Texts for pre-training, about 71 tokens each."""


def scripted_teacher(params: MicroworldParams) -> ScriptedPolicy:
    """The policy that answers any question of the world that `params` describes."""
    name = scripted_name("microworld", params.world, params.teacher)
    return ScriptedPolicy(Teacher(make_world(params.world), settings=params.teacher).write, name)
