"""Bars by day as SVG, drawn here: no script, no style attribute, sharp at any width, readable by a screen reader.

The drawing stretches to its place; its labels are text beside it, so they stay legible on a phone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from gateway.console.figures import count, short

_WIDTH, _HEIGHT = 600, 120
_GAP = 0.25
_LEAST = 1.5  # a day with anything at all is seen


def bars(days: Sequence[Mapping[str, Any]], figure: str, title: str, *, shade: str = "one") -> Markup:
    """One bar for each of `days`, oldest first; each has a `date` and the figure."""
    values = [float(day.get(figure) or 0) for day in days]
    highest = max(values, default=0)
    if not highest:
        return Markup('<p class="empty">No {} in these {} days.</p>').format(title.lower(), len(days))
    step = _WIDTH / len(values)
    drawn = Markup("").join(
        _bar(index * step, step, value, highest, f"{day['date']}: {count(value)}")
        for index, (day, value) in enumerate(zip(days, values, strict=True))
        if value
    )
    at_most = days[values.index(highest)]["date"]
    told = f"{title} by day, {days[0]['date']} to {days[-1]['date']}: {count(sum(values))} in all, most on {at_most}"
    return Markup(
        '<div class="chart shade-{shade}"><span class="chart-top">{top}</span>'
        '<svg viewBox="0 0 {w} {h}" preserveAspectRatio="none" role="img" aria-label="{told}">'
        '<line class="grid" x1="0" y1="0.5" x2="{w}" y2="0.5"/>'
        '<line class="grid" x1="0" y1="{half}" x2="{w}" y2="{half}"/>'
        '{drawn}<line class="base" x1="0" y1="{h}" x2="{w}" y2="{h}"/></svg>'
        '<span class="chart-days"><span>{first}</span><span>{last}</span></span></div>'
    ).format(
        shade=shade, top=short(highest), w=_WIDTH, h=_HEIGHT, half=_HEIGHT / 2, told=told, drawn=drawn,
        first=days[0]["date"], last=days[-1]["date"],
    )  # fmt: skip


def _bar(left: float, step: float, value: float, highest: float, told: str) -> Markup:
    height = max(_LEAST, value / highest * (_HEIGHT - 2))
    return Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"><title>{}</title></rect>').format(
        left + step * _GAP / 2, _HEIGHT - height, step * (1 - _GAP), height, escape(told)
    )
