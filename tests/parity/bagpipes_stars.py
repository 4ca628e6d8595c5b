"""Makes bagpipes_stars.json: magnitudes and living mass that bagpipes gives 40 galaxies on its own BC03-MILES grid.

    python tests/parity/bagpipes_stars.py        # where bagpipes 1.3.6 and dspsx are installed

bagpipes sums the grid into age bins of 0.1 dex and samples bands at R = 100 unless told otherwise; its own settings make both
finer here. It always adds what the intergalactic medium absorbs and what dust emits, so the other side must have both.
"""

import json
import os
import pathlib
import tempfile

import numpy as np

BANDS = ("galex_nuv", "lsst_u", "lsst_g", "lsst_r", "lsst_i", "lsst_z", "lsst_y")
BANDS += ("twomass_j", "twomass_h", "twomass_ks", "wise_w1")
#: Redshifts, and about how old the universe is then, in Gyr.
UNIVERSE = {0.1: 12.1, 0.5: 8.4, 1.0: 5.75, 2.0: 3.2}
KINDS = ("exponential", "delayed", "lognormal", "dblplaw")


def cases() -> list[dict]:
    """Every history at every redshift, with either dust, in bagpipes' own words: Gyr, Z in units of 0.02."""
    rng, found = np.random.default_rng(1), []
    for i in range(40):
        z, kind = list(UNIVERSE)[i % 4], KINDS[(i // 4) % 4]
        age = UNIVERSE[z]
        if kind in ("exponential", "delayed"):
            sfh = {"age": rng.uniform(0.3, 0.9) * age, "tau": rng.uniform(0.3, 5.0)}
        elif kind == "lognormal":
            sfh = {"tmax": rng.uniform(0.2, 0.8) * age, "fwhm": rng.uniform(0.5, 3.0)}
        else:
            sfh = {
                "tau": rng.uniform(0.2, 0.9) * age,
                "alpha": 10 ** rng.uniform(-0.3, 1.0),
                "beta": 10 ** rng.uniform(-0.3, 1.0),
            }
        if i % 2 == 0:
            dust = {"type": "Calzetti", "Av": rng.uniform(0.0, 2.0)}
        else:
            dust = {"type": "CF00", "Av": rng.uniform(0.0, 2.0), "eta": rng.uniform(1.0, 3.0), "n": 0.7}
        sfh = {"massformed": 10.0, "metallicity": float(rng.choice([0.2, 0.4, 1.0])), **sfh}
        found.append({"redshift": z, "kind": kind, "sfh": sfh, "dust": dust})
    return found


def main() -> None:
    """Run bagpipes, whose folders and bands must stand where it is run."""
    from importlib.metadata import version

    import bagpipes
    from bagpipes import config
    from bagpipes.utils import make_bins

    import dspsx

    here = pathlib.Path(__file__).resolve().with_suffix(".json")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, curve in zip(BANDS, dspsx.FilterSet.load(BANDS).curves(), strict=True):
            np.savetxt(f"{name}.txt", np.stack(curve, axis=1))
        config.R_phot, config.R_other, config.R_spec = 2000.0, 500.0, 2000.0
        oldest = config.cosmo.age(0.0).value
        config.age_sampling = np.arange(6.0, np.log10(oldest) + 9.0, 0.02)
        config.age_bins = 10 ** make_bins(config.age_sampling, make_rhs=True)[0]
        config.age_bins[0], config.age_bins[-1] = 0.0, 1e9 * oldest
        config.age_widths, config.age_sampling = np.diff(config.age_bins), 10**config.age_sampling
        found, pivots = cases(), dspsx.FilterSet.load(BANDS).pivot_wavelengths()
        for case in found:
            parts = {"redshift": case["redshift"], case["kind"]: case["sfh"], "dust": dict(case["dust"])}
            galaxy = bagpipes.model_galaxy(parts, filt_list=[f"{name}.txt" for name in BANDS])
            f_nu = np.asarray(galaxy.photometry) * pivots**2 / 2.99792458e18
            case["lg_mass_living"] = round(float(galaxy.sfh.stellar_mass), 6)
            case["magnitudes"] = np.round(-2.5 * np.log10(f_nu) - 48.6, 5).tolist()
    text = ",\n".join(json.dumps(case) for case in found)
    here.write_text(f'{{"bagpipes": "{version("bagpipes")}", "bands": {json.dumps(BANDS)}, "cases": [\n{text}\n]}}\n')


if __name__ == "__main__":
    main()
