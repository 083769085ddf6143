"""Open the simulator that the section `simulator` of params.yaml describes."""

from collections.abc import Callable
from functools import cache

from coa.errors import ConfigError
from coa.policy import AnyPolicy, BatchPolicy
from coa.policy.local.model import LocalPolicy, LocalSettings
from coa.rollout.simulated import SimulatedTools
from coa.rollout.simulators.recorded import RecordedTools, open_recordings
from coa.rollout.simulators.settings import SimulatorKind, SimulatorParams

Simulator = SimulatedTools | RecordedTools
"""An environment of rollouts that answers their calls without any tool."""
MakeSimulator = Callable[[AnyPolicy], Simulator]
"""Makes the simulator of one step from the policy as it is then."""


def open_simulator(
    params: SimulatorParams,
    *,
    max_tokens: int,
    load: Callable[[LocalSettings], BatchPolicy] = LocalPolicy.load,
) -> MakeSimulator:
    """Open what the simulator needs, once for all steps.

    An observation that a model writes has at most `max_tokens`; `load` loads a frozen model.

    Raises:
        ConfigError: there is no such model.
        InputError: there are no recorded searches.
    """

    @cache
    def frozen() -> BatchPolicy:
        return load(LocalSettings(params.model, batch_size=params.batch_size))

    def write(kind: SimulatorKind, policy: AnyPolicy) -> SimulatedTools:
        writer = policy if kind is SimulatorKind.POLICY else frozen()
        return SimulatedTools(writer, max_tokens=max_tokens)

    if params.kind is not SimulatorKind.RECORDED:
        if params.kind is not SimulatorKind.POLICY:
            frozen()  # a model that is missing is found before the first step
        return lambda policy: write(params.kind, policy)

    other = params.recorded.fallback
    if other is SimulatorKind.RECORDED:
        raise ConfigError(
            "recorded searches cannot replace themselves",
            where="simulator.recorded.fallback",
            expected="policy, model or null",
        )
    recordings = open_recordings(params.recorded)
    name = f"{len(recordings.calls)}calls/{params.recorded.compares}"

    def make(policy: AnyPolicy) -> Simulator:
        fallback = None if other is None else write(other, policy)
        return RecordedTools(recordings, fallback, name=name)

    return make
