"""Ionising photons of stars."""

from typing import Any

import numpy as np

from dspsx import units
from dspsx._model import is_concrete
from dspsx.ssp import SSPGrid

#: Lyman limit of hydrogen in Angstrom (vacuum).
LYMAN_LIMIT = 911.76
#: Photons per second in which ionising photon rates are counted: the rates themselves are beyond float32's range.
PHOTONS = 1e46
_PLANCK_CGS = 6.62607015e-27


def ionising_photon_rates(ssp: SSPGrid) -> np.ndarray:
    r"""Ionising photons per second and Msun formed of each population, (met, age), in 1e46.

    :math:`Q_H = \int_0^{\lambda_0} L_\nu / (h \lambda) \, d\lambda`, with the Lyman limit 911.76 A, exact for a spectrum that
    is linear in wavelength between the points of the grid. Raises ValueError if the grid has no such light.
    """
    if not all(map(is_concrete, (ssp.wave, ssp.flux))):
        raise TypeError("NebularLines must be made outside jit and vmap, where the SSP grid's values can be looked at.")
    wave = np.asarray(ssp.wave, float)
    last = int(np.searchsorted(wave, LYMAN_LIMIT))
    if last == 0:
        raise ValueError(f"the SSP grid begins at {wave[0]:g} A: it has no ionising photons (below {LYMAN_LIMIT:g} A).")
    if last < wave.size:
        last += 1
    w = wave[:last]
    left, right, end = w[:-1], w[1:], np.minimum(w[1:], LYMAN_LIMIT)
    log, width = np.log(end / left), right - left
    # of a hat function over lambda, in each cell: its falling half belongs to the left point, its rising to the right one
    share = np.zeros(last)
    share[:-1] += (right * log - (end - left)) / width
    share[1:] += ((end - left) - left * log) / width
    flux = np.asarray(ssp.flux[..., :last], float)
    return flux @ (share * (units.LSUN_CGS / (_PLANCK_CGS * PHOTONS)))


def photons(ssp: SSPGrid, nodes: np.ndarray, until: float) -> tuple[Any, Any]:
    """The rates (met, age), and the matrix (young, met x moment) whose moments `NebularLines._moments` tells of."""
    lgmet, lg_age = np.asarray(ssp.lgmet, float), np.asarray(ssp.lg_age, float)
    ages = 10.0**lg_age
    n = int(np.count_nonzero(ages <= until))
    if n == 0:
        raise ValueError(
            f"NebularLines.until = {until:g} Gyr is below the youngest age of the SSP grid, {ages[0]:g} Gyr."
        )
    rate = ionising_photon_rates(ssp)
    rate[:, n:] = 0.0
    most = rate.max()
    if not most > 1e-5:
        raise ValueError(
            f"the SSP grid has {most * PHOTONS:.2g} ionising photons per second and Msun at most (1e46.5 is usual): its gas has "
            "used them, if nebular emission is included in its spectra. Use a grid of stars only, or its own TabulatedLines."
        )
    x = np.interp(lg_age[:n], nodes, np.arange(nodes.size))
    hats = np.maximum(1.0 - np.abs(x[:, None] - np.arange(nodes.size)), 0.0)
    mean = np.broadcast_to(rate[:, :n].mean(0), (lgmet.size, n))
    columns = [*np.moveaxis(rate[:, :n, None] * hats, 2, 0), mean, mean * lgmet[:, None]]
    return rate, np.stack(columns, axis=-1).swapaxes(0, 1).reshape(n, -1)
