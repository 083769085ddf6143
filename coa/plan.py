"""Plan the stages of a run from its settings: which there are, and what each one reads.

Where trajectories come from, which training stages are named, whether pairs are made, whether
anything reads the invented world: all of it follows from params.yaml. Settings that contradict each
other are refused here, before anything runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import ConfigError
from coa.policy.prompts import PromptParams
from coa.rollout.forks import forking_policy, require_forks
from coa.settings.params import Params
from coa.settings.stages import PipelineParams, Stage, TrajectorySource
from coa.store.files import (
    ASSEMBLED,
    DATA,
    QUESTIONS,
    STUDENT_ASSEMBLED,
    TRAINED,
)
from coa.store.shipped import is_only_shipped
from coa.student.settings import TrainParams

_WORLD = DATA / "microworld"


class Evaluation(NamedTuple):
    """One row of the table: a model, and how it is asked."""

    name: str
    model: str
    mode: str


class Plan:
    """What the template asks of the settings."""

    def __init__(self, params: Params) -> None:
        """Read the settings.

        Raises:
            ConfigError: the settings contradict each other.
        """
        settings = params.section(PipelineParams, "pipeline")
        self._params = params
        self._values: Mapping[str, Any] = params.values()
        self.training = [str(stage) for stage in Stage if stage in settings.training]
        self.student = settings.student or ""
        self._student_pairs = settings.student_pairs
        self._train = params.section(TrainParams, "train")
        self._inits = self._train.initial_models()
        self.samples = TrajectorySource.SAMPLE in settings.trajectories
        self.ingests = TrajectorySource.INGEST in settings.trajectories
        self._check()
        if self.makes_pairs:
            require_forks(forking_policy(params))

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return those settings that params.yaml has: DVC stops at others."""
        return [name for name in names if self._params.chooses(name)]

    def ref(self, name: str) -> str:
        """Return a setting as DVC finds it in params.yaml; its default, where it is not there."""
        return f"${{{name}}}" if self._params.chooses(name) else self._value(name)

    def own_prompts(self, names: Iterable[str]) -> list[str]:
        """Return the prompt files that the project has, by the settings that name them.

        Those that come with the tool are no files of a project beside it: DVC would miss them.
        """
        return [self.ref(name) for name in names if not is_only_shipped(self._value(name))]

    def _value(self, name: str) -> str:
        value: Any = self._values
        for part in name.split("."):
            value = value[part]
        return str(value)

    def _entries(self, name: str, values: Sequence[str]) -> list[str]:
        """Return the entries of a list as `ref` does."""
        if not self._params.chooses(name):
            return list(values)
        return [f"${{{name}[{i}]}}" for i in range(len(values))]

    @property
    def launch(self) -> str:
        """Return the command that starts a training; empty where none is started by it."""
        return self._value("train.launch") if set(self.training) - {"pretrain"} else ""

    @property
    def question_files(self) -> list[str]:
        """Return the files that questions are read from, as DVC finds them in params.yaml."""
        files = self._values["questions"]["files"]
        return [f"${{questions.files[{i}].path}}" for i in range(len(files))]

    @property
    def foreign_files(self) -> list[str]:
        """Return the files that trajectories are read from; of a pattern, the folder before it."""
        found: list[str] = []
        for entry in self._values["ingest"]["files"]:
            path = Path(entry["path"])
            while has_magic(path.as_posix()):
                path = path.parent
            found.append(path.as_posix())
        return found

    @property
    def evaluation_file(self) -> str:
        """Return the path of further evaluation sets; empty where there are none."""
        path: str = self._values["screen"]["evaluation"]
        return "" if Path(path) == QUESTIONS else path

    @property
    def makes_pairs(self) -> bool:
        """Tell whether trajectories are forked."""
        return bool(self._values["assemble"]["num_cot_a"])

    @property
    def student_sets(self) -> list[str]:
        """Return the names of the sets that are made of what the student writes."""
        found: list[str] = []
        if self.student and "rft" in self.training:
            found.append("coa")
        if self.student and self._student_pairs:
            found.append("cot_a")
        return found

    @property
    def fork_prompts(self) -> list[str]:
        """Return the prompt files of the policy that writes forks, without shipped ones."""
        own = self._values["branch"]["prompts"]
        if not own:
            return self.own_prompts(["prompts.cot", "prompts.coa"])
        files = PromptParams(**own)
        return [path for path in (files.cot, files.coa) if not is_only_shipped(path)]

    @property
    def reads_corpus(self) -> bool:
        """Tell whether the error analysis reads the passages."""
        return bool(self._values["analyse"]["reads_corpus"] and self._values["index"]["corpus"])

    @property
    def has_index(self) -> bool:
        """Tell whether a stage searches the embedded index."""
        is_embedded = self._values["search"]["engine"] == "embedded"
        searches = self.samples or self.makes_pairs or bool(self.training or self.student)
        return is_embedded and searches

    @property
    def is_watched(self) -> bool:
        """Tell whether the stages roll out questions while they train."""
        return bool(self._values["train"]["monitors"]["every"])

    @property
    def has_world(self) -> bool:
        """Tell whether questions, passages, teacher or student come from the invented world."""
        paths = [entry["path"] for entry in self._values["questions"]["files"]]
        paths.append(self._values["index"]["corpus"] or "")
        pretrain = self._values["train"]["pretrain"]
        if "pretrain" in self.training and not pretrain["base"]:
            paths += [pretrain["documents"], pretrain["corpus"]]
        if any(Path(path).is_relative_to(_WORLD) for path in paths):
            return True
        asked = [self._values["teacher"]] if self.samples or self.makes_pairs else []
        forker = self._values["branch"]["policy"]
        if self.makes_pairs and forker:
            asked.append(forker)
        return any(policy.get("policy", "microworld") == "microworld" for policy in asked)

    @property
    def given_models(self) -> list[str]:
        """Return the folders of other makers' models from which training starts."""
        if "pretrain" not in self.training:
            return []
        base = self._values["train"]["pretrain"]["base"]
        return [self.ref("train.pretrain.base")] if base and _is_local(base) else []

    @property
    def drawn(self) -> list[str]:
        """Return the training stages that write curves; a base of another maker is not trained."""
        base = self._values["train"]["pretrain"]["base"]
        return [name for name in self.training if not (name == "pretrain" and base)]

    @property
    def evaluations(self) -> list[Evaluation]:
        """Return the rows of the table; the model to start from is asked in two ways."""
        rows: list[Evaluation] = []
        for name in self.training:
            if name == "pretrain":
                rows.append(Evaluation("pretrain_cot", name, "cot"))
                rows.append(Evaluation("pretrain_react", name, "react"))
            else:
                rows.append(Evaluation(name, name, "coa"))
        return rows

    @property
    def world_model(self) -> str:
        """Return the name of the report on the world model's fidelity."""
        settings = self._values["fidelity"]
        return str(settings["name"] or Path(settings["model"]).name)

    @property
    def gate_report(self) -> str:
        """Return the name of the gate's verdict on the model that rl1 starts from."""
        settings = self._values["gate"]
        init = settings["model"] or self._values["train"]["rl1"]["init"]
        return str(settings["name"] or Path(init).name)

    @property
    def grade_arguments(self) -> str:
        """Return the argument that names the graded folders, where they are not the default."""
        if not self.ingests:
            return ""
        folders = ["data/sample"] if self.samples else []
        return f" 'samples=[{','.join([*folders, 'data/ingest'])}]'"

    def inputs(self, stage: str) -> list[str]:
        """List the model that a training stage starts from, and what it reads."""
        settings = self._values["train"][stage]
        if stage == "pretrain":
            if settings["base"]:
                return self.given_models
            return [self.ref("train.pretrain.documents"), self.ref("train.pretrain.corpus")]
        found: list[str] = []
        if _is_local(settings["init"]):
            found.append(self.ref(f"train.{stage}.init"))
        for key in ("pairs", "questions"):
            if key in settings:
                found.append(self.ref(f"train.{stage}.{key}"))
        found += self._entries(f"train.{stage}.trajectories", settings.get("trajectories", ()))
        return [*found, *self.worlds] if stage == "rl1" else found

    @property
    def worlds(self) -> list[str]:
        """Return what the simulator of rl1 reads: a frozen model, or recorded searches."""
        settings = self._values["simulator"]
        recorded = settings["recorded"]
        is_recorded = settings["kind"] == "recorded"
        writer = recorded["fallback"] if is_recorded else settings["kind"]
        found: list[str] = []
        own = self._values["train"]["rl1"]["init"]
        is_other = settings["model"] != own and _is_local(settings["model"])
        if writer == "model" and is_other:
            found.append(self.ref("simulator.model"))
        if is_recorded:
            found += self._entries("simulator.recorded.sets", recorded["sets"])
        return found

    def _check(self) -> None:
        """Refuse settings that contradict each other."""
        where = f"{self._params.path}, section 'pipeline'"
        if not (self.samples or self.ingests):
            raise ConfigError(
                "there are no trajectories",
                where=where,
                expected="pipeline.trajectories: [sample], [ingest] or both",
            )
        if self.ingests and not self.foreign_files:
            raise ConfigError(
                "no file of trajectories is named",
                where=where,
                expected="ingest.files, since pipeline.trajectories has `ingest`",
            )
        if self.ingests:
            self._check_foreign_folders()
        self._check_sets(where)
        for name in self.training:
            self._check_init(name, where)
        self._check_student(where)
        if "rl1" in self.training and f"{TRAINED}/{self.world_model}" not in self._trained():
            raise ConfigError(
                f"the world model of rl1 is not trained: {self.world_model!r}",
                where=where,
                fix="add its stage to pipeline.training, set fidelity.model, or leave rl1 out",
            )

    def _check_student(self, where: str) -> None:
        """Refuse a student that is not there, or that is trained on what it has yet to write."""
        readers: list[str] = []
        for name in self.training:
            if any(path.is_relative_to(STUDENT_ASSEMBLED) for path in self._sets_of(name)):
                readers.append(name)
        if readers and not self.student:
            raise ConfigError(
                f"{readers[0]} trains on what a student wrote, and none writes",
                where=where,
                fix="set pipeline.student to a training stage, such as sft2",
            )
        if not self.student:
            return
        if self.student not in self.training and not (TRAINED / self.student).is_dir():
            raise ConfigError(
                f"the student {self.student!r} is not trained",
                where=where,
                expected=f"one of pipeline.training ({', '.join(self.training) or 'none'}), or the "
                f"name of a folder in {TRAINED}",
            )
        for name in self._chain_of(self.student):
            if name in readers:
                raise ConfigError(
                    f"the student cannot be {self.student}: {name} is trained on what the student "
                    "wrote",
                    where=where,
                    expected=f"pipeline.student: a model that does not begin with {name}",
                    fix=f"take another student; for a further round, set train.{name}.init and "
                    "train again",
                )

    def _sets_of(self, stage: str) -> list[Path]:
        """List the sets that a stage is trained on."""
        return [Path(folder) for folder in self._train.sets_of(Stage(stage))]

    def _chain_of(self, stage: str) -> list[str]:
        """List a stage and the stages of this run before it, each once."""
        found: list[str] = []
        while stage in self.training and stage not in found:
            found.append(stage)
            init = Path(self._inits.get(Stage(stage), ""))
            stage = init.name if init.parent == TRAINED else ""
        return found

    def _check_foreign_folders(self) -> None:
        """Refuse a pattern in a folder that stages write: DVC would take it for its own cause."""
        for folder in self.foreign_files:
            if DATA.is_relative_to(folder):
                raise ConfigError(
                    "a pattern of ingest.files needs a folder of its own",
                    where=f"{self._params.path}, section 'ingest'",
                    expected="such as data/raw/r1searcher/*.jsonl",
                    got=f"a pattern in {folder}, where stages write, too",
                    fix="move the files into a folder of their own, and name that",
                )

    def _check_sets(self, where: str) -> None:
        numbers = self._values["assemble"]
        if self.makes_pairs and not self.samples:
            raise ConfigError(
                "pairs are made of a teacher's trajectories, and none are sampled",
                where=where,
                got=f"assemble.num_cot_a = {numbers['num_cot_a']:,}",
                fix="set assemble.num_cot_a: 0, or add `sample` to pipeline.trajectories",
            )
        for name in self.training:
            for path in self._sets_of(name):
                if path.parent == ASSEMBLED and not numbers.get(f"num_{path.name}", 1):
                    raise ConfigError(
                        f"{name} reads {path}, which is not built: assemble.num_{path.name} is 0",
                        where=where,
                        fix=f"let train.{name} read another set, take {name} out of "
                        f"pipeline.training, or raise assemble.num_{path.name}",
                    )

    def _check_init(self, name: str, where: str) -> None:
        """Refuse a stage that starts from a model which no stage of the run trains."""
        init = self._inits.get(Stage(name), "")
        if Path(init).is_relative_to(TRAINED) and init not in self._trained():
            raise ConfigError(
                f"{name} starts from {init}, which no stage of this run trains",
                where=where,
                expected=f"train.{name}.init: one of {', '.join(self._trained())}, or a folder",
                fix="set it in the profile, or add the stage to pipeline.training",
            )

    def _trained(self) -> list[str]:
        return [f"{TRAINED}/{name}" for name in self.training]


def _is_local(model: str) -> bool:
    """Tell a folder from a name on the Hub."""
    return Path(model).is_relative_to(DATA) or Path(model).is_absolute() or Path(model).exists()
