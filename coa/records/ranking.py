"""Rank items in an order that looks random and follows from a seed."""

import hashlib


def seeded_rank(item: str, seed: int, purpose: str) -> str:
    """Return a sort key that follows from its arguments alone, so it stays when other rows change.

    Args:
        item: The id of what is ranked.
        seed: From params.yaml.
        purpose: Keeps choices apart: with the same one, the same items would come first in all of
            them. Empty for the choice of questions to sample, the first choice of all.
    """
    prefix = f"{purpose}/" if purpose else ""
    return hashlib.sha256(f"{prefix}{seed}/{item}".encode()).hexdigest()


def call_seed(seed: int, trajectory_id: str, turn: int) -> int:
    """Derive the seed of one call from the run's seed, the trajectory's id and the turn."""
    digest = hashlib.sha256(f"{seed}/{trajectory_id}/{turn}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # fits a signed 32-bit seed
