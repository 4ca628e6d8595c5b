"""A run as text: the one table of the command, and RESULTS.md."""

import math
from typing import Any

HEAD = (
    "code",
    "what",
    "type",
    "galaxies",
    "per galaxy",
    "best",
    "compile s",
    "peak MB",
    "x dspsx",
    "grad / fwd",
    "error mmag",
    "own weights",
)
_WIDTHS = (8, 42, 4, 8, 9, 9, 9, 8, 8, 10, 15, 15)
LEGEND = (
    "per galaxy: median (best: least) of several repeats, compilation apart. x dspsx: this time over that of the first line "
    "of dspsx that does the same. error: median / worst over galaxies and bands against the exact integral in float64; "
    "own weights: against the same integral with DSPS's definition of the weights, so that only its photometry counts."
)


def seconds(s: float | None) -> str:
    """A time with its unit, three digits."""
    if s is None or not math.isfinite(s):
        return "-"
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if s * scale < 999.5:
            return f"{digits(s * scale)} {unit}"
    return f"{digits(s)} s"


def digits(x: float) -> str:
    """Three significant digits without exponents."""
    if x == 0 or not math.isfinite(x):
        return f"{x:.0f}"
    return f"{x:.{max(0, 2 - math.floor(math.log10(abs(x))))}f}"


def count(n: int) -> str:
    exponent = round(math.log10(n)) if n else 0
    return f"10^{exponent}" if n >= 10_000 and n == 10**exponent else str(n)


def cells(line: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    """The cells of one line, given all lines of its row."""
    n = line["n"]
    per = line["median_s"] / n
    base = next((x for x in lines if x["code"] == "dspsx" and _same(x, line)), None)
    forward = next((x for x in lines if line["kind"] == "gradient" and _forward_of(x, line)), None)
    return [
        line["code"],
        line["what"],
        {"float32": "f32", "float64": "f64"}[line["dtype"]],
        count(n),
        seconds(per),
        seconds(line["min_s"] / n),
        digits(line["compile_s"]),
        f"{max(line['peak_mb'], line.get('device_peak_mb', 0)):.0f}",
        "1" if line is base else digits(per / (base["median_s"] / base["n"])) if base else "-",
        digits(per / (forward["median_s"] / forward["n"])) if forward else "-",
        _error(line.get("error")),
        _error(line.get("error_own_weights")),
    ]


def _same(x: dict, line: dict) -> bool:
    return "skip" not in x and x["kind"] == line["kind"] and x["x"] == line["x"]


def _forward_of(x: dict, line: dict) -> bool:
    alike = all(x[key] == line[key] for key in ("code", "dtype", "x"))
    return "skip" not in x and alike and x["kind"] == "forward" and x["what"] == line["what"].removesuffix(", gradient")


def _error(error: dict[str, float] | None) -> str:
    return "-" if not error else f"{_mmag(error['median'])} / {_mmag(error['worst'])}"


def _mmag(x: float) -> str:
    return f"{x:.1e}" if 0 < x < 0.001 else digits(x)


def slopes(row: dict[str, Any]) -> list[str]:
    """Slope of log time over log of the row's axis for each code, type and kind, by least squares."""
    if not row["axis"]:
        return []
    series: dict[tuple, list[tuple[float, float]]] = {}
    for line in row["lines"]:
        if "skip" not in line and line["x"]:
            key = (line["code"], line["what"], line["dtype"])
            series.setdefault(key, []).append((math.log(line["x"]), math.log(line["median_s"])))
    found = []
    for (code, what, dtype), points in series.items():
        if len(points) < 2:
            continue
        mx, my = (sum(p[i] for p in points) / len(points) for i in range(2))
        slope = sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)
        found.append(f"slope of log time over log {row['axis']}: {code}, {what}, {dtype}: {slope:.2f}")
    return found


def notes(row: dict[str, Any]) -> list[str]:
    """What cannot be a number in the table: lines that were skipped, certificates, compilations, slopes."""
    found = [row["note"]] if row["note"] else []
    told = set()
    for line in row["lines"]:
        name = f"{line['code']}, {line['what']}, {line['dtype']}"
        if "skip" in line:
            found.append(f"{name}: skipped: {line['skip']}")
        if line.get("prepare_s", 0) > 10:
            found.append(f"{name}: getting ready took {line['prepare_s']:.0f} s")
        for key, value in line.get("facts", {}).items():
            # the same table serves many lines
            fact = (line["code"], line["dtype"], key, str(value))
            if fact not in told:
                found.append(f"{name}: {key.replace('_', ' ')}: {digits(value) if isinstance(value, float) else value}")
            told.add(fact)
    return found + slopes(row)


def text_head() -> str:
    """Head of the table in a terminal."""
    line = "  ".join(
        cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(HEAD, _WIDTHS, strict=True))
    )
    return line + "\n" + "-" * len(line)


def text_row(row: dict[str, Any]) -> str:
    """A row in a terminal: its title, its lines, its notes."""
    out = [f"[{row['name']}] {row['title']}"]
    for line in row["lines"]:
        if "skip" in line:
            continue
        parts = zip(cells(line, row["lines"]), _WIDTHS, strict=True)
        out.append("  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(parts)))
    return "\n".join(out + ["    " + note.replace("\n", "\n    ") for note in notes(row)]) + "\n"


def markdown(*runs: dict[str, Any]) -> str:
    """RESULTS.md of one run or several."""
    out = ["# Results of `python -m benchmarks`", "", LEGEND[0].upper() + LEGEND[1:], ""]
    for run in runs:
        for row in run["rows"]:
            out += [f"## {row['title']}", ""]
            timed = [line for line in row["lines"] if "skip" not in line]
            if timed:
                out += ["| " + " | ".join(HEAD) + " |"]
                out += ["|" + "|".join([" --- "] * 3 + [" ---: "] * (len(HEAD) - 3)) + "|"]
                out += ["| " + " | ".join(cells(line, row["lines"])) + " |" for line in timed]
                out.append("")
            out += [f"- {note}".replace("\n", "\n  ") for note in notes(row)]
            out += [""] if notes(row) else []
        out += [_made_by(run), ""]
    return "\n".join(out).rstrip() + "\n"


def _made_by(run: dict[str, Any]) -> str:
    """Command, commit, machine and versions of a run."""
    m = run["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in sorted({**run.get("peer_versions", {}), **run["versions"]}.items()))
    return (
        f"*Made by `{run['command']}` on {run['date']}, at commit {run['commit']}, on {run['device'].get('device', 'unknown')} "
        f"({run['device'].get('backend', 'unknown')}): {m['cpu']}, {m['cores']} core(s), {m['memory_gb']} GB; load average "
        f"{m['load'][0]} at the start, {run['load_at_end'][0]} at the end; {m['platform']}, Python {m['python']}; {versions}.*"
    )
