"""Samples become medians, JSON and a table."""

import os
import pathlib
import statistics
import subprocess

from meter import page_fault_microseconds, touch_seconds_per_gib
from warm import host_takes_free_memory

_FIGURES = ("gb_per_s", "cpu_s_per_gb", "downtime_ms", "downtime_reported_ms", "longest_silence_ms", "seconds",
            "copy_seconds", "copy_gb_per_s", "guest_work_lost", "usual_gap_ms", "iterations", "foreign_cores")
_PACKAGES = ("qemu-system-x86", "libgnutls30", "libssl3", "openssh-server", "stunnel4", "libipsec-mb-dev")


def result(case, shape, samples):
    """One entry of "results": medians, and [least, lower quartile, upper quartile, most] of each under "spread"."""
    values = {name: [getattr(sample, name) for sample in samples] for name in _FIGURES}
    entry = {"case": case.name, "channels": case.channels, "guest_mib": shape.fill_mib,
             "dirty_mb_s": shape.dirty_mb_s, "rounds": len(samples)}
    entry |= {name: _rounded(statistics.median(each)) for name, each in values.items()}
    entry["downtime_qemu_ms"] = entry.pop("downtime_reported_ms")
    entry["gb"] = _rounded(statistics.median(sample.gb for sample in samples))
    entry["wire_gb"] = _rounded(statistics.median(sample.wire_gb for sample in samples))
    entry["spread"] = {name: spread(values[name]) for name in ("gb_per_s", "cpu_s_per_gb", "downtime_ms", "seconds")}
    return entry


def results(suite):
    """The entries of a Suite, in the order of its cases."""
    return [result(case, shape, samples) for (case, shape), samples in suite.samples.items() if samples]


def spread(values):
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return [_rounded(value) for value in (min(values), quartiles[0], quartiles[2], max(values))]


def _rounded(value):
    return round(value, 4)


def machine(lab, shmem):
    """What the figures depend on."""
    capabilities = lab.cluster.json("host", "show", "a")["capabilities"]
    memory = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").split()[1]
    return {"cpu": capabilities["cpu_model"], "cpus": os.cpu_count(), "memory_mib": int(memory) >> 10,
            "kernel": os.uname().release, "qemu": capabilities["qemu_version"],
            "accelerator": capabilities["accelerator"], "aead_backend": capabilities["aead_backend"],
            "shmem_enabled": shmem, "touch_s_per_gib": round(touch_seconds_per_gib(), 2),
            "page_fault_us": round(page_fault_microseconds(), 1),
            "memory_kept_warm": host_takes_free_memory(), "packages": _versions(),
            "sealift": _commit()}


def _versions():
    found = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *_PACKAGES], capture_output=True,
                           text=True, check=False).stdout
    return dict(line.split() for line in found.splitlines() if len(line.split()) == 2)


def _commit():
    folder = pathlib.Path(__file__).resolve().parent
    return subprocess.run(["git", "-C", folder, "describe", "--always", "--dirty"], capture_output=True, text=True,
                          check=False).stdout.strip()


COLUMNS = (("case", "case", "{}"), ("ch.", "channels", "{}"), ("MiB", "guest_mib", "{}"), ("MB/s", "dirty_mb_s", "{}"),
           ("s", "seconds", "{:.2f}"), ("GB/s", "gb_per_s", "{:.2f}"), ("CPU-s/GB", "cpu_s_per_gb", "{:.2f}"),
           ("downtime ms", "downtime_ms", "{:.0f}"), ("by QEMU", "downtime_qemu_ms", "{:.0f}"),
           ("work lost", "guest_work_lost", "{:.0%}"), ("rounds", "rounds", "{}"))


def cells(entry, columns=COLUMNS):
    return [form.format(entry[key]) for _, key, form in columns]


def text_table(rows):
    """Rows of cells, the first of them the heads: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in
                                                           zip(row[1:], widths[1:])]) for row in rows)


def table(entries):
    return text_table([[head for head, _, _ in COLUMNS]] + [cells(entry) for entry in entries])
