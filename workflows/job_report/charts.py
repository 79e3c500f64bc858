"""The pictures of a report as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from carrara.runtime.report_view import seconds
from carrara.workflows.job_report.facts import JobFacts

WIDTH = 1000
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 24

LEGEND = (
    '<p class="sub"><i class="key" style="background:var(--main);margin-left:0"></i>first engine'
    '<i class="key" style="background:var(--warm)"></i>escalated'
    '<i class="key" style="background:var(--bad)"></i>failed</p>'
)


def throughput(counts: Sequence[int], total_s: float, height: int = 190) -> str:
    """Records that ended in each of equal times, as records a second."""
    step_s = total_s / len(counts) if counts and total_s else 1.0
    rates = [count / step_s for count in counts]
    most = max(rates, default=0.0) or 1.0
    inner_w, inner_h = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    points = [
        (_LEFT + inner_w * (place + 0.5) / len(rates), _TOP + inner_h * (1 - rate / most))
        for place, rate in enumerate(rates)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    floor = _TOP + inner_h
    area = f"{_LEFT},{floor} {line} {WIDTH - _RIGHT},{floor}"
    drawn = (
        f'<polygon points="{area}" fill="var(--main)" opacity="0.14"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--main)" stroke-width="2"/>'
    )
    label = f"{most:.2f}/s" if most < 10 else f"{most:.0f}/s"
    return _svg(height, drawn + _axes(height, total_s, label))


def timeline(found: JobFacts, height: int = 0) -> str:
    """Records as lines from their start to their end."""
    shown, total_s = found.spread, found.seconds
    pitch = 3.0 if len(shown) > 60 else 7.0
    height = height or int(_TOP + _BOTTOM + max(40, pitch * len(shown)))
    inner_w = WIDTH - _LEFT - _RIGHT
    scale = inner_w / total_s if total_s else 0.0
    lines = []
    for place, record in enumerate(shown):
        colour = "--bad" if record.failed else "--warm" if record.escalations else "--main"
        y = _TOP + pitch * (place + 0.5)
        x, width = _LEFT + record.began * scale, max(1.5, record.seconds * scale)
        lines.append(
            f'<rect x="{x:.1f}" y="{y - pitch * 0.36:.1f}" width="{width:.1f}" '
            f'height="{pitch * 0.72:.1f}" rx="1" fill="var({colour})"/>'
        )
    label = f"{found.records_ended:,} records"
    if found.spread_step > 1:
        label = f"1 of {found.spread_step:,} of {label}"
    return _svg(height, "".join(lines) + _axes(height, total_s, "", label))


def histogram(counts: Sequence[int], height: int = 150, width: int = 480) -> str:
    """Counts in equal bins of [0, 1]."""
    most = max(counts, default=0) or 1
    inner_w, inner_h = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    pitch = inner_w / len(counts)
    bars = "".join(
        f'<rect x="{_LEFT + place * pitch + 1:.1f}" y="{_TOP + inner_h * (1 - count / most):.1f}" '
        f'width="{pitch - 2:.1f}" height="{inner_h * count / most:.1f}" fill="var(--main)"/>'
        for place, count in enumerate(counts)
    )
    floor = _TOP + inner_h
    marks = "".join(
        f'<text x="{_LEFT + inner_w * share:.0f}" y="{height - 7}" text-anchor="middle">{share:g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    top = f'<text x="{_LEFT - 6}" y="{_TOP + 9}" text-anchor="end">{most:,}</text>'
    base = f'<path d="M{_LEFT} {floor}H{width - _RIGHT}" stroke="var(--line)"/>'
    return _svg(height, bars + base + marks + top, width)


def _axes(height: int, total_s: float, top: str, corner: str = "") -> str:
    floor = height - _BOTTOM
    inner_w = WIDTH - _LEFT - _RIGHT
    marks = "".join(
        f'<text x="{_LEFT + inner_w * share:.0f}" y="{height - 7}" text-anchor="{anchor}">'
        f"{seconds(total_s * share)}</text>"
        for share, anchor in (
            (0, "start"),
            (0.25, "middle"),
            (0.5, "middle"),
            (0.75, "middle"),
            (1, "end"),
        )
    )
    return (
        f'<path d="M{_LEFT} {floor}H{WIDTH - _RIGHT}" stroke="var(--line)"/>{marks}'
        f'<text x="{_LEFT - 6}" y="{_TOP + 9}" text-anchor="end">{top}</text>'
        f'<text x="{WIDTH - _RIGHT - 4}" y="{_TOP + 9}" text-anchor="end">{corner}</text>'
    )


def _svg(height: int, drawn: str, width: int = WIDTH) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img">{drawn}</svg>'


__all__ = ["LEGEND", "histogram", "throughput", "timeline"]
