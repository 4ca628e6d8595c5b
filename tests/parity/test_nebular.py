"""Emission lines against bagpipes on the same populations, FSPS's Cloudy tables, its line list, and dsps's loader."""

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import nebular, testing, units
from dspsx.nebular import NebularLines, TabulatedLines

LINES = ("H_alpha_6563", "H_beta_4861", "OIII_5007", "OII_3726", "OII_3729", "NII_6584", "SII_6716")

# What bagpipes 1.3.6 says of 10^8 Msun formed at a constant rate over the last 100 Myr, in erg/s, by Z/Z_sun and log U:
#     pipes.model_galaxy({"redshift": 0.0, "t_bc": 0.01, "constant": {"age_max": 0.1, "age_min": 0.0, "massformed": 8.0,
#         "metallicity": z}, "nebular": {"logU": u}}, spec_wavs=np.arange(3000.0, 8000.0, 50.0)).line_fluxes
# -2.25 is between its nodes, where it interpolates luminosities and not their logarithms.
BAGPIPES = {
    (0.2, -3.5): (3.28056e41, 1.16884e41, 7.23158e40, 2.11266e41, 2.88216e41, 2.19121e40, 6.62507e40),
    (0.2, -2.5): (3.22432e41, 1.1586e41, 4.89879e41, 9.7392e40, 1.32825e41, 8.19868e39, 2.2208e40),
    (0.2, -2.0): (3.21111e41, 1.15653e41, 6.08777e41, 6.13859e40, 8.37733e40, 5.13806e39, 1.36737e40),
    (0.2, -2.25): (3.21772e41, 1.15756e41, 5.49328e41, 7.9389e40, 1.08299e41, 6.66837e39, 1.79408e40),
    (1.0, -3.5): (2.75947e41, 9.8275e40, 4.26883e40, 2.01962e41, 2.73406e41, 1.68578e41, 1.34163e41),
    (1.0, -2.5): (2.76355e41, 9.80639e40, 2.2024e41, 9.41546e40, 1.27035e41, 6.43404e40, 3.91451e40),
    (1.0, -2.0): (2.77146e41, 9.81506e40, 2.61673e41, 5.91686e40, 7.98808e40, 3.7703e40, 2.20008e40),
    (1.0, -2.25): (2.76751e41, 9.81072e40, 2.40957e41, 7.66616e40, 1.03458e41, 5.10217e40, 3.0573e40),
}
# Ionising photons in 1e46 per second and Msun of its populations (BC03-MILES): ages in Myr, 0.2 Z_sun, Z_sun.
#     wave, l = config.wavelengths, config.raw_stellar_grid[i].data[age] * 3.826e33   (i = 2, 4: 0.2 and 1 Z_sun)
#     blue = wave <= 911.76; np.trapezoid(l[blue] * wave[blue], wave[blue]) / (h c)
TEXT = """
    0.1 1.0 1.0965 1.2023 1.3183 1.4454 1.5849 1.7378 1.9055 2.0893 2.2909 2.3988 2.5119 2.6303 2.7542 2.884 3.02 3.1623
    3.3113 3.4674 3.6308 3.8019 3.9811 4.1687 4.3652 4.5709 4.7863 5.0119 5.2481 5.4954 5.7544 6.0256 6.6069 7.2444 7.9433
    8.7096 9.5499 10.0

    4.949 4.949 4.949 4.949 4.949 4.949 4.949 4.949 4.949 4.949 4.949 4.949 5.05 5.131 5.194 5.225 5.247 5.224 5.289 4.742
    4.266 3.483 2.946 2.416 2.184 1.947 1.697 1.457 1.234 1.04 0.897 0.7721 0.5524 0.3926 0.2624 0.1658 0.105 0.08358

    5.393 5.369 5.329 5.294 5.258 5.218 5.173 5.12 5.053 4.975 4.871 4.694 4.578 4.502 4.485 4.563 4.458 3.71 3.046 2.504
    2.134 1.722 1.477 1.319 1.152 1.045 0.898 0.7837 0.6456 0.5061 0.3566 0.2344 0.142 0.08902 0.06083 0.03811 0.02154
    0.01684
"""
AGES, *PHOTONS = (np.array(block.split(), float) for block in TEXT.strip().split("\n\n"))


def bc03():
    """A grid with the ionising photons of BC03 at 0.2 and 1 Z_sun = 0.02; its spectra are steps that have as many."""
    wave = np.array([100.0, 911.76, 911.77, 3000.0, 9000.0, 1e5])
    ages = np.array([*AGES, 10.5, 11.0, 100.0, 1e4]) / 1e3
    photons = np.array([[*row, 0.0, 0.0, 0.0, 0.0] for row in PHOTONS]) * 1e46
    step = photons * 6.62607015e-27 / units.LSUN_CGS / np.log(911.76 / 100.0)
    flux = np.full((*step.shape, wave.size), 1e-16)
    flux[..., :2] = step[..., None]
    grid = dspsx.SSPGrid(wave=wave, lg_age=np.log10(ages), lgmet=np.log10([0.004, 0.02]), flux=flux)
    np.testing.assert_allclose(nebular.ionising_photon_rates(grid), photons / nebular.PHOTONS, rtol=1e-6)
    return grid


@pytest.mark.parametrize("case", BAGPIPES)
def test_bagpipes(case, x64):
    """Lines of a constant history: to 1 % at the nodes of log U; between them to 5 %, [S II] to 6 %, as interpolating in log
    luminosity there differs from interpolating luminosities."""
    grid = bc03()
    sfh = dspsx.ConstantSFH(lg_mass_formed=8.0, age=0.1)
    mass = np.asarray(sfh.age_weights(grid.lg_age, jnp.asarray(10.0)))
    weights = np.zeros((1, 2, mass.size))
    weights[0, 0 if case[0] == 0.2 else 1] = mass
    lines = NebularLines(grid, logu=case[1], lines=LINES, until=0.0101)
    _, luminosity = lines.luminosities(grid, jnp.asarray(weights))
    tolerance = np.array([0.05] * 6 + [0.06]) if case[1] == -2.25 else 0.01
    ratio = np.asarray(luminosity[0]) * units.LSUN_CGS / BAGPIPES[case]
    assert (np.abs(ratio - 1) < tolerance).all(), ratio
    # a star formation rate of 1 Msun/yr at solar metallicity, Kroupa IMF
    if case[0] == 1.0:
        assert float(luminosity[0, 0]) * units.LSUN_CGS == pytest.approx(2.8e41, rel=0.03)


def byler(shared):
    """FSPS's table: (log Z/Z_sun, age/yr, log U) of each row, wavelengths, and Lsun (3.839e33 erg/s) per photon."""
    lines = (shared / "data/nebular_fsps/ZAU_ND_pdva.lines").read_text().splitlines()[1:]
    wave, states, energy = lines[0], lines[1::2], lines[2::2]
    return (np.array([line.split() for line in x], float) for x in (states, [wave], energy))


#: Ranges of FSPS's energy per photon over ours for gas around stars of 1 Myr. Hydrogen within 7 %, helium and metals by their
#: abundances, the stars' hardness (Padova isochrones and WM-basic against BC03's) and, for [S II], the depth of the cloud.
RANGES = {
    "Ly_alpha_1216": (0.95, 1.07),
    "H_alpha_6563": (0.96, 1.05),
    "H_beta_4861": (0.92, 1.0),
    "H_gamma_4340": (0.92, 1.0),
    "Pa_alpha_18751": (1.05, 1.22),
    "HeI_5876": (1.05, 1.25),
    "OIII_5007": (0.5, 1.0),
    "OII_3726": (0.6, 1.0),
    "OII_3729": (0.6, 1.0),
    "NII_6584": (0.85, 1.15),
    "SII_6716": (0.55, 0.9),
    "SIII_9069": (0.85, 1.15),
    "NeIII_3869": (0.75, 1.5),
}


def test_fsps_tables_of_other_stars_and_other_cloudy_runs(shared):
    states, (wave,), energy = byler(shared)
    lines = NebularLines(testing.fake_ssp(), lines=tuple(RANGES))
    table = nebular.tables.line_table()
    for log_z, met in ((0.0, 4), (-0.39, 3)):
        for logu in (-3.0, -2.0):
            (row,) = np.flatnonzero((np.abs(states - [log_z, 1e6, logu]) < [0.01, 1.0, 0.01]).all(1))
            for name, (low, high) in RANGES.items():
                i = int(np.argmin(np.abs(wave / float(lines.wave[lines.index(name)]) - 1)))
                ours = table.energy[table.logu.index(logu), met, 0, table.names.index(name)]
                ratio = energy[row, i] * 3.839e33 / ours
                assert low < ratio < high, (name, log_z, logu, ratio)


def test_wavelengths_are_those_in_vacuum(shared):
    """Of FSPS's list before it was shifted. Of the rest, far-infrared lines and O III] 1661, its values are 2e-4 or more from
    those measured (NIST); it has no He II 4686."""
    text = (shared / "data/nebular_fsps/emlines_info_2017_128lines_correct_vacuum.dat").read_text()
    listed = np.array([float(line.split(",")[0]) for line in text.splitlines()])
    lines = NebularLines(testing.fake_ssp())
    differs = {"HeII_4686", "NII_122um", "CII_158um", "NII_205um", "OIII_1661", "NIII_57um"}
    rounded = {"Pa_zeta_9229", "Pa_eta_9015", "Pa_delta_10049", "Pa_epsilon_9546", "Ly_gamma_973"}
    for name, wave in zip(lines.line_names, np.asarray(lines.wave, float), strict=True):
        off = np.abs(listed / wave - 1).min()
        assert (off > 2e-4) if name in differs else (off < (8e-5 if name in rounded else 1.6e-5)), (name, off)


def dsps_lines(path):
    """The names, wavelengths and table in erg/s/Msun that dsps's loader makes of a file."""
    from dsps import load_ssp_templates

    ssp = load_ssp_templates(fn=path)
    names, waves = zip(*ssp.ssp_emline_wave._asdict().items(), strict=True)
    return names, np.asarray(waves), np.asarray(ssp.ssp_emline_luminosity)


def test_dsps_loader(tmp_path, peer, x64):
    """Line luminosities of a galaxy from the same file, to 1e-5 (here to rounding)."""
    rng, ssp = np.random.default_rng(3), testing.fake_ssp()
    names = ["H_alpha_6563", "O_III_5007", "OII3729", "Ba_beta_4861", "Br_1p736um"]  # dsps takes identifiers only
    with h5py.File(tmp_path / "ssp.h5", "w") as h:
        h["ssp_lgmet"], h["ssp_lg_age_gyr"], h["ssp_wave"] = (np.asarray(x) for x in (ssp.lgmet, ssp.lg_age, ssp.wave))
        h["ssp_flux"], h["ssp_emline_name"] = np.asarray(ssp.flux), np.array(names, dtype="S")
        h["ssp_emline_wave"], h["ssp_emline_luminosity"] = rng.uniform(3e3, 1e4, 5), rng.random((4, 12, 5))
    theirs, wave, table = peer(dsps_lines, str(tmp_path / "ssp.h5"))
    lines = TabulatedLines.from_hdf5(tmp_path / "ssp.h5")
    assert lines.line_names == theirs
    weights = rng.random((1, 4, 12)) * 1e9
    found_wave, found = lines.luminosities(ssp, jnp.asarray(weights))
    np.testing.assert_allclose(found_wave, wave, rtol=1e-12)
    np.testing.assert_allclose(found[0], np.tensordot(weights[0], table, 2) / units.LSUN_CGS, rtol=1e-10)
