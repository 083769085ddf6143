"""List the experiments of the lab. To add one, add an `Experiment` to `EXPERIMENTS`.

    make lab EXPERIMENT=alpha SEED=0         # trains and evaluates the rows that are missing
    python -m lab.page                 # shows all of them

A row names the last training of its chain; lab/chains.py says what the trainings are.
"""

from coa.errors import unknown_name
from lab.chains import GATED, SFT_3_STEPS, SIMULATORS
from lab.records import Experiment, Row, Shows

_SFT_1 = Row("sft1", "SFT 1", "sft1", paper=(22.7, 40.0, 21.2, 26.4, 4.8, 20.2))
_SFT_2 = Row("sft2_only", "SFT 2", "sft2_only", paper=(25.0, 42.6, 31.7, 43.8, 8.5, 24.3))
_SFT_1_2 = Row("sft2", "SFT 1,2", "sft2", paper=(25.0, 45.6, 33.0, 48.1, 9.0, 30.4))
_SFT_1_2_3 = Row("sft3", "SFT 1,2,3", "sft3", paper=(23.8, 44.7, 30.1, 49.2, 10.5, 28.8))
_OTHER_SEARCH = ("search.observation.top_k=3", "search.observation.numbering=doc")
"""Three results with other numbers in front, where training showed two."""


def _gated_row(simulator: str, start: str) -> Row:
    name = f"gate_{simulator}_{start}"
    starts = {"sft2": "SFT 1,2", "sft3": "SFT 1,2,3", "sft3_480": "the longer SFT 1,2,3"}
    return Row(name, f"{simulator.replace('_', ' ')}, from {starts[start]}", name)


def _world_row(steps: int) -> Row:
    return Row(f"sft3_{steps}", f"SFT 3, {steps} steps", f"sft3_{steps}", fidelity=())


SFT_STAGES = Experiment(
    "sft_stages",
    "Which stages of SFT help",
    "The paper's Table 1: each stage adds to those before it, and RL without SFT stays behind.",
    "A stage helps where the difference to the row without it excludes 0. The paper's columns are "
    "means of its own six sets, which are about the real world: compare the order of the rows, not "
    "the figures.",
    rows=(
        _SFT_1,
        _SFT_2,
        _SFT_1_2,
        _SFT_1_2_3,
        Row(
            "rl2_only",
            "RL 2 only",
            "rl2_only",
            mode="react",
            paper=(22.8, 37.5, 23.2, 33.2, 5.6, 20.0),
        ),
    ),
    compares=(("sft2", "sft1"), ("sft2", "sft2_only"), ("sft3", "sft2"), ("sft2", "rl2_only")),
)
ALPHA = Experiment(
    "alpha",
    "The likelihood term of SFT 1",
    "The paper, section 3: without the term alpha P(chosen) the probabilities of both sides fall "
    "together, and the model collapses.",
    "Look at the curves first: with alpha 0 both sides are to fall. Broken texts and exact match "
    "say whether that harms the model, right away and after SFT 2. The profile trains whole "
    "trajectories beside the pairs; the paper's loss does not.",
    rows=(
        Row("alpha_0", "SFT 1, alpha 0", "alpha_0"),
        Row("papers_loss", "SFT 1, alpha 0.2: the paper's loss", "papers_loss"),
        Row("sft1", "SFT 1, with whole trajectories beside it", "sft1"),
        Row("alpha_0_sft2", "SFT 1,2, alpha 0", "alpha_0_sft2"),
        Row("papers_loss_sft2", "SFT 1,2, alpha 0.2: the paper's loss", "papers_loss_sft2"),
        Row("sft2", "SFT 1,2, with whole trajectories beside it", "sft2"),
    ),
    compares=(
        ("papers_loss", "alpha_0"),
        ("papers_loss_sft2", "alpha_0_sft2"),
        ("sft1", "papers_loss"),
        ("sft2", "papers_loss_sft2"),
    ),
    curves=("logps/chosen", "logps/rejected"),
)
COT_SHARE = Experiment(
    "cot_share",
    "The share of CoT in SFT 2",
    "The paper mixes pure CoT into SFT, one trajectory of six, so that the model does not search "
    "for what it knows.",
    "More CoT is to lower the searches for known facts. It costs too much where searches for "
    "unknown facts fall, too. All rows train on as many trajectories for as many steps.",
    rows=(
        Row("cot_none", "no CoT", "cot_none"),
        Row("cot_sixth", "one sixth, the paper's", "cot_sixth"),
        Row("cot_half", "one half", "cot_half"),
    ),
    compares=(("cot_sixth", "cot_none"), ("cot_half", "cot_sixth")),
)
MASKING = Experiment(
    "masking",
    "The mask over observations in SFT 2",
    "The paper masks observations out of the loss. It would not matter if a model that learned "
    "the wording of one search did as well with another.",
    "Compare the loss from the trained search to the other one: without the mask it is to be "
    "larger. The other search shows three results in place of two, with other numbers.",
    rows=(
        Row("masked", "masked", "sft2"),
        Row("unmasked", "not masked", "unmasked"),
        Row("masked_other", "masked, other search", "sft2", settings=_OTHER_SEARCH),
        Row("unmasked_other", "not masked, other search", "unmasked", settings=_OTHER_SEARCH),
    ),
    compares=(
        ("masked", "unmasked"),
        ("masked_other", "unmasked_other"),
        ("masked_other", "masked"),
        ("unmasked_other", "unmasked"),
    ),
)
PAIRS = Experiment(
    "pairs",
    "Number and diversity of pairs",
    "The paper makes few pairs of many questions. SFT 1 would not need them if fewer did as "
    "well, or as many from fewer questions.",
    "All rows take as many steps of SFT 1, then the same SFT 2. Wide sets have one pair of each "
    "question before a second one; narrow sets have all pairs of few questions.",
    rows=(
        Row("pairs_all", "all pairs", "pairs_all_sft2"),
        Row("pairs_quarter", "a quarter, wide", "pairs_quarter_sft2"),
        Row("pairs_quarter_narrow", "a quarter, narrow", "pairs_quarter_narrow_sft2"),
        Row("pairs_sixteenth", "a sixteenth, wide", "pairs_sixteenth_sft2"),
    ),
    compares=(
        ("pairs_all", "pairs_quarter"),
        ("pairs_quarter", "pairs_quarter_narrow"),
        ("pairs_quarter", "pairs_sixteenth"),
    ),
)
PRICE = Experiment(
    "price",
    "The price of a search in RL",
    "RL that pays for right answers alone teaches to search for known facts, too. A price of each "
    "search keeps the student selective.",
    "P(search given unknown) - P(search given known) is to stay above .3 while exact match gains. "
    "All rows practise on recorded searches alone.",
    rows=(
        _SFT_1_2_3,
        Row("mix_1_0", ".1 a search", "mix_1_0"),
        Row("price_12", ".12 a search", "price_12"),
        Row("price_15", ".15 a search", "price_15"),
    ),
    compares=(("mix_1_0", "sft3"), ("price_12", "sft3"), ("price_15", "sft3")),
)
GATE = Experiment(
    "gate",
    "What the gate predicts of RL 1",
    "RL 1 gains where a simulated search shows the answer more often than the model knows it, and "
    "harms elsewhere; so the gate before it can tell.",
    "Each run of RL 1 is compared with the model that it started from, and paid for right answers. "
    "Rows of a predicted harm are of an older version: stage rl1 refuses to start there.",
    rows=(
        _SFT_1_2,
        _SFT_1_2_3,
        Row("sft3_480", "SFT 1,2,3 of 480 steps", "sft3_480"),
        *(_gated_row(simulator, start) for simulator, start in GATED),
    ),
    shows=Shows.AGREEMENT,
)
FIDELITY = Experiment(
    "fidelity",
    "How true simulated searches are, over the steps of SFT 3",
    "The paper trusts a model that learned to write observations. RL on them can teach to search "
    "only where they hold the answers.",
    "Simulated observations are compared with what the search returned on the same rollouts. "
    "Exact match is that of the model as a policy, with the real search.",
    rows=(
        Row("sft3", "SFT 3, as in the profile", "sft3", fidelity=()),
        *(_world_row(steps) for steps in SFT_3_STEPS),
        Row("recorded", "recorded searches", "sft3", fidelity=SIMULATORS["recorded"]),
        Row("few_recorded", "few recorded searches", "sft3", fidelity=SIMULATORS["few_recorded"]),
    ),
    shows=Shows.FIDELITY,
)
ALARMS = Experiment(
    "alarms",
    "What the alarms hear",
    "Each alarm on the rollouts while training goes off where one setting was changed for the "
    "worse, and none does where it was not.",
    "The alarms stand below the figures. SFT 3 stops after 30 of its steps; RL 1 is paid for right "
    "answers in a world that it imagines, as in the paper; RL 2 pays nothing for a search.",
    rows=(
        _SFT_1_2,
        _SFT_1_2_3,
        Row("sft3_30", "SFT 1,2,3, stopped early", "sft3_30"),
        Row("gate_policy_sft3", "SFT 1,2,3 + RL 1, paid as in the paper", "gate_policy_sft3"),
        Row("rl2_priced", "SFT 1,2 + RL 2, .1 a search", "rl2_priced"),
        Row("rl2", "SFT 1,2 + RL 2, searches without a price", "rl2"),
    ),
    compares=(("rl2", "rl2_priced"), ("rl2_priced", "sft2"), ("gate_policy_sft3", "sft3")),
)
POPULARITY = Experiment(
    "popularity",
    "Popular against recent questions",
    "Acting is to help where the model does not know the facts (recent questions), and to cost "
    "little where it does (popular ones).",
    "Popular: pre-training showed all facts that the question joins. Recent: it did not. The rows "
    "are those of other experiments, grouped by what the model knows.",
    uses=("sft_stages",),
)
HORIZON = Experiment(
    "horizon",
    "Success by number of actions",
    "The paper's Figure 3: success falls as a rollout takes more actions, less so after training.",
    "A line is one system. Questions are not the same from point to point: hard ones take more "
    "actions. Points with few rollouts have wide intervals.",
    uses=("sft_stages",),
    shows=Shows.ACTIONS,
)

EXPERIMENTS = (
    SFT_STAGES,
    ALPHA,
    COT_SHARE,
    MASKING,
    PAIRS,
    PRICE,
    GATE,
    FIDELITY,
    ALARMS,
    POPULARITY,
    HORIZON,
)


def find_experiment(name: str) -> Experiment:
    """Find an experiment by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    by_name = {experiment.name: experiment for experiment in EXPERIMENTS}
    if name not in by_name:
        raise unknown_name("experiment", name, by_name, where="experiment=")
    return by_name[name]


def find_row(experiment: Experiment, name: str) -> Row:
    """Find a row of an experiment by its name.

    Raises:
        ConfigError: it has none of that name.
    """
    by_name = {row.name: row for row in experiment.rows}
    if name not in by_name:
        raise unknown_name(f"row of {experiment.name}", name, by_name, where="row=")
    return by_name[name]
