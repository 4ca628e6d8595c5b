"""The side of the command: start workers, time them in turns, compare their magnitudes with the exact integral."""

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

#: Seconds that a worker may take to get ready, or for one repeat.
PATIENCE = 1200.0
#: Seconds of repeats after which a line is not repeated again (three times as many, to have three of them).
ENOUGH = 20.0
ROOT = pathlib.Path(__file__).resolve().parents[1]
#: Which module times a code, and which package must be there.
WORKERS = {
    "dspsx": ("benchmarks.ours", "dspsx"),
    "DSPS": ("benchmarks.peers.dsps", "dsps"),
    "diffsky": ("benchmarks.peers.diffsky", "diffsky"),
    "ceridwen": ("benchmarks.peers.ceridwen", "ceridwen"),
    "bagpipes": ("benchmarks.peers.bagpipes", "bagpipes"),
    "plain": ("benchmarks.peers.plain", "numpy"),
    "floor": ("benchmarks.peers.floor", "jax"),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One timing of one code. `kind` tells which lines compare: the ratio is to the first of dspsx's of the same kind."""

    code: str
    what: str
    task: str
    dtype: str = "float32"
    n: int = 1
    kind: str = "forward"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    problem: dict[str, Any] | None = None  # of its own, instead of the row's
    compare: bool = True  # with the exact integral
    quick: bool = True
    x: float | None = None  # where it stands on the axis of a row about scaling


@dataclasses.dataclass(frozen=True)
class Row:
    """Lines that belong together: dspsx beside its peers, in the same minutes."""

    title: str
    lines: Sequence[Line]
    problem: dict[str, Any] = dataclasses.field(default_factory=dict)
    in_turns: bool = True  # all workers alive at once; else one after the other, for large ones
    axis: str = ""  # what x is, of a row about scaling
    note: str = ""


@dataclasses.dataclass
class Settings:
    """What the command line says."""

    quick: bool = False
    precisions: tuple[str, ...] = ("float32", "float64")
    ssp: str | None = None
    cores: int | None = None
    peer_python: str | None = None
    repeats: int = 7
    check: int = 500

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


class _Worker:
    """A worker in a process of its own, that repeats when it is told to."""

    def __init__(self, session: "Session", line: Line, path: str | None, save: pathlib.Path | None):
        module, package = WORKERS[line.code]
        command = [
            session.python(package),
            "-m",
            module,
            "--task",
            line.task,
            "--dtype",
            line.dtype,
            "--n",
            str(line.n),
        ]
        command += ["--options", json.dumps(line.options), "--told", "--check", str(session.settings.check)]
        command += ["--least", "0.02" if session.settings.quick else "1.0"]
        command += ["--problem", path] if path else []
        command += ["--save", str(save)] if save else []
        command += ["--cores", str(session.settings.cores)] if session.settings.cores else []
        # several workers share an accelerator: none may take all of its memory beforehand
        env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ, "PYTHONWARNINGS": "ignore"}
        self.errors = (session.folder / f"{next(session.counter)}.err").open("w+")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, bufsize=1
        )
        self.times: list[float] = []
        session.workers.append(self)

    def hear(self) -> dict[str, Any]:
        """The next message; or why there is none, after `PATIENCE` seconds at most."""
        clock = threading.Timer(PATIENCE, self.process.kill)
        clock.start()
        text = self.process.stdout.readline()
        clock.cancel()
        if text:
            return json.loads(text)
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().splitlines() if line.strip()]
        if code in (-9, 137):
            return {"skip": "killed: out of time or of memory"}
        return {"skip": f"failed: {lines[-1][:300] if lines else f'exit status {code}'}"}

    def repeat(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
        answer = self.hear()
        if "s" in answer:
            self.times.append(answer["s"])

    def end(self) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        last = self.hear()
        self.process.wait()
        self.close()
        return last

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()


class Session:
    """One run: its problems, its exact answers, and what it found out about the machine."""

    def __init__(self, settings: Settings, folder: pathlib.Path):
        self.settings, self.folder, self.counter = settings, folder, itertools.count()
        self.workers: list[_Worker] = []
        self.problems: dict[str, str] = {}
        self.tables: dict[str, str | None] = {}
        self.references: dict[str, np.ndarray | None] = {}
        self.device: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.peer_versions: dict[str, str] = {}

    def close(self) -> None:
        """Leave no worker behind, however the run ended."""
        for worker in self.workers:
            worker.close()

    def python(self, package: str) -> str:
        """The interpreter that has a package: this one, or the one given for peers."""
        here = importlib.util.find_spec(package) is not None
        return sys.executable if here or not self.settings.peer_python else self.settings.peer_python

    def problem(self, spec: dict[str, Any]) -> str:
        """Path of a problem, written once, by a process of its own that leaves the accelerator alone."""
        key = json.dumps(spec, sort_keys=True)
        if key not in self.problems:
            path = str(self.folder / f"problem{len(self.problems)}.npz")
            env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
            command = [sys.executable, "-m", "benchmarks.problem", path, key]
            subprocess.run(command, cwd=ROOT, env=env, check=True)
            self.problems[key] = path
        return self.problems[key]

    def measure(self, row: Row) -> list[dict[str, Any]]:
        """Time the lines of a row; each becomes a dictionary for the JSON."""
        lines = [line for line in row.lines if line.quick or not self.settings.quick]
        if not row.in_turns and not self.settings.quick:
            return [self._in_turns(row, [line])[0] for line in lines]
        # values, then gradients: all of them at once would need too much memory
        kinds = dict.fromkeys(line.kind for line in lines)
        done = {id(x): y for k in kinds for x, y in self._timed_kind(row, [line for line in lines if line.kind == k])}
        return [done[id(line)] for line in lines]

    def _timed_kind(self, row: Row, lines: list[Line]) -> list[tuple[Line, dict[str, Any]]]:
        return list(zip(lines, self._in_turns(row, lines), strict=True))

    def _in_turns(self, row: Row, lines: list[Line]) -> list[dict[str, Any]]:
        start = lambda i: self._start(row, lines[i])  # noqa: E731
        workers, found = [], []
        # to quote, one compiles at a time; for a look, all at once
        if self.settings.quick:
            workers = [start(i) for i in range(len(lines))]
        for i in range(len(lines)):
            if not self.settings.quick:
                workers.append(start(i))
            found.append(workers[i][0].hear())
        pairs = zip(workers, found, strict=True)
        alive = [(worker, result["calls"]) for (worker, _), result in pairs if "skip" not in result]
        for _ in range(2 if self.settings.quick else self.settings.repeats):
            for worker, calls in alive:
                spent = sum(worker.times) * calls
                if spent < ENOUGH or (len(worker.times) < 3 and spent < 3 * ENOUGH):
                    worker.repeat()
        results = []
        for line, (worker, saved), result in zip(lines, workers, found, strict=True):
            if "skip" not in result:
                result |= worker.end()
            worker.close()
            self._learn(result, line)
            results.append(self._result(row, line, worker.times, result, saved))
        return results

    def _start(self, row: Row, line: Line) -> tuple[_Worker, pathlib.Path]:
        spec = line.problem or row.problem
        line = self._with_table(line, spec)
        saved = self.folder / f"{next(self.counter)}.npy"
        return _Worker(self, line, self.problem(spec) if spec else None, saved if line.compare else None), saved

    def _with_table(self, line: Line, spec: dict[str, Any]) -> Line:
        """The line, told where a table of its own is kept that was built once for all lines, in a process of its own."""
        keys = {"magnitudes": ("compress", "rank", "extra"), "tables": ("n_z",)}.get(line.task, ())
        how = {key: line.options[key] for key in keys if line.options.get(key)}
        if not (how.keys() - {"extra"}) and line.task != "tables":
            return line
        key = json.dumps([spec, line.code, line.dtype, how], sort_keys=True)
        if key not in self.tables:
            path = str(self.folder / f"{next(self.counter)}.table")
            options = {**how, "path": path}
            worker = _Worker(
                self, dataclasses.replace(line, task="store", n=1, options=options), self.problem(spec), None
            )
            worker.hear()
            worker.close()
            self.tables[key] = path if os.path.exists(path) else None
        stored = self.tables[key]
        return dataclasses.replace(line, options={**line.options, "stored": stored}) if stored else line

    def _learn(self, result: dict[str, Any], line: Line) -> None:
        versions = result.pop("versions", {})
        here = self.python(WORKERS[line.code][1]) == sys.executable
        (self.versions if here else self.peer_versions).update(versions)
        device = {key: result.pop(key) for key in ("device", "backend") if key in result}
        if line.code == "dspsx":
            self.device |= device

    def _result(self, row: Row, line: Line, times: list[float], result: dict[str, Any], saved: pathlib.Path) -> dict:
        out = dataclasses.asdict(line) | result
        if times:
            median = float(np.median(times))
            out |= {"times_s": times, "median_s": median, "min_s": min(times)}
            out["compile_s"] = max(result["first_s"] - median, 0.0)
        elif "skip" not in out:
            out["skip"] = "failed: it ended before it was timed"
        if "skip" not in out and saved.is_file():
            out |= self._errors(row, line, np.load(saved))
        return out

    def _errors(self, row: Row, line: Line, magnitudes: np.ndarray) -> dict[str, Any]:
        own = bool(line.options.get("own_redshift", False))
        changes = {key: line.options[key] for key in ("scatter",) if key in line.options}
        spec = line.problem or row.problem
        if line.task == "product":
            options = {"engine": "numpy"}
            return {"error": _summary(magnitudes, self._reference(spec, "plain", "product", options))}
        found = {}
        exact = {"own_redshift": own, "chunk": 50, **changes}
        if line.code != "dspsx" or line.dtype != "float64" or line.options.get("compress") or line.options.get("rank"):
            found["error"] = _summary(magnitudes, self._reference(spec, "dspsx", "magnitudes", exact))
        if line.code == "DSPS":
            reference = self._reference(spec, "dspsx", "dsps_scheme", {"own_redshift": own, "chunk": 50})
            found["error_own_weights"] = _summary(magnitudes, reference)
        return {key: value for key, value in found.items() if value}

    def _reference(self, spec: dict[str, Any], code: str, task: str, options: dict[str, Any]) -> np.ndarray | None:
        """Magnitudes of the first galaxies in float64, once for all lines that are compared with them."""
        key = json.dumps([spec, task, options], sort_keys=True)
        if key not in self.references:
            saved = self.folder / f"{next(self.counter)}.npy"
            line = Line(code, "reference", task, "float64", self.settings.check, options=options)
            worker = _Worker(self, line, self.problem(spec), saved)
            heard = worker.hear()
            worker.close()
            if "skip" in heard:
                print(f"no reference: {heard['skip']}", file=sys.stderr)
            self.references[key] = np.load(saved) if saved.is_file() else None
        return self.references[key]


def _summary(magnitudes: np.ndarray, reference: np.ndarray | None) -> dict[str, float] | None:
    """Errors in mmag over galaxies and bands; None where they do not compare."""
    if reference is None or magnitudes.ndim != 2 or magnitudes.shape[1] != reference.shape[1]:
        return None
    n = min(len(magnitudes), len(reference))
    error = 1e3 * np.abs(magnitudes[:n] - reference[:n])
    median, high = np.quantile(error, [0.5, 0.99])
    return {"median": float(median), "p99": float(high), "worst": float(error.max()), "galaxies": n}
