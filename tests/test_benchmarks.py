"""The benchmarks run and keep what they measured; no time is asserted."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import accuracy, report
from benchmarks.__main__ import main

ROOT = pathlib.Path(__file__).parents[1]


def line(code, what, median, **more):
    base = {"code": code, "what": what, "dtype": "float32", "n": 1000, "kind": "forward", "x": None, "facts": {}}
    return base | {"median_s": median, "min_s": 0.9 * median, "compile_s": 1.5, "peak_mb": 200.0} | more


def sample():
    """A run as it is kept: values, a gradient, a peer with errors, one that is missing, and a row about scaling."""
    gradient = {"kind": "gradient"}
    error = {"median": 0.02, "p99": 0.5, "worst": 1.25, "galaxies": 50}
    rows = [
        {
            "name": "population",
            "title": "Population",
            "axis": "",
            "note": "",
            "lines": [
                line("dspsx", "compressed", 0.010, error=error, facts={"certificate": "60 nodes"}),
                line("DSPS", "tables", 0.150, dtype="float64", error=error, error_own_weights=error),
                line("dspsx", "compressed, gradient", 0.025, **gradient),
                line("DSPS", "tables, gradient", 0.5, dtype="float64", **gradient),
                line("bagpipes", "update()", 1.0) | {"skip": "needs the package bagpipes"},
            ],
        },
        {
            "name": "large",
            "title": "Many more",
            "axis": "galaxies",
            "note": "a note",
            "lines": [line("dspsx", "compressed", 1e-5 * x, n=x, x=float(x)) for x in (1000, 10_000)],
        },
    ]
    machine = {
        "cpu": "a processor",
        "cores": 2,
        "memory_gb": 8.0,
        "load": [0.1, 0.2, 0.3],
        "platform": "Linux",
        "python": "3",
    }
    run = {"command": "python -m benchmarks", "date": "2026-01-01", "commit": "abc", "machine": machine, "rows": rows}
    return run | {
        "device": {"device": "cpu", "backend": "cpu"},
        "versions": {"jax": "0.10"},
        "load_at_end": [0.1, 0.1, 0.1],
    }


def test_report(tmp_path):
    """RESULTS.md of a run: ratios, gradients over values, errors, slopes, and why a line is missing."""
    path, out = tmp_path / "run.json", tmp_path / "RESULTS.md"
    path.write_text(json.dumps(sample()))
    assert main(["--report", str(path), "--to", str(out)]) == 0
    text = out.read_text()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]
    assert all(len(row) == len(report.HEAD) for row in cells)
    by_name = {(row[0], row[1]): dict(zip(report.HEAD, row, strict=True)) for row in cells}
    ours, peer = by_name["dspsx", "compressed, gradient"], by_name["DSPS", "tables"]
    assert (ours["x dspsx"], ours["grad / fwd"], ours["per galaxy"]) == ("1", "2.50", "25.0 us")
    assert (peer["x dspsx"], peer["error mmag"], peer["type"]) == ("15.0", "0.0200 / 1.25", "f64")
    for note in ("needs the package bagpipes", "60 nodes", "a note", "log galaxies: dspsx, compressed, float32: 1.00"):
        assert note in text, note
    for row in sample()["rows"]:
        assert row["title"] in report.text_row(row)


def test_list(capsys):
    """Every row has a name and says what it is."""
    assert main(["--list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) > 10 and all(len(row.split(maxsplit=1)) == 2 for row in rows)


@pytest.mark.xdist_group("slow")
def test_quick_run(tmp_path):
    """One cheap row that needs no peer: the command runs, prints its table and keeps valid JSON."""
    kept = tmp_path / "run.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "matmul", "--json", str(kept)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(kept.read_text())
    assert result["machine"]["cores"] >= 1 and "jax" in result["versions"] and result["commit"]
    (row,) = result["rows"]
    assert all("skip" not in x for x in row["lines"]), row
    # float32 products of positive numbers
    assert all(x["min_s"] > 0 and x["peak_mb"] > 10 and x["error"]["worst"] < 1.0 for x in row["lines"])
    assert "jax.numpy, precision highest" in run.stdout
    assert "# Results" in report.markdown(result)


@pytest.mark.xdist_group("slow")
def test_accuracy(capsys):
    """Galaxies with dust that the certificate has not seen are within the tolerance, and their derivatives within 1 %."""
    options = ["--bands", "lsst_g", "lsst_i", "--redshift", "0.4", "0.45", "--galaxies", "40"]
    assert accuracy.main(options) == 0
    out = capsys.readouterr().out
    assert "Certificate(2 bands, 0.4 < z < 0.45" in out
    assert "dust=Salim18" in out
    worst = re.search(r"magnitudes: 80 of 80 count; over 1 mmag: 0; worst (\S+),", out)
    assert worst and 1e-3 < float(worst[1]) < 1.0
    some = re.search(r"of (\d+) of at least 1, (\d+) are off by more than 1 %", out)
    assert some and int(some[1]) > 40 and int(some[2]) == 0


@pytest.mark.parametrize(
    "options, told",
    [
        (["--bands", "lsst_gg"], "no embedded filter"),
        (["--ssp", "nowhere.h5"], "nowhere.h5"),
        (["--redshift", "2", "1"], "the lower first"),
        (["--tol", "0"], "tol must be"),
        (["--seed", "-1"], "--seed not negative"),
    ],
)
def test_accuracy_of_nothing(options, told, capsys):
    """Bad input is told in a line."""
    with pytest.raises(SystemExit) as raised:
        accuracy.main(options)
    assert raised.value.code == 2 and told in capsys.readouterr().err


def test_accuracy_tells_what_is_off():
    """A magnitude beyond the tolerance, one that is NaN, one that is left out, and a derivative that is off by 2 %."""
    exact = np.array([[20.0, 21.0], [22.0, np.nan]])
    error = np.array([[0.1, -1.5], [np.nan, np.nan]])
    slopes = np.array([[[2.0, 0.3], [1.0, 1.0]], [[2.04, 0.3], [1.0, 5.0]]])
    text = accuracy.report(np.array([0.5, 1.0]), exact, error, slopes, ("u", "g"), 1.0)
    assert "3 of 4 count; over 1 mmag: 2; worst inf" in text
    assert "g at z = 0.500: -1.5 mmag of a magnitude of 21.0" in text and "u at z = 1.000: nan" in text
    assert "off by 0.04 at worst" in text and "of 2 of at least 0.5, 1 are off" in text
    assert "no magnitude counts" in accuracy.report(
        np.zeros(2), np.full((2, 2), np.nan), error, slopes, ("u", "g"), 1.0
    )
