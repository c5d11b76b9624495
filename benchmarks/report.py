"""One row per figure: ours, the baseline of the same run, their ratio, and what is to be reached."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    number: str  # of the benchmark in the design, e.g. C2
    what: str
    unit: str
    ours: float
    baseline: float
    to_reach: str
    reached: bool

    @property
    def ratio(self) -> float:
        return self.ours / self.baseline if self.baseline else float("nan")

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"ratio": round(self.ratio, 3)}


def show(figures: Sequence[Figure]) -> None:
    table = Table("", "what", "unit", "baseline", "ours", "ratio", "to reach", "reached")
    for one in figures:
        table.add_row(
            one.number,
            one.what,
            one.unit,
            f"{one.baseline:,.6g}",
            f"{one.ours:,.6g}",
            f"{one.ratio:.2f}",
            one.to_reach,
            "yes" if one.reached else "[bold]no[/]",
        )
    Console(highlight=False, width=140).print(table)
