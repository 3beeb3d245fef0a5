"""How the figures grow: with the size of the guest, its write rate, the number of connections, the number of migrations
at once, and the speed of the link."""

import results
from cases import Case, Shape
from guests import knows_engines
from suite import Suite, say

NAMES = ("size", "dirty", "connections", "together", "link")
_PAIRS = ("qemu-plain", "qemu-tls", "sealift-stream", "sealift-direct")
_ON_A_LINK = ("qemu-plain", "qemu-tls", "sealift-stream-plain", "sealift-stream", "sealift-direct-plain",
              "sealift-direct")
_SIZES_MIB = (512, 1024, 2048, 4096, 8192)
_WRITE_RATES = (0, 50, 100, 200, 400)
_CONNECTIONS = (1, 2, 4, 8)
_TOGETHER = (1, 2, 4, 8)
_LINKS_MEGABITS = (1000, 2500)
_USUAL_SHAPE = Shape(1024)
_SMALL_SHAPE = Shape(256)
_LINK_SHAPE = Shape(512)
_ENDLESS_SECONDS = 60  # at a write rate that a transport cannot follow it never ends


def _table(entries):
    heads = ["curve", "x"] + [head for head, _, _ in results.COLUMNS]
    return results.text_table([heads] + [[entry["curve"], str(entry["x"]), *results.cells(entry)] for entry in entries])


def _cases(lab, names, channels=None):
    """With so many channels, or 2, but the stream engine with the one it takes by itself."""
    engines = knows_engines(lab.cluster)
    cases = [Case(name, channels or (1 if name.startswith("sealift-stream") else 2)) for name in names]
    return [case for case in cases if engines or not case.is_direct]


def _fits(lab, shape, together=1):
    """Source, destination and a little of everything must fit into the memory of this machine."""
    return 2 * together * shape.memory_mib + 1024 < lab.memory.available_mib()


def _sizes(lab):
    for mib in _SIZES_MIB:
        shape = Shape(mib)
        if _fits(lab, shape):
            yield mib, Suite(lab, _cases(lab, _PAIRS), [shape])


def _write_rates(lab):
    with lab.giving_up_after(_ENDLESS_SECONDS):
        for rate in _WRITE_RATES:
            yield rate, Suite(lab, _cases(lab, _PAIRS), [Shape(_USUAL_SHAPE.fill_mib, rate)])


def _connections(lab):
    for channels in _CONNECTIONS:
        yield channels, Suite(lab, _cases(lab, _PAIRS, channels), [_USUAL_SHAPE])


def _together(lab):
    for number in _TOGETHER:
        if _fits(lab, _SMALL_SHAPE, number):
            yield number, Suite(lab, _cases(lab, _PAIRS), [_SMALL_SHAPE], together=number)


def _links(lab):
    for megabits in _LINKS_MEGABITS:
        with lab.limited_to(megabits):
            yield megabits, Suite(lab, _cases(lab, _ON_A_LINK), [_LINK_SHAPE])


_CURVES = {"size": _sizes, "dirty": _write_rates, "connections": _connections, "together": _together, "link": _links}


def draw(lab, arguments):
    """{"curves": [...], "errors": [...]}: entries as in "results", with the name of the curve and its x."""
    report = {"curves": [], "results": [], "errors": []}
    for name in arguments.curves or NAMES:
        for x, suite in _CURVES[name](lab):
            say(f"curve {name}: {x}")
            suite.run(arguments.rounds)
            entries = results.results(suite)
            report["curves"] += [{"curve": name, "x": x, **entry} for entry in entries]
            report["errors"] += [{"curve": name, "x": x, **error} for error in suite.errors]
    if report["curves"]:
        print(_table(report["curves"]))
    return report
