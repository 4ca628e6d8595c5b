"""What is computed: a spectral grid, bands and the parameters of many galaxies, written once and read by every worker.

`python -m benchmarks.problem FILE.npz '{"kind": "population", ...}'` writes one in a process of its own. Reading needs
NumPy alone, so that a peer in another environment gets the same numbers, seeds and all.
"""

import dataclasses
import functools
import json
import sys

import numpy as np

#: Metallicities x ages x wavelengths: the shapes of FSPS with MILES, and of BC03 with MILES.
GRIDS = {"population": (22, 94, 5994), "spectrum": (7, 195, 13096)}
BANDS = {
    "population": ["lsst_*"],
    "spectrum": ["galex_nuv", "lsst_*", "vista_j", "vista_ks", "wise_w1"],
}
#: Parameters of a galaxy with their ranges, by the names that dspsx gives them.
RANGES = {
    "population": {
        "logm0": (11.3, 13.5),
        "logtc": (-0.1, 0.3),
        "early_index": (2.0, 3.5),
        "late_index": (0.15, 0.6),
        "t_peak": (8.0, 14.0),
        "lgmcrit": (11.7, 12.3),
        "lgy_at_mcrit": (-10.3, -9.7),
        "indx_lo": (0.7, 2.0),
        "indx_hi": (-2.0, -0.5),
        "lg_qt": (0.5, 1.3),
        "qlglgdt": (-1.0, -0.2),
        "lg_drop": (-2.0, -0.3),
        "lg_rejuv": (-0.25, -0.05),
        "lgmet": (-3.0, -1.7),
        "scatter": (0.2, 0.2),
        "av": (0.05, 1.5),
        "bump": (0.0, 2.0),
        "delta": (-0.5, 0.2),
    },
    "spectrum": {
        "lg_mass_formed": (9.0, 11.5),
        "age": (2.0, 8.0),
        "tau": (0.3, 5.0),
        "lgmet": (-3.0, -1.7),
        "scatter": (0.2, 0.2),
        "av": (0.05, 1.5),
    },
}
ONE_REDSHIFT = 0.5
OWN_REDSHIFTS = (0.05, 2.5)
#: Today and the baryon fraction, for codes that want them told; the cosmology of DSPS has no radiation.
T_TODAY, BARYONS, OMEGA_M, HUBBLE = 13.8, 0.156, 0.3075, 0.6774


@dataclasses.dataclass
class Problem:
    """A grid, bands, and the parameters of many galaxies."""

    path: str
    kind: str
    wave: np.ndarray
    lg_age: np.ndarray
    lgmet: np.ndarray
    names: list[str]
    bands: list[tuple[np.ndarray, np.ndarray]]
    params: dict[str, np.ndarray]
    redshifts: np.ndarray
    z_range: tuple[float, float]

    @functools.cached_property
    def flux(self) -> np.ndarray:
        """(met, age, wave) in Lsun/Hz per Msun, read when first asked for: who has a table needs no spectra in memory."""
        with np.load(self.path) as file:
            return file["flux"]

    def galaxies(self, n: int, own_redshift: bool = False) -> dict[str, np.ndarray]:
        """Parameters and redshifts of the first n galaxies (repeated where fewer were written), float64."""
        index = np.arange(n) % self.redshifts.size
        z = self.redshifts[index] if own_redshift else np.full(n, ONE_REDSHIFT)
        return {name: x[index] for name, x in self.params.items()} | {"redshift": z}


def load(path: str) -> Problem:
    """Read what `write` wrote."""
    with np.load(path) as file:
        names = [str(x) for x in file["names"]]
        bands = [(file[f"band_wave_{name}"], file[f"band_curve_{name}"]) for name in names]
        params = {key.removeprefix("p_"): file[key] for key in file.files if key.startswith("p_")}
        grid = {key: file[key] for key in ("wave", "lg_age", "lgmet")}
        lo, hi = (float(x) for x in file["z_range"])
        many = {"params": params, "redshifts": file["redshifts"], "z_range": (lo, hi)}
        return Problem(path, str(file["kind"]), **grid, names=names, bands=bands, **many)


def write(
    path: str,
    kind: str,
    shape: tuple[int, int, int] | None = None,
    n_bands: int | None = None,
    n: int = 100_000,
    seed: int = 0,
    redshifts: tuple[float, float] = OWN_REDSHIFTS,
    ssp: str | None = None,
) -> None:
    """Write a problem; a synthetic grid of a `shape` unless `ssp` names an HDF5 file in DSPS's format or "default"."""
    import dspsx

    rng = np.random.default_rng(seed)
    if ssp is None:
        lgmet, lg_age, wave, flux = synthetic_grid(*(shape or GRIDS[kind]))
    else:
        grid = dspsx.SSPGrid.default() if ssp == "default" else dspsx.SSPGrid.from_hdf5(ssp)
        lgmet, lg_age, wave, flux = (np.asarray(x, float) for x in (grid.lgmet, grid.lg_age, grid.wave, grid.flux))
    names = BANDS[kind]
    if n_bands is not None:
        medium = sorted(
            name for name in dspsx.FilterSet.available() if name.startswith(("lsst", "sdss", "hsc", "decam"))
        )
        names = medium[:n_bands]
    filters = dspsx.FilterSet.load(names)
    arrays = {"kind": kind, "lgmet": lgmet, "lg_age": lg_age, "wave": wave, "flux": flux, "names": filters.names}
    for name, (band_wave, curve) in zip(filters.names, filters.curves(), strict=True):
        arrays |= {f"band_wave_{name}": np.asarray(band_wave, float), f"band_curve_{name}": np.asarray(curve, float)}
    lowest, highest = lgmet[0] + 0.3, lgmet[-1] - 0.1
    for name, (lo, hi) in RANGES[kind].items():
        if name == "lgmet":
            lo, hi = max(lo, lowest), min(hi, highest)
        arrays[f"p_{name}"] = rng.uniform(lo, hi, n)
    np.savez(path, redshifts=rng.uniform(*redshifts, n), z_range=redshifts, **arrays)


def synthetic_grid(n_met: int, n_age: int, n_wave: int) -> tuple[np.ndarray, ...]:
    """lgmet, lg_age, wave, flux: black bodies that cool and fade with age, with a Lyman break and 300 lines.

    Structured in wavelength, every line with a temperature and a metallicity that it likes, so that what a compression
    or an effective wavelength gets wrong can be measured with it: its singular values fall as those of BC03-MILES do (a
    thousandth of the first at the fortieth). Two wavelengths of three lie at 3500-7500 A, as in the libraries of these
    shapes.
    """
    rng = np.random.default_rng(1)
    lgmet = np.linspace(np.log10(2e-4), np.log10(0.03), n_met)
    lg_age = -3.5 + 0.05 * np.arange(94) if n_age == 94 else np.linspace(-3.5, 1.15, n_age)
    n_fine = 2 * n_wave // 3
    n_blue = (n_wave - n_fine) // 2
    blue, red = (
        np.geomspace(91.0, 3500.0, n_blue, endpoint=False),
        np.geomspace(7500.0, 1.6e6, n_wave - n_fine - n_blue),
    )
    wave = np.concatenate([blue, np.linspace(3500.0, 7500.0, n_fine, endpoint=False), red])

    # nothing changes before some 5 Myr: 0 there, 1 at 14 Gyr
    old, rich = np.log10(1 + 10**lg_age / 5e-3) / 3.45, (lgmet - lgmet[0]) / (lgmet[-1] - lgmet[0])
    lg_temperature = 4.6 - 0.95 * old[None, :] ** 0.9 - 0.1 * rich[:, None] * old[None, :]
    temperature = 10 ** lg_temperature[..., None]
    x = 1.43878e8 / (wave * temperature)
    flux = x**3 / np.expm1(np.minimum(x, 100.0)) * np.minimum(1.0, np.exp(100.0 - x))
    # Lyman and 4000 A breaks, deeper in cool stars
    cool = np.clip((4.6 - lg_temperature) / 1.2, 0.05, 1.0)[..., None]
    flux *= np.where(wave < 912.0, 1.0 - 0.97 * cool**0.3, 1.0)
    flux *= 1.0 - 0.35 * cool * (0.5 + 0.5 * rich[:, None, None]) / (
        1.0 + np.exp(np.minimum((wave - 3950.0) / 40.0, 50.0))
    )
    n_line = 300
    centre, width = np.exp(rng.uniform(np.log(1000.0), np.log(2.4e4), n_line)), 10 ** rng.uniform(0.5, 1.8, n_line)
    likes, narrow = rng.uniform(3.5, 4.6, n_line), rng.uniform(0.04, 0.2, n_line)
    depth = rng.uniform(0.03, 0.45, n_line) * np.exp(-0.5 * ((lg_temperature[..., None] - likes) / narrow) ** 2)
    depth *= 1.0 + rng.uniform(-0.8, 0.8, n_line) * (rich[:, None, None] - 0.5)
    # isochrones jump from one age to the next: each line by its own measure, most of them little
    depth *= 1.0 + 10 ** rng.uniform(-2.5, -0.1, n_line) * rng.standard_normal((n_met, n_age, n_line))
    profile = np.exp(-0.5 * ((wave - centre[:, None]) / width[:, None]) ** 2)
    flux *= np.exp(-(depth.reshape(-1, n_line) @ profile).reshape(flux.shape))
    # brightness at 5500 A in Lsun/Hz/Msun, about that of libraries
    at = flux[..., np.searchsorted(wave, 5500.0)][..., None]
    return lgmet, lg_age, wave, flux / at * 10 ** (-12.6 - 2.8 * old[:, None] - 0.1 * rich[:, None, None])


if __name__ == "__main__":
    write(sys.argv[1], **json.loads(sys.argv[2]))
