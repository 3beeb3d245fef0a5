"""The parts of a migration without a guest: sealift-benchmarks (bench/parts), and iperf3 in the same run."""

import json
import os
import pathlib
import subprocess
import sys

import harness
from results import text_table

_REPETITIONS = 3
_IPERF_SECONDS = 3
_IPERF_CONNECTIONS = (1, 2, 4)


def measure():
    """{"parts": [{"name", "gb_per_s" or "ms", ...}]}, medians; prints a table."""
    stage = harness.Stage()
    try:
        parts = [_iperf(stage, connections) for connections in _IPERF_CONNECTIONS] + _benchmarks(stage)
    finally:
        stage.close()
    print(text_table([["part", "GB/s", "ms", "CPU-s/GB"]] + [_row(part) for part in parts]))
    return {"parts": parts, "results": []}


def _row(part):
    return [part["name"]] + [f"{part[key]:.2f}" if key in part else "" for key in ("gb_per_s", "ms", "cpu_s_per_gb")]


def _benchmarks(stage):
    out = stage.dir / "benchmarks.json"
    subprocess.run([harness.binary("sealift-benchmarks"), f"--benchmark_repetitions={_REPETITIONS}",
                    "--benchmark_report_aggregates_only=true", "--benchmark_out_format=json",
                    f"--benchmark_out={out}"], check=True, stdout=sys.stderr)
    found = json.loads(out.read_text(encoding="utf-8"))["benchmarks"]
    return [_part(entry) for entry in found if entry.get("aggregate_name") == "median"]


def _part(entry):
    name = entry["run_name"].removeprefix("BM_")
    for noise in ("/real_time", "/manual_time"):
        name = name.replace(noise, "")
    if "bytes_per_second" not in entry:
        return {"name": name, "ms": entry["real_time"], "pages": entry["pages"]}
    part = {"name": name, "gb_per_s": entry["bytes_per_second"] / 1e9}
    if "cpu_s_per_gb" in entry:
        part["cpu_s_per_gb"] = entry["cpu_s_per_gb"]
    return part


def _iperf(stage, connections):
    """What iperf3 moves over loopback; both of its ends are single threads."""
    port = harness.free_port()
    server = stage.start(f"iperf3-{port}", ["iperf3", "--server", "--one-off", "--bind", "127.0.0.1", "--port", port])
    harness.wait_for(lambda: _listening(port), 10, "iperf3 to listen")
    before = os.times()
    result = subprocess.run(["iperf3", "--client", "127.0.0.1", "--port", str(port), "--parallel", str(connections),
                             "--time", str(_IPERF_SECONDS), "--json"], check=True, capture_output=True, text=True)
    server.wait(20)
    after = os.times()
    end = json.loads(result.stdout)["end"]
    gigabytes = end["sum_received"]["bytes"] / 1e9
    cpu = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return {"name": f"iperf3/connections:{connections}", "gb_per_s": end["sum_received"]["bits_per_second"] / 8e9,
            "cpu_s_per_gb": cpu / gigabytes}


def _listening(port):
    return f"0100007F:{port:04X} 00000000:0000 0A" in pathlib.Path("/proc/net/tcp").read_text(encoding="ascii")
