"""Print the verdicts about a result in short: those that ask for something, and how many are good."""

from collections.abc import Mapping
from typing import Any

from dequnmix_jax.escaping import shown


def print_verdicts(summary: Mapping[str, Any]) -> None:
    """Print the verdicts of summary.json: each that is not good on a line of its own, and a count of the good ones."""
    found = summary.get("verdicts") or []
    for verdict in found:
        if not verdict["good"]:
            print(f"! {shown(verdict['text'])}")
    good = [verdict["name"] for verdict in found if verdict["good"]]
    if good:
        print(f"good: {', '.join(good)}")
