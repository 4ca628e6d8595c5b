"""Build dspsx/data/filters.h5, the embedded transmission curves, thinned to the precision of photometry.

    python tools/build_filters.py [--out dspsx/data/filters.h5] [--ssp dspsx/data/ssp_popstar_chabrier.h5]

Needs speclite (BSD-3) and astro-sedpy (MIT), which carry the curves, and the SSP grid, whose spectra judge
the thinning. A curve is piecewise linear and counts photons: the AB magnitude of a spectrum is that of its
mean flux density int T f_nu dlambda/lambda / int T dlambda/lambda.
"""

import argparse
import datetime
import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

TARGET_MMAG = 0.2  # what the thinning aims at, on spectra of its own
LIMIT_MMAG = 0.5  # what the validation, on other spectra, may not exceed
SHAPE = 2.5e-3  # largest pointwise error over the peak: protects narrow lines, which no smooth spectrum tests
TAIL = 1e-4  # tails below this fraction of the peak go, if the magnitudes allow it

# -------------------------------------------------------------------------------- the curves
# Detector types, as checked against the headers of the sources and against each other:
# - Bessell: speclite's table is Bessell (1990) as printed, which is an energy response. sedpy's is the same
#   divided by wavelength: the photon response (pivots of U B V R I lower by 14-58 A). We take sedpy's.
# - 2MASS: Cohen+2003's curves multiply energy. Both packages hold them divided by wavelength (peak 1e-4).
# - WISE: Wright+2010 is response per photon (peaks 0.88, 0.75, 0.42, 0.30), not the variant times lambda of
#   Jarrett+2011.
# - IRAC: electrons per photon (IRSA). GALEX, Roman: effective areas (cm2, m2). VISTA: per cent.
# - the rest: throughput or quantum efficiency of photon counters. No curve needed a conversion here.

SURVEYS = {
    "lsst": ("lsst2023-{}", "u g r i z y", "Rubin LSSTCam, throughputs 1.9, airmass 1.2; Ivezic+2019"),
    "sdss": ("sdss2010-{}", "u g r i z", "SDSS imager, airmass 1.3; Doi+2010 AJ 139 1628"),
    "decam": ("decamDR1-{}", "g r i z Y", "Blanco DECam, airmass 1.2; Abbott+2018 ApJS 239 18"),
    "decam ": ("decam2014-{}", "u", "Blanco DECam, airmass 1.3; W. Wester 2014"),
    "hsc": ("hsc2017-{}", "g r r2 i i2 z y", "Subaru HSC, airmass 1.2; Kawanomoto+2018 PASJ 70 66"),
    "ps1": ("panstarrs-{}", "g r i z y w", "Pan-STARRS1, airmass 1.2; Tonry+2012 ApJ 750 99"),
    "bass": ("BASS-{}", "g r", "Bok 90Prime, airmass 1.1; Zou+2017 PASP 129 064101"),
    "mzls": ("MzLS-{}", "z", "Mayall Mosaic-3, airmass 1.1; Dey+2019 AJ 157 168"),
    # speclite numbers its g r i z 9401 ..., the first set; by their pivots (g 4764 A, not 4870) they are not
    "cfht": (
        "cfht_megacam-{}",
        "u ustar g r i z",
        "CFHT MegaCam, second set (2015); ustar is the first u (9301)",
    ),
    "cfht ": ("cfht_megacam_{}", "gs_9401 rs_9601 is_9701 zs_9801", "CFHT MegaCam, first set, as in CFHTLS"),
    "euclid": ("Euclid-{}", "VIS Y J H", "Euclid VIS and NISP; Schirmer+2022 A&A 662 A92 (NISP)"),
    "roman": (
        "roman_wfi_{}",
        "f062 f087 f106 f129 f146 f158 f184 f213",
        "Roman WFI, effective area v8 (March 2024), mean of the 18 detectors",
    ),
    "twomass": ("twomass-{}", "J H Ks", "2MASS; Cohen+2003 AJ 126 1090"),
    "ukirt": ("ukirt_wfcam_{}", "J H K", "UKIRT WFCAM; Hewett+2006 MNRAS 367 454"),
    "vista": ("vista_vircam_{}", "Z Y J H Ks", "VISTA VIRCAM, with QE, mirrors and atmosphere; ESO"),
    "wise": ("wise2010-{}", "W1 W2 W3 W4", "WISE; Wright+2010 AJ 140 1868 (Brown+2014: W4 is 3.3 % redder)"),
    "irac": ("spitzer_irac_{}", "ch1 ch2 ch3 ch4", "Spitzer IRAC; Fazio+2004 ApJS 154 10"),
    "galex": ("galex_{}", "FUV NUV", "GALEX; Morrissey+2005 ApJ 619 L7"),
    "acs": ("acs_wfc_{}", "f435w f475w f555w f606w f625w f775w f814w f850lp", "HST ACS/WFC; STScI 2017"),
    "wfc3": ("wfc3_uvis_{}", "f225w f275w f336w f390w f475w f555w f606w f814w", "HST WFC3/UVIS; STScI"),
    "wfc3 ": ("wfc3_ir_{}", "f098m f105w f110w f125w f140w f160w", "HST WFC3/IR; STScI"),
    "nircam": (
        "jwst_{}",
        "f070w f090w f115w f150w f200w f277w f335m f356w f410m f444w",
        "JWST NIRCam, mean of modules A and B, May 2024; Rieke+2023 PASP 135 028001",
    ),
    "gaia": ("gaiadr3-{}", "G BP RP", "Gaia (E)DR3; Riello+2021 A&A 649 A3"),
    "bessell": ("bessell_{}", "U B V R I", "Johnson-Cousins; Bessell 1990 PASP 102 1181"),
}
PACKAGES = {"speclite": ("speclite", "BSD-3-Clause"), "sedpy": ("astro-sedpy", "MIT")}


def catalogue():
    """(our name, package, name in the package, citation) of every filter; speclite's names have a hyphen."""
    for survey, (pattern, bands, citation) in SURVEYS.items():
        for band in bands.split():
            name = f"{survey.strip()}_{band.split('_')[0].lower()}"
            yield name, "speclite" if "-" in pattern else "sedpy", pattern.format(band), citation


def read_curve(package, name):
    """(wave, T): strictly increasing Angstrom, T >= 0, zero at both ends, float64 holding float32 values."""
    try:
        if package == "speclite":
            from speclite.filters import load_filter

            curve = load_filter(name)  # converts nm and micron of its files to Angstrom
            wave, trans = curve._wavelength, np.asarray(curve.response)
        else:
            from sedpy.observate import Filter

            curve = Filter(name, min_trans=0.0)  # min_trans: keep the tails, we judge them ourselves
            wave, trans = curve.wavelength, curve.transmission
    except ImportError as error:
        sys.exit(f"the curves come from speclite and astro-sedpy: pip install speclite astro-sedpy ({error})")
    wave = np.asarray(wave, np.float32).astype(float)
    trans = np.maximum(np.asarray(trans, np.float32).astype(float), 0.0)
    keep = np.append(True, np.diff(wave) > 0)
    wave, trans = wave[keep], trans[keep]
    inside = np.flatnonzero(trans > 0)  # trim zeros, down to one on each side
    wave, trans = (x[max(inside[0] - 1, 0) : inside[-1] + 2] for x in (wave, trans))
    # a table cut at T > 0 falls to zero over one more step
    if trans[0] > 0:
        wave, trans = np.append(2 * wave[0] - wave[1], wave), np.append(0.0, trans)
    if trans[-1] > 0:
        wave, trans = np.append(wave, 2 * wave[-1] - wave[-2]), np.append(trans, 0.0)
    wave = wave.astype(np.float32).astype(float)
    if not (np.all(np.diff(wave) > 0) and 1e3 < wave[0] < wave[-1] < 4e5):
        raise ValueError(f"{package} {name}: wavelengths {wave[0]} to {wave[-1]} are not increasing Angstrom")
    return wave, trans


# -------------------------------------------------------------------------------- the judges


def spectra(path, ages, metallicities):
    """Rest wavelength and L_nu (spectrum, wave) of SSPs at these ages/Gyr and log Z, with A_V = 0 and 2."""
    with h5py.File(path) as h:
        lgmet, lg_age, wave = h["ssp_lgmet"][()], h["ssp_lg_age_gyr"][()], h["ssp_wave"][()]
        rows = [h["ssp_flux"][()][np.argmin(abs(lgmet - z)), np.argmin(abs(lg_age - np.log10(a)))]
                for z in metallicities for a in ages]  # fmt: skip
    bare = np.array(rows, float)
    dust = 10 ** (-0.4 * 2.0 * (np.maximum(wave, 912.0) / 5500.0) ** -0.7)
    return wave, np.concatenate([bare, bare * dust])


GAUSS_X, GAUSS_W = np.polynomial.legendre.leggauss(3)


def moments(knots, rest, flux, redshifts):
    """int hat_k f_nu dlambda/lambda, (redshift, spectrum, knot): SEDs against the hat function of each knot.

    A curve that is linear between knots is a sum of hats, so a thinned curve is judged by one matrix product.
    Between neighbours in the union of knots and SED wavelengths the integrand is smooth, so 3 Gauss-Legendre
    points suffice.
    """
    out = np.zeros((len(redshifts), len(flux), len(knots)))
    for row, z in zip(out, redshifts, strict=True):
        wave = rest * (1 + z)
        edges = np.union1d(knots, wave[(wave > knots[0]) & (wave < knots[-1])])
        half = np.diff(edges)[:, None] / 2
        x = (edges[:-1, None] + half * (1 + GAUSS_X)).ravel()
        weight = (half * GAUSS_W).ravel() / x
        j = np.clip(np.searchsorted(wave, x) - 1, 0, len(wave) - 2)
        u = (x - wave[j]) / (wave[j + 1] - wave[j])
        integrand = (flux[:, j] * (1 - u) + flux[:, j + 1] * u) * weight
        k = np.clip(np.searchsorted(knots, x) - 1, 0, len(knots) - 2)
        starts = np.searchsorted(k, np.arange(len(knots) - 1))
        u = (x - knots[k]) / (knots[k + 1] - knots[k])
        row[:, :-1] += np.add.reduceat(integrand * (1 - u), starts, axis=1)
        row[:, 1:] += np.add.reduceat(integrand * u, starts, axis=1)
    return out


class Judge:
    """Magnitude errors of thinned curves, over a set of spectra seen through one full curve."""

    def __init__(self, knots, trans, rest, flux, redshifts):
        self.flat = moments(knots, np.array([1.0, 1e8]), np.ones((1, 2)), [0.0])[0, 0]  # f_nu = 1
        table = moments(knots, rest, flux, redshifts)
        mean = table @ trans / (self.flat @ trans)
        # Dropped: a band centred blueward of the Lyman limit, or 7.5 mag fainter than the spectrum's own peak
        # (f_nu, rest 912 A - 5 um). Such a flux is not measured, and far tails of the curve would decide it.
        peak = flux[:, (rest > 912.5) & (rest < 5e4)].max(1)
        pivot = np.sqrt(self.flat @ (knots**2 * trans) / (self.flat @ trans))
        seen = (mean > 1e-3 * peak) & (pivot / (1 + np.asarray(redshifts)) > 912.0)[:, None]
        self.table, self.full = table[seen], mean[seen]

    def mmag(self, trans):
        """Worst |error| in mmag. 1085.7 = 2500/ln 10."""
        thin = self.table @ trans / (self.flat @ trans)
        return 1085.736 * np.abs(np.log(thin / self.full)).max()


# -------------------------------------------------------------------------------- the thinning


def simplify(wave, trans, tolerance):
    """Ramer-Douglas-Peucker with a vertical tolerance at each point: the indices to keep."""
    keep = np.zeros(len(wave), bool)
    keep[[0, -1]] = True
    stack = [(0, len(wave) - 1)]
    while stack:
        a, b = stack.pop()
        x, t = wave[a : b + 1], trans[a : b + 1]
        miss = np.abs(t - t[0] - (t[-1] - t[0]) * (x - x[0]) / (x[-1] - x[0])) / tolerance[a : b + 1]
        c = int(np.argmax(miss))
        if miss[c] > 1 and 0 < c < b - a:
            keep[a + c] = True
            stack += [(a, a + c), (a + c, b)]
    return np.flatnonzero(keep)


def thin(wave, trans, judge):
    """The first curve, from coarse to fine, that the judge accepts; also its values at every wave."""
    peak, fraction = trans.max(), SHAPE
    # a fainter part of the curve is kept more tightly: leaks decide the blue bands of red galaxies
    weight = np.maximum(trans / peak, 1e-4) ** 0.25
    while True:
        inside = np.flatnonzero(trans > peak * min(TAIL, fraction / 20))
        span = slice(inside[0] - 1, inside[-1] + 2)
        cut = trans[span].copy()
        cut[[0, -1]] = 0.0
        index = simplify(wave[span], cut, fraction * peak * weight[span])
        knots, values = wave[span][index], cut[index]
        everywhere = np.interp(wave, knots, values, left=0.0, right=0.0)
        if judge.mmag(everywhere) < TARGET_MMAG or len(index) == len(cut):
            return knots, values, everywhere
        fraction *= 0.8


def pivot(wave, trans):
    """sqrt(int T lambda dlambda / int T dlambda/lambda) of a piecewise-linear curve."""
    half = np.diff(wave)[:, None] / 2
    x = wave[:-1, None] + half * (1 + GAUSS_X)
    t = np.interp(x, wave, trans) * half * GAUSS_W
    return float(np.sqrt((t * x).sum() / (t / x).sum()))


def main():
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=root / "dspsx/data/filters.h5")
    parser.add_argument("--ssp", type=Path, default=root / "dspsx/data/ssp_popstar_chabrier.h5")
    args = parser.parse_args()

    # the spectra that tune and those that validate share no age, no redshift but 0, and only one metallicity
    tune_ages = [0.005, 0.01, 0.1, 0.6, 2.0, 5.0]
    tune = (*spectra(args.ssp, tune_ages, np.log10([0.0004, 0.008, 0.05])), np.linspace(0, 5.9, 21))
    test_ages = [0.003, 0.03, 0.3, 1.0, 3.0, 10.0]
    test = (*spectra(args.ssp, test_ages, np.log10([0.004, 0.02, 0.05])), np.linspace(0, 6.0, 25))

    sources = {k: f"{dist} {version(dist)} (PyPI, {licence})" for k, (dist, licence) in PACKAGES.items()}
    names, worst_all, before, after = [], 0.0, 0, 0
    print(f"{'name':14s} {'source':9s} {'original':22s} {'before':>6s} {'after':>6s} {'pivot/A':>10s} "
          f"{'d pivot/A':>9s} {'mmag':>6s} {'shape':>7s}")  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # the 1.10 format stores small groups compactly: half the size of h5py's default here
    with h5py.File(args.out, "w", libver=("v110", "v110")) as h:
        for name, package, original, citation in catalogue():
            full = read_curve(package, original)
            wave, trans, values = thin(*full, Judge(*full, *tune))
            error = Judge(*full, *test).mmag(values)
            shape = np.abs(values - full[1]).max() / full[1].max()
            centre = pivot(wave, trans)
            print(f"{name:14s} {package:9s} {original:22s} {len(full[0]):6d} {len(wave):6d} {centre:10.2f} "
                  f"{centre - pivot(*full):9.3f} {error:6.3f} {shape:7.4f}", flush=True)  # fmt: skip
            if error > LIMIT_MMAG:
                raise RuntimeError(f"{name}: thinned curve is wrong by {error:.2f} mmag; lower TARGET_MMAG")
            group = h.create_group(name)
            for key, x in (("wave", wave), ("transmission", trans)):
                packed = dict(compression="gzip", compression_opts=9, shuffle=True)
                group.create_dataset(key, data=x.astype(np.float32), **packed)
            group.attrs.update(
                source=sources[package],
                original_name=original,
                licence=PACKAGES[package][1],
                citation=citation,
                detector="photon counting",
                pivot=centre,
                error_mmag=error,
            )
            names.append(name)
            worst_all, before, after = max(worst_all, error), before + len(full[0]), after + len(wave)
        h.attrs.update(
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            built_by="tools/build_filters.py",
            sources="; ".join(sources.values()),
            convention="wave in Angstrom; T piecewise linear, any scale, per photon: "
            "<f_nu> = int T f_nu dlambda/lambda / int T dlambda/lambda, AB",
            tolerance=f"thinned for {TARGET_MMAG} mmag and {SHAPE} of the peak; validated on other spectra "
            f"(PopStar SSPs, z 0-6, A_V 0 and 2): worst {worst_all:.2f} mmag, limit {LIMIT_MMAG}",
        )
    size = args.out.stat().st_size / 1e3
    print(f"{len(names)} filters, {before} -> {after} points, {size:.0f} kB, worst {worst_all:.3f} mmag")


if __name__ == "__main__":
    main()
