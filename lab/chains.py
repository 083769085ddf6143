"""List the trainings of which the lab's chains are made.

Those of table.mk stand here as they stand there, for a chain's fingerprint tells what all of its
trainings were; tests/test_lab_rules.py compares them.
"""

from collections.abc import Iterable

from coa.stages import Stage
from lab.records import Training

_AS_SFT_2 = "train.sft3.arguments=${train.sft2.arguments}"
"""Stage sft3 is sft2 without the mask."""
_PAIR_STEPS = "train.sft1.arguments.max_steps={pair_steps}"
_PAPERS_LOSS = "train.sft1.trajectories=[]"
"""Without the likelihood of whole trajectories beside the pairs."""
_RL_STEPS = "train.rl2.arguments.max_steps={rl_steps}"


def _mixed(name: str, cot_share: float) -> Training:
    """Return SFT 2 on a mix of trajectories with a share of CoT."""
    folder = f"data/lab/s{{seed}}/{name}"
    subset = (
        f"out={folder}",
        "sets=[data/assemble/coa,data/assemble/cot]",
        f"shares=[{1 - cot_share:.4g},{cot_share:.4g}]",
        "num_rows={num_mixed}",
        "seed={seed}",
    )
    settings = (f"train.sft2.trajectories=[{folder}]",)
    return Training(name, Stage.SFT2, "sft1", settings, subset)


def _fewer_pairs(name: str, num_rows: str, *, is_wide: bool) -> tuple[Training, Training]:
    """Return SFT 1 on some of the pairs, and SFT 2 after it."""
    folder = f"data/lab/s{{seed}}/{name}"
    subset = (
        f"out={folder}",
        "sets=[data/assemble/cot_a]",
        "shares=[1]",
        f"num_rows={num_rows}",
        f"is_wide={str(is_wide).lower()}",
        "seed={seed}",
    )
    settings = (f"train.sft1.pairs={folder}", _PAIR_STEPS)
    return (
        Training(name, Stage.SFT1, "pretrain", settings, subset),
        Training(f"{name}_sft2", Stage.SFT2, name),
    )


_RL_1 = (
    "train.rl1.rewards.exact_match=1",
    "train.rl1.rewards.recalled=0",
    "train.rl1.rewards.acted=0",
)
"""RL 1 that is paid for right answers."""
SIMULATORS = {
    "policy": ("simulator.kind=policy",),
    "model": ("simulator.kind=model", "simulator.model=data/train/sft3-s{seed}"),
    "recorded": ("simulator.kind=recorded",),
    # Those of the trajectories that SFT trains on, by their queries; else the policy writes.
    "few_recorded": (
        "simulator.kind=recorded",
        "simulator.recorded.sets=[data/assemble/coa]",
        "simulator.recorded.compares=queries",
        "simulator.recorded.min_share=0.8",
        "simulator.recorded.fallback=policy",
    ),
}
"""The settings of each simulator."""
_WRITERS = {"model": "sft3"}
"""The training of the model that writes for a simulator."""


def _priced(name: str, price: float) -> Training:
    """Return an RL 1 on recorded searches, each of which has a price.

    Without a price the policy searches for what it knows, too.
    """
    settings = (
        "train.rl1.arguments.max_steps=48",
        *_RL_1,
        *SIMULATORS["recorded"],
        f"train.rl1.rewards.searches=-{price}",
    )
    return Training(name, Stage.RL1, "sft3", settings)


def _gated(simulator: str, start: str) -> Training:
    """Return an RL 1 with a simulator from a model, to hold against what the gate predicts."""
    settings = ("train.rl1.arguments.max_steps=32", *_RL_1, *SIMULATORS[simulator])
    needs = _WRITERS.get(simulator, "")
    return Training(f"gate_{simulator}_{start}", Stage.RL1, start, settings, needs=needs)


GATED = (
    ("policy", "sft2"),
    ("policy", "sft3"),
    ("policy", "sft3_480"),
    ("model", "sft2"),
    ("model", "sft3"),
    ("few_recorded", "sft3"),
    ("recorded", "sft2"),
    ("recorded", "sft3"),
)
"""Simulators and the models that RL 1 starts from, of which the gate is asked."""
SFT_3_STEPS = (15, 30, 60, 240, 480)
"""Lengths of SFT 3 beside that of the profile."""


TRAININGS = (
    Training(
        "pretrain",
        Stage.PRETRAIN,
        settings=("train.pretrain.arguments.max_steps={pretrain_steps}",),
        is_of_table=True,
    ),
    Training("sft1", Stage.SFT1, "pretrain", is_of_table=True),
    Training("sft2_only", Stage.SFT2, "pretrain", is_of_table=True),
    Training("sft2", Stage.SFT2, "sft1", is_of_table=True),
    Training("sft3", Stage.SFT3, "sft2", is_of_table=True),
    Training(
        "rl2_only",
        Stage.RL2,
        "pretrain",
        ("train.rl2.asking=react", "train.rl2.arguments.max_steps={more_rl_steps}"),
        is_of_table=True,
    ),
    Training("rl2", Stage.RL2, "sft2", (_RL_STEPS,), is_of_table=True),
    Training("rl2_priced", Stage.RL2, "sft2", (_RL_STEPS, "train.rl2.rewards.searches=-0.1")),
    Training("papers_loss", Stage.SFT1, "pretrain", (_PAPERS_LOSS,)),
    Training("papers_loss_sft2", Stage.SFT2, "papers_loss"),
    Training("alpha_0", Stage.SFT1, "pretrain", (_PAPERS_LOSS, "train.sft1.alpha=0")),
    Training("alpha_0_sft2", Stage.SFT2, "alpha_0"),
    _mixed("cot_none", 0),
    _mixed("cot_sixth", 1 / 6),
    _mixed("cot_half", 1 / 2),
    Training("unmasked", Stage.SFT3, "sft1", (_AS_SFT_2,)),
    Training("pairs_all", Stage.SFT1, "pretrain", (_PAIR_STEPS,)),
    Training("pairs_all_sft2", Stage.SFT2, "pairs_all"),
    *_fewer_pairs("pairs_quarter", "{quarter_of_pairs}", is_wide=True),
    *_fewer_pairs("pairs_quarter_narrow", "{quarter_of_pairs}", is_wide=False),
    *_fewer_pairs("pairs_sixteenth", "{sixteenth_of_pairs}", is_wide=True),
    _priced("mix_1_0", 0.1),
    _priced("price_12", 0.12),
    _priced("price_15", 0.15),
    *(
        Training(f"sft3_{steps}", Stage.SFT3, "sft2", (f"train.sft3.arguments.max_steps={steps}",))
        for steps in SFT_3_STEPS
    ),
    *(_gated(*pair) for pair in GATED),
)


def chain_of(name: str, trainings: Iterable[Training] = TRAININGS) -> list[Training]:
    """List the trainings that lead to one, each after those that it starts from or needs."""
    by_name = {training.name: training for training in trainings}
    chain: dict[str, Training] = {}

    def add(training: Training) -> None:
        for earlier in (training.start, training.needs):
            if earlier and earlier not in chain:
                add(by_name[earlier])
        chain[training.name] = training

    add(by_name[name])
    return list(chain.values())
