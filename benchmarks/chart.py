"""Draws a chart of a report: bars of µs for a read and for a write, as SVG for light and for dark pages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.harness import Timing
from benchmarks.report import Report, number_text

WIDTH = 760
_LEFT, _BAR, _GAP, _HEAD, _ROOM = 280, 18, 8, 34, 90


@dataclass(frozen=True, slots=True)
class Colours:
    """What a chart is drawn with."""

    text: str
    faint: str
    ours: str
    others: str


LIGHT = Colours(text="#1f2328", faint="#59636e", ours="#0969da", others="#c4ccd4")
DARK = Colours(text="#f0f6fc", faint="#9198a1", ours="#4493f8", others="#4b535d")


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars that share a scale."""

    title: str
    bars: tuple[Timing, ...]

    @property
    def height(self) -> int:
        """How much room it takes."""
        return _HEAD + len(self.bars) * (_BAR + _GAP) + _GAP


def panels_of(report: Report) -> list[Panel]:
    """Return what there is to draw: reads, with those from the cache, and writes."""
    found = []
    for row, title in (("peers-get", "A read"), ("peers-set", "A write, committed to disk")):
        outcome = report.find(row)
        if outcome is not None and outcome.sides:
            # Whoever sees the chart only must not take a trial for a measurement.
            trial = " (a quick run, which means little)" if report.size == "quick" else ""
            found.append(Panel(f"{title}: µs, the shorter the better{trial}", outcome.sides))
    cached = report.find("cached-dict")
    if found and cached is not None and cached.sides:
        bar = Timing("secretstore, from its cache", cached.sides[0].median, cached.sides[0].p25)
        found[0] = Panel(found[0].title, (bar, *found[0].bars))
    return found


def draw(panels: Sequence[Panel], colours: Colours) -> str:
    """Return a chart."""
    height = sum(panel.height for panel in panels) + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'role="img" aria-label="Time of a read and of a write, in µs" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13">'
    )
    lines, top = [head], 0
    for panel in panels:
        lines += _drawn(panel, top, colours)
        top += panel.height
    return "\n".join((*lines, "</svg>", ""))


def _drawn(panel: Panel, top: int, colours: Colours) -> Iterator[str]:
    scale = (WIDTH - _LEFT - _ROOM) / max(bar.median for bar in panel.bars)
    yield f'<text x="0" y="{top + 20}" font-weight="600" fill="{colours.text}">{escape(panel.title)}</text>'
    for position, bar in enumerate(panel.bars):
        y = top + _HEAD + position * (_BAR + _GAP)
        length = max(1.0, bar.median * scale)
        is_ours = bar.name.startswith("secretstore")
        fill, text = (colours.ours, colours.text) if is_ours else (colours.others, colours.faint)
        yield f'<text x="{_LEFT - 10}" y="{y + 13}" text-anchor="end" fill="{text}">{escape(bar.name)}</text>'
        yield f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{fill}"/>'
        yield f'<text x="{_LEFT + length + 6:.1f}" y="{y + 13}" fill="{text}">{number_text(bar.median)}</text>'
