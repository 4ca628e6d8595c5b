"""Time dspsx beside its peers: `python -m benchmarks` prints one table and keeps it as JSON.

Each line is a process of its own (DSPS switches float64 on for its whole process, and a process has one peak of memory);
the processes of a row live at the same time and are timed in turns, compilation apart. Every peer is optional: a line
says which package is missing. On a machine with an accelerator the same command measures there, and names it;
JAX_PLATFORMS=cpu keeps it on the processor. A peer that lives in another environment is found with --peer-python.

    python -m benchmarks --quick                           # to see that all runs; small grids, not to quote
    python -m benchmarks --cores 2                         # what README quotes
    python -m benchmarks --only population redshifts       # some rows; --list names them
    python -m benchmarks --only spectrum --ssp bc03.h5     # another grid, in DSPS's format
    python -m benchmarks --report benchmarks/results/*.json     # writes RESULTS.md
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from benchmarks import cases, report, timing
from benchmarks.run import ROOT, Session, Settings

FOLDER = pathlib.Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run the rows, print and keep them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small grids, few galaxies, two repeats, fewer lines")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(cases.ROWS), help="only these rows")
    parser.add_argument("--list", action="store_true", help="name the rows and exit")
    parser.add_argument(
        "--json", metavar="PATH", help="where to keep the run (default: a new file in benchmarks/results)"
    )
    parser.add_argument("--precision", nargs="+", choices=("float32", "float64"), default=("float32", "float64"))
    parser.add_argument("--ssp", metavar="FILE", help="grid for the rows about spectra, in DSPS's HDF5 format")
    parser.add_argument("--cores", type=int, help="use only so many cores of the processor")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peer-python", metavar="PATH", help="interpreter that has the peers which this one has not")
    parser.add_argument(
        "--report", metavar="FILE.json", nargs="+", help="write RESULTS.md from runs that were kept, and exit"
    )
    parser.add_argument("--to", metavar="PATH", default=str(FOLDER / "RESULTS.md"), help="where --report writes")
    options = parser.parse_args(argv)
    if options.list:
        for name, make in cases.ROWS.items():
            print(f"{name:12} {make.__doc__}")
        return 0
    if options.report:
        runs = [json.loads(pathlib.Path(path).read_text()) for path in options.report]
        pathlib.Path(options.to).write_text(report.markdown(*runs))
        return 0
    settings = Settings(
        quick=options.quick,
        precisions=tuple(dict.fromkeys(options.precision)),
        ssp=os.path.abspath(options.ssp) if options.ssp else None,
        cores=options.cores,
        peer_python=options.peer_python,
        repeats=options.repeats,
        check=50 if options.quick else 500,
    )
    names = [name for name in cases.ROWS if not options.only or name in options.only]
    run = {
        "command": "python -m benchmarks " + " ".join(map(os.path.basename, sys.argv[1:] if argv is None else argv)),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": timing.machine(),
        "rows": [],
    }
    if options.cores:
        run["machine"]["cores"] = min(options.cores, run["machine"]["cores"])
    path = pathlib.Path(options.json) if options.json else None
    if path is None and not options.quick:
        path = FOLDER / "results" / f"{run['date'].replace(':', '')[:17]}.json"
    began = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception: what is below cleans up
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dspsx-benchmarks-"))
        session = stack.enter_context(contextlib.closing(Session(settings, pathlib.Path(folder))))
        print(report.text_head())
        for name in names:
            row = cases.ROWS[name](settings)
            if options.quick and not any(line.quick for line in row.lines):
                continue
            lines = session.measure(row)
            run["rows"].append({"name": name, "title": row.title, "axis": row.axis, "note": row.note, "lines": lines})
            print(report.text_row(run["rows"][-1]), flush=True)
            run |= {"device": session.device, "versions": session.versions, "peer_versions": session.peer_versions}
            run |= {"load_at_end": [round(x, 2) for x in os.getloadavg()], "took_s": time.perf_counter() - began}
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(run, indent=1) + "\n")
    machine = run["machine"]
    print(report.LEGEND)
    print(
        f"{run['device'].get('device', 'no device known')}; {machine['cpu']}, {machine['cores']} core(s); "
        f"{run['took_s']:.0f} s" + (f"; kept in {path}" if path else "")
    )
    failed = [line for row in run["rows"] for line in row["lines"] if line.get("skip", "").startswith("failed")]
    return 1 if failed else 0


def commit() -> str:
    """The commit that was timed, with a mark where files differ from it."""
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
