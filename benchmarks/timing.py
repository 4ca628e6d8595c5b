"""The side of a worker: compile, run, remember how long and how much memory it took. Needs NumPy alone.

A worker is one process with one task: DSPS switches float64 on for its whole process, and a process has only one peak
of memory. It prepares, makes the first call (which compiles), says so on standard output in one line of JSON, and then
either repeats by itself or waits to be told when, so that workers can be timed in turns.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import problem as problems

PACKAGES = (
    *("dspsx", "jax", "jaxlib", "equinox", "numpy", "scipy"),
    *("dsps", "diffmah", "diffstar", "diffsky", "ceridwen", "bagpipes"),
)


class Skip(Exception):
    """A task that cannot be done here; the text says why."""


@dataclasses.dataclass
class Timed:
    """What a task prepares: the call to be timed, and how to get (galaxy, band) magnitudes out of what it returns."""

    call: Callable[[], Any]
    magnitudes: Callable[[Any], Any] | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def batch_size(chunk: int, n: int) -> int:
    """How many of n galaxies JAX works on at a time: what suits a processor's caches is too little for an accelerator."""
    import jax

    return min(chunk if jax.default_backend() == "cpu" else 20 * chunk, n)


def serve(tasks: dict[str, Callable[..., Timed]]) -> None:
    """Be a worker: read the command line, prepare the task of that name, time it."""
    parser = argparse.ArgumentParser(description="one timing in a process of its own; prints JSON lines")
    parser.add_argument("--task", choices=sorted(tasks), required=True)
    parser.add_argument("--problem", help="file that benchmarks.problem wrote")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--n", type=int, default=1, help="galaxies")
    parser.add_argument("--options", default="{}", help="JSON of further arguments of the task")
    parser.add_argument("--save", help="write the magnitudes of the first galaxies to this .npy")
    parser.add_argument("--check", type=int, default=500, help="of how many galaxies")
    parser.add_argument("--cores", type=int, help="use only so many")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.2, help="seconds that one repeat lasts at least")
    parser.add_argument("--told", action="store_true", help="repeat when told to, a line on standard input each")
    args = parser.parse_args()
    say = _private_output()
    if args.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    try:
        problem = problems.load(args.problem) if args.problem else None
        before = time.perf_counter()
        timed = tasks[args.task](problem, args.dtype, args.n, **json.loads(args.options))
        prepared = time.perf_counter() - before
    except ModuleNotFoundError as error:
        if "benchmarks" in str(error.name):
            raise
        return say({"skip": f"needs the package {error.name}"})
    except Skip as reason:
        return say({"skip": str(reason)})
    base = peak_mb()
    first, output = _seconds(timed.call)
    if args.save and timed.magnitudes is not None:
        np.save(args.save, np.asarray(timed.magnitudes(output), float)[: args.check])
    del output
    second = _seconds(timed.call)[0] if first < 20 else first
    calls = int(np.clip(np.ceil(args.least / max(second, 1e-7)), 1, 10_000))
    say({"first_s": first, "prepare_s": prepared, "calls": calls, "facts": timed.facts} | _versions() | _device())

    def repeat() -> float:
        return sum(_seconds(timed.call)[0] for _ in range(calls)) / calls

    if args.told:
        for _ in sys.stdin:
            say({"s": repeat()})
    else:
        for _ in range(args.repeats):
            say({"s": repeat()})
    say({"peak_mb": peak_mb(), "base_mb": base} | _device_memory())


def _private_output() -> Callable[[dict], None]:
    """Keep standard output for JSON lines: whatever a library prints goes to standard error."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: dict) -> None:
        stream.write(json.dumps(message) + "\n")
        stream.flush()

    return say


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    output = call()
    if "jax" in sys.modules:
        sys.modules["jax"].block_until_ready(output)
    return time.perf_counter() - start, output


def peak_mb() -> float:
    """Largest resident memory of this process, in MB.

    Linux's VmHWM where there is one: ru_maxrss of a fresh process begins with what its parent held.
    """
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1.024e-3
    except (OSError, StopIteration):
        scale = 1e-6 if sys.platform == "darwin" else 1.024e-3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _device() -> dict:
    jax = sys.modules.get("jax")
    if jax is None:
        return {"device": "NumPy"}
    device = jax.devices()[0]
    return {"device": device.device_kind, "backend": device.platform}


def _device_memory() -> dict:
    """Peak memory on an accelerator, where JAX knows it."""
    jax = sys.modules.get("jax")
    stats = jax.devices()[0].memory_stats() if jax is not None else None
    return {"device_peak_mb": stats["peak_bytes_in_use"] * 1e-6} if stats and "peak_bytes_in_use" in stats else {}


def _versions() -> dict:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": found}


def machine() -> dict:
    """Where a run is made: CPU, cores, memory, load."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "platform": platform.platform(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "load": [round(x, 2) for x in os.getloadavg()],
    }
