"""Brute force in NumPy float64, written from the formulas of the papers and independent of dspsx's code.

Histories are integrated over thousands of ages, metallicities over hundreds of points, spectra are interpolated
bilinearly in (lgmet, log10 age), and bands are integrated point by point. Slow on purpose, and simple.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

AB_CGS = 3631e-23
LSUN_CGS = 3.828e33
PC_CM = 3.0856775814913673e18
GYR_S = 365.25 * 86400 * 1e9


@dataclasses.dataclass(frozen=True)
class FlatUniverse:
    """Matter and a cosmological constant."""

    om0: float = 0.3
    h: float = 0.7

    def age(self, z):
        """Age in Gyr at redshift z, in closed form."""
        hubble_time = PC_CM * 1e6 / (self.h * 1e7) / GYR_S
        dark = 1 - self.om0
        return hubble_time * 2 / (3 * np.sqrt(dark)) * np.arcsinh(np.sqrt(dark / self.om0) * (1 + z) ** -1.5)

    def luminosity_distance(self, z):
        """Luminosity distance in pc, by Simpson's rule in z."""
        if z == 0:
            return 0.0
        x = np.linspace(0, z, 4001)
        weight = np.ones(4001)
        weight[1:-1:2], weight[2:-1:2] = 4, 2
        integral = (weight / np.sqrt(self.om0 * (1 + x) ** 3 + 1 - self.om0)).sum() * z / 4000 / 3
        return (1 + z) * 299792.458 / (100 * self.h) * integral * 1e6


# ---------------------------------------------------------------------------------------------- star formation histories


@dataclasses.dataclass(frozen=True)
class History:
    """SFR in Msun/yr as a function of stellar age in Gyr, and the ages at which it must be sampled with care."""

    rate: Callable
    marks: np.ndarray


def triweight_cdf(z):
    """Integral of 35/96 (1 - (z/3)^2)^3 from -3 to z."""
    z = np.clip(z, -3, 3)
    return 0.5 + 35 / 96 * (z - z**3 / 9 + z**5 / 135 - z**7 / 5103)


def _dense(points, n):
    """The points in order, with n steps between each and the next."""
    points = np.unique(points)
    return np.unique(np.concatenate([np.linspace(a, b, n + 1) for a, b in itertools.pairwise(points)]))


def diffmah_lgm(t, p):
    """Hearin et al. 2021: log10 of the halo mass."""
    lgt = np.log10(np.minimum(t, p["t_peak"]))
    index = p["early_index"] + (p["late_index"] - p["early_index"]) / (1 + np.exp(-3.5 * (lgt - p["logtc"])))
    return p["logm0"] + index * (lgt - np.log10(p["t0"]))


def diffstar(p, t_obs):
    """Alarcon et al. 2023, as diffstar 1.0 has it (gas mass fb M_halo)."""
    width = 10 ** p["qlglgdt"] / 12

    def rate(age):
        t = np.maximum(t_obs - age, 1e-9)
        lgm = diffmah_lgm(t, p)
        above = lgm - p["lgmcrit"]
        slope = p["indx_lo"] + (p["indx_hi"] - p["indx_lo"]) / (1 + np.exp(-9 * above))
        y = (np.log10(t) - p["lg_qt"]) / width
        fall = p["lg_drop"] * triweight_cdf(y + 3)
        rise = p["lg_drop"] + (p["lg_rejuv"] - p["lg_drop"]) * triweight_cdf(y - 3)
        lg_sfr = np.log10(p["fb"]) + lgm + p["lgy_at_mcrit"] + slope * above + np.where(y < 0, fall, rise)
        return np.maximum(10**lg_sfr, 1e-14)

    event = _dense(p["lg_qt"] + width * np.array([-6.0, -3.0, 0.0, 3.0, 6.0]), 200)
    return History(rate, t_obs - np.append(10**event, p["t_peak"]))


def delayed_tau(p, t_obs):
    """SFR proportional to s exp(-s / tau), s the time since the onset; mass 10^lg_mass_formed until t_obs."""
    onset, tau = min(p["age"], t_obs), p["tau"]
    s = onset * np.linspace(0, 1, 20001) ** 2  # normalised numerically: no formula to get wrong
    middle = (s[1:] + s[:-1]) / 2
    norm = 10 ** p["lg_mass_formed"] / 1e9 / (middle * np.exp(-middle / tau) * np.diff(s)).sum()

    def rate(age):
        s = onset - age
        return np.where(s > 0, norm * s * np.exp(-np.maximum(s, 0) / tau), 0.0)

    return History(rate, onset - tau * np.concatenate([[0], np.geomspace(1e-3, 50, 800)]))


def tabulated(t_table, sfr_table, t_obs):
    """Linear between the entries, from zero at t = 0; the last rate is held."""
    times, rates = np.append(0, t_table), np.append(0, sfr_table)
    return History(lambda age: np.interp(t_obs - age, times, rates), t_obs - t_table)


# ------------------------------------------------------------------------------------------------------------ quadrature


def age_nodes(marks, t_obs, lg_age, n):
    """Ages (middles) and widths of the intervals between n ages in log, n in linear, the grid's ages and the marks."""
    ends = np.concatenate(
        [[0], np.geomspace(1e-7, t_obs, n), np.linspace(0, t_obs, n), 10**lg_age, np.asarray(marks, float)]
    )
    ends = np.unique(np.clip(ends, 0, t_obs))
    return (ends[1:] + ends[:-1]) / 2, np.diff(ends)


def metallicity_nodes(mean, scatter, n):
    """Values of lgmet and their probabilities, for the triweight density of width `scatter`."""
    if scatter == 0:
        return np.array([mean]), np.ones(1)
    z = -3 + 6 * (np.arange(n) + 0.5) / n
    density = 35 / 96 * (1 - (z / 3) ** 2) ** 3
    return mean + scatter * z, density / density.sum()


def interpolate(x, grid, values):
    """Values (grid, ...) at x, linear between the points and constant beyond the ends."""
    x = np.clip(x, grid[0], grid[-1])
    i = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, grid.size - 2)
    f = ((x - grid[i]) / (grid[i + 1] - grid[i])).reshape(-1, *(1,) * (values.ndim - 1))
    return (1 - f) * values[i] + f * values[i + 1]


def population_light(history, t_obs, lgmet, scatter, grid_lgmet, grid_lg_age, light, n=4000, n_met=301):
    """Light of a galaxy: `light` (met, age, ...) per Msun formed, integrated over its stars."""
    z, probability = metallicity_nodes(lgmet, scatter, n_met)
    of_age = np.tensordot(probability, interpolate(z, grid_lgmet, light), 1)
    age, width = age_nodes(history.marks, t_obs, grid_lg_age, n)
    mass = history.rate(age) * width * 1e9
    return mass @ interpolate(np.log10(age), grid_lg_age, of_age)


def age_weights(history, t_obs, grid_lg_age, n=4000):
    """Mass that interpolation gives to each age of the grid."""
    age, width = age_nodes(history.marks, t_obs, grid_lg_age, n)
    return (history.rate(age) * width * 1e9) @ interpolate(np.log10(age), grid_lg_age, np.eye(grid_lg_age.size))


# ------------------------------------------------------------------------------------------------------------ photometry


def band_matrix(wave, curves, z):
    """Photon-counting mean of f_nu in each band for spectra on rest wavelengths: (wave, band)."""
    observed = wave * (1 + z)
    matrix = np.zeros((wave.size, len(curves)))
    for b, (w, t) in enumerate(curves):
        inside = observed[(observed > w[0]) & (observed < w[-1])]
        ends = np.unique(np.concatenate([w, inside]))
        # Simpson's rule on each piece, in which curve and spectrum are straight lines
        x = np.stack([ends[:-1], (ends[1:] + ends[:-1]) / 2, ends[1:]])
        weight = np.diff(ends) * np.array([[1.0], [4.0], [1.0]]) / 6 * np.interp(x, w, t) / x
        total = weight.sum()
        weight = np.where((x >= observed[0]) & (x <= observed[-1]), weight, 0.0).ravel()
        x = x.ravel()
        i = np.clip(np.searchsorted(observed, x, side="right") - 1, 0, wave.size - 2)
        f = (x - observed[i]) / (observed[i + 1] - observed[i])
        matrix[:, b] = np.bincount(i, weight * (1 - f), wave.size) + np.bincount(i + 1, weight * f, wave.size)
        matrix[:, b] /= total
    return matrix


def absolute_mag(luminosity):
    """AB magnitude of a mean luminosity density in Lsun/Hz."""
    return -2.5 * np.log10(luminosity * LSUN_CGS / (4 * np.pi * (10 * PC_CM) ** 2) / AB_CGS)


def apparent_mag(luminosity, z, universe):
    """AB magnitude at redshift z; at z = 0 the absolute one."""
    distance = max(universe.luminosity_distance(z) / 10, 1.0)
    return absolute_mag(luminosity) + 5 * np.log10(distance) - 2.5 * np.log10(1 + z)
