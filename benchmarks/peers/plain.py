"""The same sum in plain NumPy, and the matrix product that it comes down to in NumPy and jax.numpy.

`python -m benchmarks.peers.plain --task galaxies --problem FILE.npz --n 100`. Written from the formulas and independent of
dspsx: the second opinion on what is called exact (with many `nodes`), and what somebody without a library would write.
"""

import itertools

import numpy as np

from benchmarks.problem import BARYONS, HUBBLE, OMEGA_M, ONE_REDSHIFT, T_TODAY, Problem
from benchmarks.timing import Timed, batch_size, serve

LSUN, PARSEC, AB_ZERO = 3.828e33, 3.0856775814913673e18, 3631e-23
#: c / H0 in Mpc and 1 / H0 in Gyr.
HUBBLE_DISTANCE = 299792.458 / (100 * HUBBLE)
HUBBLE_TIME = PARSEC * 1e6 / (HUBBLE * 1e7) / (365.25 * 86400e9)


def age(z):
    """Age in Gyr of a flat universe of matter and a cosmological constant."""
    dark = 1 - OMEGA_M
    return HUBBLE_TIME * 2 / (3 * np.sqrt(dark)) * np.arcsinh(np.sqrt(dark / OMEGA_M) * (1 + z) ** -1.5)


def distance_modulus(z):
    """5 log10 of the luminosity distance over 10 pc, of redshifts (galaxy,)."""
    x, w = np.polynomial.legendre.leggauss(40)
    at = z[:, None] * (x + 1) / 2
    comoving = HUBBLE_DISTANCE * z / 2 * (w / np.sqrt(OMEGA_M * (1 + at) ** 3 + 1 - OMEGA_M)).sum(-1)
    return 5 * np.log10((1 + z) * comoving * 1e5)


def triweight_cdf(y):
    y = np.clip(y, -3, 3)
    return 0.5 + 35 / 96 * (y - y**3 / 9 + y**5 / 135 - y**7 / 5103)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def star_formation_rate(kind: str, p: dict, t, t_obs):
    """Msun/yr at cosmic times t (galaxy, time), of parameters p (galaxy, 1)."""
    if kind == "spectrum":
        onset = np.minimum(p["age"], t_obs)
        since, whole = np.maximum(t - t_obs + onset, 0) / p["tau"], onset / p["tau"]
        return 10 ** (p["lg_mass_formed"] - 9) * since * np.exp(-since) / p["tau"] / (1 - (1 + whole) * np.exp(-whole))
    lgt = np.log10(np.minimum(t, p["t_peak"]))
    index = p["early_index"] + (p["late_index"] - p["early_index"]) * sigmoid(3.5 * (lgt - p["logtc"]))
    lg_mass = p["logm0"] + index * (lgt - np.log10(T_TODAY))
    above = lg_mass - p["lgmcrit"]
    slope = p["indx_lo"] + (p["indx_hi"] - p["indx_lo"]) * sigmoid(9 * above)
    y = (np.log10(t) - p["lg_qt"]) * 12 / 10 ** p["qlglgdt"]
    fall, rise = triweight_cdf(y + 3), triweight_cdf(y - 3)
    quenching = np.where(y < 0, p["lg_drop"] * fall, p["lg_drop"] + (p["lg_rejuv"] - p["lg_drop"]) * rise)
    rate = BARYONS * 10 ** (lg_mass + p["lgy_at_mcrit"] + slope * above + quenching)
    return np.maximum(rate, 1e-14)


def grid_weights(problem: Problem, p: dict, nodes: int, pieces: int) -> np.ndarray:
    """Mass formed in Msun (galaxy, met, age): spectra are linear in lgmet and lg_age between the points of the grid."""
    t_obs = age(p["redshift"])
    ages = 10**problem.lg_age
    edges = np.concatenate([[0.0], np.geomspace(1e-6, ages[0], 4)[:-1], ages, [20.0]])
    edges = np.concatenate([np.linspace(a, b, pieces, endpoint=False) for a, b in itertools.pairwise(edges)])
    edges = np.minimum(np.append(edges, 20.0), t_obs)  # (galaxy, edge), for t_obs is (galaxy, 1)
    x, w = np.polynomial.legendre.leggauss(nodes)
    width = np.diff(edges)[..., None]
    at = (edges[..., :-1, None] + width * (x + 1) / 2).reshape(t_obs.size, -1)
    rate = star_formation_rate(problem.kind, p, np.maximum(t_obs - at, 1e-6), t_obs)
    mass = rate * (width * w / 2 * 1e9).reshape(at.shape)
    lg_at = np.clip(np.log10(np.maximum(at, 1e-12)), problem.lg_age[0], problem.lg_age[-1])
    of_age = _share(lg_at, mass, problem.lg_age)

    y, v = np.polynomial.legendre.leggauss(60)
    lgmet = p["lgmet"] + 3 * p["scatter"] * y
    density = np.broadcast_to((1 - y**2) ** 3 * v, lgmet.shape)
    of_met = _share(np.clip(lgmet, problem.lgmet[0], problem.lgmet[-1]), density, problem.lgmet)
    return (of_met / of_met.sum(-1, keepdims=True))[:, :, None] * of_age[:, None, :]


def _share(x, amount, grid) -> np.ndarray:
    """Amounts (galaxy, sample) at places x, shared linearly among the two points of the grid next to each."""
    left = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, grid.size - 2)
    upper = (x - grid[left]) / (grid[left + 1] - grid[left])
    rows = np.arange(len(x))[:, None] * grid.size
    total = np.zeros(len(x) * grid.size)
    np.add.at(total, (rows + left).ravel(), (amount * (1 - upper)).ravel())
    np.add.at(total, (rows + left + 1).ravel(), (amount * upper).ravel())
    return total.reshape(len(x), grid.size)


def transmission(kind: str, p: dict, wave):
    """10^(-0.4 A) (galaxy, wave): Calzetti et al. (2000), or Salim et al. (2018) with Leitherer et al. (2002) in the UV."""
    y = 1e4 / wave
    blue, red = 2.659 * (-2.156 + 1.509 * y - 0.198 * y**2 + 0.011 * y**3), 2.659 * (-1.857 + 1.040 * y)
    k = np.where(wave < 6300, blue, red) + 4.05
    if kind == "population":
        k = np.where(wave > 1500, k, 5.472 + 0.671 * y - 9.218e-3 * y**2 + 2.620e-3 * y**3)
        bump = p["bump"] * (wave * 350) ** 2 / ((wave**2 - 2175**2) ** 2 + (wave * 350) ** 2)
        k = k * (wave / 5500) ** p["delta"] + bump
    return 10 ** (-0.4 * p["av"] * np.maximum(k, 0) / 4.05)


def band_matrix(problem: Problem, z: float) -> np.ndarray:
    """(band, wave): the photon-weighted mean of a spectrum that is linear between its points, seen at redshift z."""
    x, w = np.polynomial.legendre.leggauss(4)
    observed, rows = problem.wave * (1 + z), []
    for band_wave, curve in problem.bands:
        inside = observed[(observed > band_wave[0]) & (observed < band_wave[-1])]
        points = np.union1d(inside, band_wave)
        at = (points[:-1, None] + np.diff(points)[:, None] * (x + 1) / 2).ravel()
        weight = (
            np.interp(at, band_wave, curve) / at * np.repeat(np.diff(points), x.size) * np.tile(w / 2, points.size - 1)
        )
        inside = (at >= observed[0]) & (at <= observed[-1])
        row = _share(at[None, inside], weight[None, inside], observed)[0]
        rows.append(row / weight.sum())
    return np.array(rows)


def galaxies(
    problem: Problem,
    dtype: str,
    n: int,
    *,
    own_redshift: bool = False,
    nodes: int = 4,
    pieces: int = 2,
    chunk: int = 100,
) -> Timed:
    """Magnitudes of n galaxies on the full grid."""
    flux = problem.flux.reshape(-1, problem.wave.size).astype(dtype)
    values = {name: x[:, None] for name, x in problem.galaxies(n, own_redshift).items()}
    zero = 2.5 * np.log10(AB_ZERO * 4 * np.pi * (10 * PARSEC) ** 2 / LSUN)
    shared = None if own_redshift else band_matrix(problem, ONE_REDSHIFT).astype(dtype).T

    def some(first: int) -> np.ndarray:
        p = {name: x[first : first + chunk] for name, x in values.items()}
        weights = grid_weights(problem, p, nodes, pieces)
        spectra = weights.reshape(len(weights), -1).astype(dtype) @ flux * transmission(problem.kind, p, problem.wave)
        z = p["redshift"][:, 0]
        if shared is None:
            light = np.stack([band_matrix(problem, z[i]) @ spectrum for i, spectrum in enumerate(spectra)])
        else:
            light = spectra @ shared
        return zero - 2.5 * np.log10(light) + (distance_modulus(z) - 2.5 * np.log10(1 + z))[:, None]

    return Timed(lambda: np.concatenate([some(first) for first in range(0, n, chunk)]), lambda output: output)


def product(
    problem: Problem,
    dtype: str,
    n: int,
    *,
    engine: str = "numpy",
    gradient: bool = False,
    spectrum: bool = True,
    precision: str = "highest",
    chunk: int = 500,
) -> Timed:
    """Weights that are there already -> spectra -> bands: two matrix products, without any physics.

    The magnitudes are in an arbitrary zero point, the same for every engine and precision.
    """
    flux = problem.flux.reshape(-1, problem.wave.size)
    bands = band_matrix(problem, ONE_REDSHIFT)
    few = min(n, 200)
    p = {name: x[:, None] for name, x in problem.galaxies(few).items()}
    weights = grid_weights(problem, p, 4, 1).reshape(few, -1)
    weights = np.resize(weights / weights.sum(-1, keepdims=True), (n, weights.shape[-1]))
    # of order one, so that float32 and TF32 are judged by their rounding and not by their range
    scale = np.abs(flux).max()
    flux, bands, weights = (x.astype(dtype) for x in (flux / scale, bands, weights))

    if engine == "numpy":

        def run():
            parts = [weights[i : i + chunk] @ flux for i in range(0, n, chunk)]
            return parts, -2.5 * np.log10(np.concatenate([part @ bands.T for part in parts]))

        return Timed(run, lambda output: output[1])

    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", dtype == "float64")

    def one(w, flux, bands):
        light = jnp.matmul(w, flux, precision=precision)
        magnitudes = -2.5 * jnp.log10(jnp.matmul(bands, light, precision=precision))
        return magnitudes.sum() if gradient else (light if spectrum else 0.0, magnitudes)

    single = jax.value_and_grad(one) if gradient else one

    @jax.jit
    def compiled(weights, flux, bands):
        if n == 1:
            return single(weights[0], flux, bands)
        return jax.lax.map(lambda w: single(w, flux, bands), weights, batch_size=batch_size(chunk, n))

    data = [jnp.asarray(x) for x in (weights, flux, bands)]
    only = lambda output: np.atleast_2d(output[1])  # noqa: E731
    return Timed(lambda: compiled(*data), None if gradient else only)


if __name__ == "__main__":
    serve({f.__name__: f for f in (galaxies, product)})
