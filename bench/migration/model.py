"""What a faster network and a larger guest would take, computed from the processor time measured per gigabyte."""

_LINKS_GBIT = (25, 100)
_TERABYTE_GB = 1000.0
_CORES_PER_HOST = 8
# Of a link's rate: TCP, IPv4 and Ethernet around 1448 bytes of payload in each frame of 1538 on the wire.
_PAYLOAD_SHARE = 1448 / 1538
HEADS = ("case", "link Gb/s", "CPU-s/GB", "cores per host for the whole link",
         f"GB/s with {_CORES_PER_HOST} cores a host", "1 TB in")


def rows(entries):
    """One row per case and link; of a case with several numbers of channels, the one that costs least."""
    cheapest = {}
    for entry in entries:
        best = cheapest.get(entry["case"])
        if best is None or entry["cpu_s_per_gb"] < best["cpu_s_per_gb"]:
            cheapest[entry["case"]] = entry
    return [_row(entry, link) for entry in cheapest.values() for link in _LINKS_GBIT if entry["cpu_s_per_gb"] > 0]


def _row(entry, link):
    per_host = entry["cpu_s_per_gb"] / 2
    line_rate = link / 8 * _PAYLOAD_SHARE
    rate = min(line_rate, _CORES_PER_HOST / per_host)
    limit = "link" if rate == line_rate else "processor"
    return [entry["case"], str(link), f"{entry['cpu_s_per_gb']:.2f}", f"{line_rate * per_host:.1f}",
            f"{rate:.1f} ({limit})", _minutes(_TERABYTE_GB / rate)]


def _minutes(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"
