"""Small plots as SVG: bars with their spread, and lines. No library: a Debian one would be 337 MB for this."""

import html
import math

_COLOURS = ("#0b6bcb", "#d1495b", "#3a7d44", "#e09f3e", "#6a4c93", "#2a9d8f", "#8d6e63", "#555555")
_FONT = 'font-family="sans-serif" font-size="13"'
_GREY = "#cccccc"


class _Drawing:
    def __init__(self, width, height, title):
        self._size = (width, height)
        self._parts = []
        self.text(width / 2, 22, title, anchor="middle", weight="bold")

    def line(self, points, colour, width=1):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x, y, colour):
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')

    def box(self, x, y, width, height, colour):
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def text(self, x, y, text, anchor="start", weight="normal"):
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
                           f"{html.escape(text)}</text>")

    def finish(self):
        width, height = self._size
        body = "\n".join(self._parts)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" {_FONT} fill="#222222">\n'
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n')


def bars(title, unit, rows):
    """Horizontal bars. `rows`: (label, value, least, most, group); a group has a colour."""
    left, width, step = 210, 420, 26
    height = 60 + step * len(rows) + 30
    drawing = _Drawing(left + width + 80, height, title)
    ticks = _ticks(max(most for _, _, _, most, _ in rows))
    scale = width / ticks[-1]
    groups = list(dict.fromkeys(group for *_, group in rows))
    for tick in ticks:
        x = left + tick * scale
        drawing.line([(x, 40), (x, height - 45)], _GREY)
        drawing.text(x, height - 28, _number(tick), anchor="middle")
    drawing.text(left + width / 2, height - 8, unit, anchor="middle")
    for index, (label, value, least, most, group) in enumerate(rows):
        y = 46 + index * step
        drawing.text(left - 8, y + 14, label, anchor="end")
        drawing.box(left, y + 2, max(value, 0) * scale, step - 9, _COLOURS[groups.index(group) % len(_COLOURS)])
        middle = y + 2 + (step - 9) / 2
        drawing.line([(left + max(least, 0) * scale, middle), (left + max(most, 0) * scale, middle)], "#222222", 1.5)
        drawing.text(left + max(value, most, 0) * scale + 6, y + 14, _number(value))
    return drawing.finish()


def lines(title, x_unit, y_unit, series):
    """Lines over the common places of x, evenly spaced. `series`: {label: [(x, y)]}."""
    left, top, width, height = 64, 44, 470, 300
    places = sorted({x for points in series.values() for x, _ in points})
    ticks = _ticks(max(y for points in series.values() for _, y in points))
    drawing = _Drawing(left + width + 230, top + height + 56, title)

    def at(x, y):
        share = places.index(x) / (len(places) - 1) if len(places) > 1 else 0.5
        return left + share * width, top + height * (1 - max(y, 0) / ticks[-1])

    for tick in ticks:
        y = at(places[0], tick)[1]
        drawing.line([(left, y), (left + width, y)], _GREY)
        drawing.text(left - 8, y + 4, _number(tick), anchor="end")
    for place in places:
        drawing.text(at(place, 0)[0], top + height + 20, _number(place), anchor="middle")
    drawing.text(left + width / 2, top + height + 42, x_unit, anchor="middle")
    drawing.text(10, top - 10, y_unit)
    for index, (label, points) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        drawing.line([at(x, y) for x, y in sorted(points)], colour, 2)
        for x, y in points:
            drawing.dot(*at(x, y), colour)
        key = top + 14 + index * 22
        drawing.line([(left + width + 24, key), (left + width + 46, key)], colour, 3)
        drawing.text(left + width + 54, key + 4, label)
    return drawing.finish()


def _ticks(most):
    """Round numbers from 0 to at least `most`."""
    most = max(most, 1e-9)
    step = 10 ** math.floor(math.log10(most))
    for factor in (0.2, 0.25, 0.5, 1, 2):
        if most / (step * factor) <= 6:
            step *= factor
            break
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _number(value):
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
