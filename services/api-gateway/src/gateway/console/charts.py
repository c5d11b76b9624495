"""Bars by day as SVG, drawn here: no script, no style attribute, sharp at any width, readable by a screen reader.

The drawing stretches to its place; its labels are text beside it, so they stay legible on a phone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from gateway.console.figures import count, day, short

_WIDTH, _HEIGHT = 600, 120
_GAP = 0.25
_LEAST = 1.5  # a day with anything at all is seen


def bars(days: Sequence[Mapping[str, Any]], figure: str, title: str, *, shade: str = "one") -> Markup:
    """One bar for each of `days`, oldest first; each has a `date` and the figure."""
    values = [float(one.get(figure) or 0) for one in days]
    highest = max(values, default=0)
    if not highest:
        return Markup('<p class="empty">No {} in these {} days.</p>').format(title.lower(), len(days))
    step = _WIDTH / len(values)
    drawn = Markup("").join(
        _bar(index * step, step, value / highest, f"{day(one['date'])}: {count(value)}")
        for index, (one, value) in enumerate(zip(days, values, strict=True))
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
        first=day(days[0]["date"]), last=day(days[-1]["date"]),
    )  # fmt: skip


def _bar(left: float, step: float, share: float, told: str) -> Markup:
    """Over the whole height, so that a low bar is as easy to point at as a high one."""
    height = max(_LEAST, share * (_HEIGHT - 2)) if share else 0
    return Markup(
        '<g><title>{}</title><rect class="day" x="{:.2f}" y="0" width="{:.2f}" height="{}"/>'
        '<rect class="bar" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/></g>'
    ).format(
        told, left, step, _HEIGHT, left + step * _GAP / 2, _HEIGHT - height, step * (1 - _GAP), height
    )  # fmt: skip
