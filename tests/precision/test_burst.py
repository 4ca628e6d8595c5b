"""A burst of ten million years in a table, against brute force with the burst's own formula."""

import numpy as np
import pytest

import dspsx
from tests.precision import oracle, sampling
from tests.precision.test_default_scheme import COSMOLOGY, UNIVERSE

BURSTS = [(0.0, 0.010), (0.005, 0.015), (0.020, 0.030), (0.100, 0.110)]  # ages in Gyr
SHARES = [1.0, 0.1, 0.01]  # mass of the burst over that of the smooth history
BANDS = ["galex_fuv", "galex_nuv", "sdss_*", "twomass_ks"]
RAMP = 1e-5  # Gyr; how steep the sides of a step are in the table


def smooth(t):
    return 1.0 + 0.1 * t


def top_hat(age, young, old, mass):
    return np.where((age >= young) & (age < old), mass / 1e9 / (old - young), 0.0)


def gaussian(age, young, old, mass):
    """One of the same place and of a full width at half maximum of half the length, 5 Myr."""
    middle, sigma = (young + old) / 2, (old - young) / 2 / 2.3548
    return mass / 1e9 / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((age - middle) / sigma) ** 2)


def case(shape, burst, share, z):
    """The history by its formula, and as a table of times in Gyr and rates."""
    t_obs = UNIVERSE.age(z)
    young, old = burst
    mass = share * 1e9 * (t_obs + 0.05 * t_obs**2)
    burst_rate = {"top hat": top_hat, "gaussian": gaussian}[shape]
    if shape == "top hat":
        ages = np.array(
            [young + RAMP / 2, old - RAMP / 2, old + RAMP / 2, young - RAMP / 2 if young > 0 else old + 2e-3]
        )
    else:
        ages = np.linspace(max(0.0, young - 0.01), old + 0.01, 101) + 1e-9
    marks = np.concatenate([ages, [young, old], np.linspace(max(0.0, young - 0.02), old + 0.02, 4001)])
    history = oracle.History(lambda age: smooth(t_obs - age) + burst_rate(age, young, old, mass), marks)
    ages = np.unique(np.concatenate([[0.0], ages, t_obs - np.linspace(0.0123, t_obs - 0.2, 50)]))
    t_table = (t_obs - ages)[::-1]
    return history, t_table, history.rate(ages)[::-1]


@pytest.mark.parametrize("shape", ["top hat", "gaussian"])
def test_ten_megayears(shape, x64):
    grid, filters = dspsx.SSPGrid.default(), dspsx.FilterSet.load(BANDS)
    wave, lg_age, lgmet, flux = (np.asarray(x, float) for x in (grid.wave, grid.lg_age, grid.lgmet, grid.flux))
    light = flux @ oracle.band_matrix(wave, [(w.astype(float), t.astype(float)) for w, t in filters.curves()], 0)
    cases = [(burst, share, z) for burst in BURSTS for share in SHARES for z in (0.0, 0.5, 2.0)]
    truth, tables = [], []
    for burst, share, z in cases:
        history, *table = case(shape, burst, share, z)
        tables.append(table)
        total = oracle.population_light(history, UNIVERSE.age(z), -1.9, 0.2, lgmet, lg_age, light)
        truth.append(oracle.absolute_mag(total))
    n = len(cases)
    sfh = dict(zip(("t_table", "sfr_table"), (np.stack(x) for x in zip(*tables, strict=True)), strict=True))
    rest = {"redshift": np.array([z for *_, z in cases]), "lgmet": np.full(n, -1.9), "scatter": np.full(n, 0.2)}
    ours = sampling.evaluate(sampling.rest_magnitudes, "table", sfh, rest, BANDS, COSMOLOGY)
    error = 1e3 * np.abs(ours - np.stack(truth)).reshape(len(BURSTS), -1, len(filters))
    for (young, old), e in zip(BURSTS, error, strict=True):
        print(
            f"\n{shape}, {young * 1e3:.0f}-{old * 1e3:.0f} Myr ago: FUV {e[:, 0].max():.2g} mmag, all bands {e.max():.2g}"
        )
    assert error[..., 0].max() < 5.0
    assert error.max() < 5.0
