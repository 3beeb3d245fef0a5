"""Brings docs/performance.md up to date from the JSON of earlier runs: tables between markers, and plots beside it.

A marker is `<!-- NAME -->`; what follows, up to `<!-- end -->`, is replaced. What the files do not have stays as it is.
"""

import json
import pathlib
import re

import cancel
import model
import profiler
import results
import svg
from meter import NOISE_CORES

_DOCS = pathlib.Path(__file__).resolve().parent.parent.parent / "docs"
_PAGE = _DOCS / "performance.md"
_PLOTS = _DOCS / "performance"

_CURVES = {  # name: (title, unit of x, figure, unit of the figure)
    "size": ("A larger guest", "MiB filled", "seconds", "seconds"),
    "dirty": ("A guest that writes", "MB/s written", "seconds", "seconds"),
    "connections": ("More connections", "connections that carry RAM", "gb_per_s", "GB/s"),
    "together": ("Several guests at once, 256 MiB each", "migrations at once", "gb_per_s", "GB/s, all together"),
    "link": ("A limited link, 512 MiB", "Mb/s", "seconds", "seconds"),
}


def update(files):
    """Rewrites page and plots from these JSON files."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    tables = {}
    for report in reports:
        if report.get("profile"):
            tables["profile"] = _profile(report["profile"])
        elif report.get("results"):
            tables["machine"] = _machine(report["machine"], report["results"])
            tables |= _comparison(report["results"], report["errors"])
        if report.get("curves"):
            tables |= _curves(report["curves"], report["machine"])
        if report.get("cancel"):
            tables["cancel"] = _markdown(cancel.HEADS, map(cancel.cells, report["cancel"]))
        if report.get("parts"):
            tables["parts"] = _parts(report["parts"])
    text = _PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = _replace(text, name, table)
    _PAGE.write_text(text, encoding="utf-8")


def _replace(text, name, table):
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"{_PAGE} has no place for '{name}'")
    return marked.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def _draw(name, picture):
    _PLOTS.mkdir(exist_ok=True)
    (_PLOTS / f"{name}.svg").write_text(picture, encoding="utf-8")


def _markdown(heads, rows):
    numbers = ["---"] + ["--:"] * (len(heads) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, numbers, *rows))


def _machine(machine, entries):
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    noisy = [f"{_label(entry)}, {entry['dirty_mb_s']} MB/s ({entry['foreign_cores']:.1f})" for entry in entries
             if entry["foreign_cores"] > NOISE_CORES]
    most = max(entry["foreign_cores"] for entry in entries)
    quiet = f"Cores busy with something else, medians: at most {most:.1f}." if not noisy else (
        f"**The figures of {len(noisy)} of {len(entries)} cases are worth little**, as cores were busy with something else "
        f"just before (medians): {'; '.join(noisy)}.")
    warm = " (kept warm: its host takes free memory back)" if machine["memory_kept_warm"] else ""
    return (f"{machine['cpu']}, {machine['cpus']} cores, {machine['memory_mib']} MiB; Linux "
            f"{machine['kernel']}; QEMU {machine['qemu']}, {machine['accelerator']}; AEAD {machine['aead_backend']}; "
            f"`shmem_enabled` {machine['shmem_enabled']}; first touch of memory "
            f"{machine['touch_s_per_gib']} s per GiB{warm}, a page fault {machine['page_fault_us']} µs; sealift "
            f"{machine['sealift']}. {versions}. {quiet}")


def _label(entry):
    return f"{entry['case']}, {entry['channels']} ch."


def _comparison(entries, errors):
    heads = ["case", "ch.", "MiB", "MB/s", "seconds", "GB/s (least to most)", "CPU-s/GB (least to most)",
             "downtime ms (least to most)", "by QEMU", "work lost", "rounds"]
    rows = []
    for entry in entries:
        ranges = [f"{entry[key]:{form}} ({entry['spread'][key][0]:{form}} to {entry['spread'][key][3]:{form}})"
                  for key, form in (("gb_per_s", ".2f"), ("cpu_s_per_gb", ".2f"), ("downtime_ms", ".0f"))]
        rows.append([entry["case"], str(entry["channels"]), str(entry["guest_mib"]), str(entry["dirty_mb_s"]),
                     f"{entry['seconds']:.2f}", *ranges, f"{entry['downtime_qemu_ms']:.0f}",
                     f"{entry['guest_work_lost']:.0%}", str(entry["rounds"])])
    shape = min((entry["dirty_mb_s"], -entry["guest_mib"]) for entry in entries)
    shown = [entry for entry in entries if (entry["dirty_mb_s"], -entry["guest_mib"]) == shape]
    what = f"{-shape[1]} MiB, {shape[0]} MB/s written"
    for key, title, unit in (("gb_per_s", "Speed", "GB/s"), ("cpu_s_per_gb", "Processor time, both hosts", "CPU-s/GB"),
                             ("downtime_ms", "Downtime seen from outside", "ms")):
        _draw(key, svg.bars(f"{title}, {what}", unit, [
            (_label(entry), entry[key], entry["spread"][key][0], entry["spread"][key][3], entry["case"])
            for entry in shown]))
    failed = "".join(f"\n- {error['case']}, {error['channels']} ch., {error['guest_mib']} MiB, {error['dirty_mb_s']} MB/s: "
                     f"{error['error']}" for error in errors)
    table = _markdown(heads, rows) + (f"\n\nMigrations that failed in this run:\n{failed}" if failed else "")
    return {"comparison": table, "model": _markdown(list(model.HEADS), model.rows(shown))}


def _curves(entries, machine):
    tables = {}
    for name, (title, x_unit, figure, unit) in _CURVES.items():
        mine = [entry for entry in entries if entry["curve"] == name]
        if not mine:
            continue
        places = sorted({entry["x"] for entry in mine})
        series = {}
        for entry in mine:
            series.setdefault(entry["case"], []).append((entry["x"], entry[figure]))
        _draw(name, svg.lines(title, x_unit, unit, series))
        heads = [f"{unit}, at {x_unit}:"] + [str(x) for x in places]
        rows = [[case] + [f"{dict(points)[x]:.2f}" if x in dict(points) else "-" for x in places]
                for case, points in series.items()]
        rounds = max(entry["rounds"] for entry in mine)
        foreign = max(entry["foreign_cores"] for entry in mine)
        made = (f"{machine['cpu']}, a page fault {machine['page_fault_us']} µs; sealift {machine['sealift']}; "
                f"{'one round' if rounds == 1 else f'medians of {rounds} rounds'}. Cores busy with something else: "
                f"at most {foreign:.1f}.")
        tables[f"curve-{name}"] = f"![{title}](performance/{name}.svg)\n\n{_markdown(heads, rows)}\n\n{made}"
    return tables


def _profile(entries):
    return _markdown(profiler.HEADS, map(profiler.row, entries))


def _parts(parts):
    rows = [[part["name"]] + [f"{part[key]:.2f}" if key in part else "" for key in ("gb_per_s", "ms", "cpu_s_per_gb")]
            for part in parts]
    return _markdown(["part", "GB/s", "ms", "CPU-s/GB"], rows)
