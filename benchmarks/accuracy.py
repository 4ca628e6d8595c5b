"""Compressed photometry against the exact integral, of galaxies that its certificate has not seen.

    python -m benchmarks.accuracy                                        # 25 bands on the embedded grid, 0 < z < 6
    python -m benchmarks.accuracy --ssp bc03.h5                          # another grid, in DSPS's HDF5 format
    python -m benchmarks.accuracy --bands 'lsst_*' --redshift 0.05 2.5

Galaxies (diffstar histories, a lognormal distribution of metallicity, the dust of Salim et al. 2018) are drawn from the whole box
of the free parameters, one parameter in ten on a bound, uniformly in ln(1 + z). Printed are the errors of their magnitudes, and of
the derivatives of these with respect to redshift, the distance included; both sides in float32. Left out are bands blueward of
the Lyman limit, and those without light (above 80 mag). The status is 1 if a magnitude is over the tolerance.
"""

import argparse
from typing import Any

import equinox as eqx
import numpy as np

import dspsx
from dspsx.compressed.errors import Validation, with_slopes, with_slopes_of_table
from dspsx.compressed.examples import each_galaxy

BANDS = ("lsst_*", "roman_*", "euclid_*", "twomass_*", "wise_w1", "wise_w2", "galex_*")
#: Derivatives are compared where they are at least so large, in mag per unit of redshift: relative errors have no bound where
#: a derivative changes sign.
LEAST_SLOPES = (0.0, 0.1, 0.5, 1.0)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, compress, compare and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ssp", metavar="FILE", help="grid in DSPS's HDF5 format (default: the embedded one)")
    parser.add_argument("--bands", nargs="+", metavar="GLOB", default=BANDS)
    parser.add_argument("--redshift", nargs=2, type=float, default=(0.0, 6.0), metavar=("LOWEST", "HIGHEST"))
    parser.add_argument("--galaxies", type=int, default=2000)
    parser.add_argument("--tol", type=float, default=1e-3, help="mag")
    parser.add_argument("--seed", type=int, default=20261129)
    options = parser.parse_args(argv)
    if options.galaxies < 1 or options.seed < 0:
        parser.error(f"--galaxies must be positive, --seed not negative; got {options.galaxies} and {options.seed}")
    try:
        ssp = dspsx.SSPGrid.from_hdf5(options.ssp) if options.ssp else dspsx.SSPGrid.default()
        galaxy = dspsx.GalaxySEDModel(ssp=ssp, dust=dspsx.Salim18(), filters=dspsx.FilterSet.load(options.bands))
        small = galaxy.compress(redshift=tuple(options.redshift), tol=options.tol)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(ssp.brief())
    print(small.ssp.certificate.brief())
    print(small.ssp.certificate.model)
    found = compare(galaxy, small, options.galaxies, options.seed)
    print(report(*found, small.filters.names, 1e3 * options.tol))
    return int((~(np.abs(found[2]) <= 1e3 * options.tol) & ~np.isnan(found[1])).any())


def compare(galaxy: Any, small: Any, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Redshifts of n galaxies; their exact magnitudes (galaxy, band), NaN for what is left out; compressed less exact ones in
    mmag; and the derivatives of both with respect to redshift (2, galaxy, band), the exact ones first."""
    # drawn, and left out, as by a certificate, of which this is no seed
    drawn = Validation(galaxy, *small.ssp.certificate.redshift, None, n, [seed, 1])
    exact, slope = each_galaxy(with_slopes, drawn.galaxies, 20)
    found, found_slope = each_galaxy(with_slopes_of_table, eqx.tree_at(lambda g: g.ssp, drawn.galaxies, small.ssp), 20)
    z, error = np.asarray(drawn.galaxies.redshift, float), 1e3 * (found - exact)
    # an exact magnitude that is NaN would count, and be off without bound
    exact = np.where(drawn.blue | (drawn.dark & (found > 80.0)), np.nan, np.nan_to_num(exact))
    return z, exact, error, np.stack([slope, found_slope])


def report(
    z: np.ndarray, exact: np.ndarray, error: np.ndarray, slopes: np.ndarray, names: tuple[str, ...], tol: float
) -> str:
    """What `compare` found, in words, with the tolerance in mmag."""
    counts = ~np.isnan(exact)
    if not counts.any():
        return "no magnitude counts: every band is blueward of the Lyman limit or without light."
    # what is no number counts as off without bound, and must not be averaged with its neighbours
    off, difference = (np.where(np.isfinite(x), np.abs(x), np.inf) for x in (error, slopes[1] - slopes[0]))
    quantile = lambda x, q: np.quantile(x[counts], q, method="higher")  # noqa: E731
    rows = [
        f"magnitudes: {counts.sum()} of {counts.size} count; over {tol:g} mmag: {(off[counts] > tol).sum()}; worst "
        f"{off[counts].max():.3g}, 99 % within {quantile(off, 0.99):.2g}, median {quantile(off, 0.5):.2g} mmag"
    ]
    over = np.argwhere(counts & (off > tol))
    for i, b in sorted(over.tolist(), key=lambda at: -off[tuple(at)])[:10]:
        rows.append(f"  {names[b]} at z = {z[i]:.3f}: {error[i, b]:.3g} mmag of a magnitude of {exact[i, b]:.1f}")
    slope = np.abs(slopes[0])
    rows.append("derivatives with respect to redshift, in mag per unit of redshift:")
    rows.append(
        f"  off by {difference[counts].max():.2g} at worst, 99 % by no more than {quantile(difference, 0.99):.2g}, "
        f"median {quantile(difference, 0.5):.2g}"
    )
    for least in LEAST_SLOPES:
        some = counts & ~(slope < least)
        if some.any():
            beyond = (difference[some] > 0.01 * slope[some]).sum()
            rows.append(f"  of {some.sum()} of at least {least:g}, {beyond} are off by more than 1 %")
    rows.append(f"  {(difference[counts] > 0.01).sum()} of all are off by more than 0.01")
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
