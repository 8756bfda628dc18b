"""How far quantities are from those of another package, and how scripts print that."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """The largest deviation of a quantity from what another package finds."""

    what: str
    deviation: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the deviation is within its limit; NaN is not."""
        return self.deviation <= self.allowed


def print_comparisons(title: str, comparisons: Iterable[Comparison]) -> None:
    """Print each comparison and how many agree, and leave with exit code 1 if one does not."""
    print(title)
    verdicts = []
    for each in comparisons:
        verdicts.append(each.agrees)
        verdict = "agrees" if each.agrees else "DEVIATES"
        limits = f"{each.deviation:.1e}, allowed {each.allowed:.1e}"
        print(f"  {each.what:<58} {verdict:<8}  deviation {limits}", flush=True)
    print(f"  {sum(verdicts)} of {len(verdicts)} agree")
    sys.exit(0 if all(verdicts) else 1)
