"""The sizing tables of docs/operations.md are computed, never typed."""

from benchmarks import sizing

from support.repository import ROOT


def test_the_page_has_what_the_recorded_figures_make() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert text == sizing.page(text, sizing.recorded()), "run `make docs`"


def test_a_recorded_figure_takes_the_place_of_its_estimate() -> None:
    kept = {
        "Q1 point lookup in 1,000,000, uncached, 16 connections": {
            "number": "Q1", "ours": 100.0, "baseline": 200.0, "date": "2026-01-02",
        }
    }  # fmt: skip
    cost = sizing.costs(kept)
    assert cost.clickhouse == 2 / 200
    assert cost.gateway_uncached == 2 / 100 - 2 / 200
    assert "| 100 | Q1, 2026-01-02 |" in sizing.tables(kept)
    assert "estimate until Q1" not in sizing.tables(kept)
    assert "estimate until C2" in sizing.tables(kept)


def test_what_is_needed_grows_with_the_load() -> None:
    rows = [line.split(" | ") for line in sizing.tables({}).splitlines() if line.startswith(("| 1,000 ", "| 100,000 "))]
    few, many = (int(row[1].split()[0]) for row in rows)
    assert few * 50 < many < few * 200
