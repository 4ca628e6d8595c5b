"""DSPS (with diffmah and diffstar) as a worker: `python -m benchmarks.peers.dsps --task exact --problem FILE.npz --n 100`.

Only public functions, the way its notebooks and diffsky use them: histories as a table of 100 times; the exact path is
`calc_rest_sed_sfh_table_lognormal_mdf`, an attenuation curve and `calc_obs_mag` for each band; the table path
interpolates precomputed magnitudes of the SSPs in redshift and puts dust in at the bands' effective wavelengths.
"""

import functools

import numpy as np

from benchmarks.problem import BARYONS, HUBBLE, OMEGA_M, ONE_REDSHIFT, T_TODAY, Problem
from benchmarks.timing import Timed, batch_size, serve

N_TIMES = 100


class _Recipes:
    """The pieces of every task: the arrays in one precision, and functions of one galaxy's parameters p."""

    def __init__(self, problem: Problem, dtype: str):
        import dsps
        import dsps.cosmology
        import dsps.dust.att_curves
        import dsps.photometry.photpop
        import dsps.photometry.utils
        import jax
        from diffmah.diffmah_kernels import DiffmahParams
        from diffstar import calc_sfh_singlegal
        from diffstar.defaults import DEFAULT_DIFFSTAR_PARAMS

        # each of these imports has switched float64 on; the flag counts from now
        jax.config.update("jax_enable_x64", dtype == "float64")
        self.jax, self.jnp, self.dsps, self.dtype = jax, jax.numpy, dsps, dtype
        self.curves, self.photpop = dsps.dust.att_curves, dsps.photometry.photpop
        self.diffmah, self.diffstar, self.history = DiffmahParams, DEFAULT_DIFFSTAR_PARAMS, calc_sfh_singlegal
        self.kind = problem.kind
        self.lgmet, self.lg_age, self.wave = (self.array(x) for x in (problem.lgmet, problem.lg_age, problem.wave))
        self.problem = problem
        self.bands = [(self.array(w), self.array(t)) for w, t in problem.bands]
        self.times = self.array(np.linspace(0.01, T_TODAY, N_TIMES))
        self.cosmology = dsps.cosmology.DEFAULT_COSMOLOGY._replace(Om0=OMEGA_M, h=HUBBLE)
        size = max(w.size for w, _ in problem.bands)
        matrices = dsps.photometry.utils.interpolate_filter_trans_curves(*zip(*problem.bands, strict=True), n=size)
        self.band_waves, self.band_curves = (self.array(x) for x in matrices)
        photons = [(np.trapezoid(t * w, w), np.trapezoid(t, w)) for w, t in problem.bands]
        self.effective = self.array([above / below for above, below in photons])

    @functools.cached_property
    def flux(self):
        return self.array(self.problem.flux)

    def array(self, x):
        return self.jnp.asarray(np.asarray(x, self.dtype))

    def parameters(self, problem: Problem, n: int, own_redshift: bool):
        return {name: self.array(x) for name, x in problem.galaxies(n, own_redshift).items()}

    def sfr(self, p, t_obs):
        if self.kind == "spectrum":
            onset = self.jnp.minimum(p["age"], t_obs)
            since, x = self.jnp.maximum(self.times - t_obs + onset, 0.0) / p["tau"], onset / p["tau"]
            norm = p["tau"] * (1.0 - (1.0 + x) * self.jnp.exp(-x))
            return 10 ** (p["lg_mass_formed"] - 9.0) * since * self.jnp.exp(-since) / norm
        mah = self.diffmah(*(p[name] for name in self.diffmah._fields))
        sfh = self.diffstar._replace(**{name: p[name] for name in self.diffstar._fields})
        return self.history(sfh, mah, self.times, lgt0=np.log10(T_TODAY), fb=BARYONS)

    def t_obs(self, p):
        return self.dsps.cosmology.flat_wcdm._age_at_z_kern(p["redshift"], *self.cosmology)

    def transmission(self, p, wave):
        if self.kind == "spectrum":
            k = self.curves.calzetti00_k_lambda(wave / 1e4)
        else:
            k = self.curves.sbl18_k_lambda(wave / 1e4, p["bump"], p["delta"])
        return self.curves._frac_transmission_from_k_lambda(k, p["av"])

    def sed(self, p, flux):
        t_obs = self.t_obs(p)
        sed = self.dsps.calc_rest_sed_sfh_table_lognormal_mdf(
            self.times, self.sfr(p, t_obs), p["lgmet"], p["scatter"], self.lgmet, self.lg_age, flux, t_obs
        ).rest_sed
        return sed * self.transmission(p, self.wave)

    def magnitudes(self, p, sed):
        args = (p["redshift"], *self.cosmology)
        return self.jnp.stack([self.dsps.calc_obs_mag(self.wave, sed, w, t, *args) for w, t in self.bands])

    def weights(self, p):
        """Weights that sum to one, and the mass formed."""
        t_obs = self.t_obs(p)
        sfr = self.sfr(p, t_obs)
        weights = self.dsps.calc_ssp_weights_sfh_table_lognormal_mdf(
            self.times, sfr, p["lgmet"], p["scatter"], self.lgmet, self.lg_age, t_obs
        ).weights
        masses = self.dsps.cumulative_mstar_formed(self.times, sfr)
        return weights, 10 ** self.jnp.interp(self.jnp.log10(t_obs), self.jnp.log10(self.times), self.jnp.log10(masses))

    def table(self, redshifts):
        """Magnitudes of the SSPs (redshift, band, met, age): one redshift a call, since all at once needs a lot of memory."""
        parts = []
        for z in redshifts:
            args = (self.wave, self.flux, self.band_waves, self.band_curves, self.array([z]))
            parts.append(self.photpop.precompute_ssp_obsmags_on_z_table(*args, *self.cosmology))
        return self.jnp.moveaxis(self.jnp.concatenate(parts), -1, 1)

    def batch(self, one, n: int, chunk: int, gradient: bool):
        """A compiled function of all galaxies and of the grid: all at once, or `chunk` of them at a time."""
        jax = self.jax

        def fun(p, data):
            single = lambda q: one(q, data)  # noqa: E731
            if gradient:
                single = jax.value_and_grad(lambda q: one(q, data).sum())
            if n == 1:
                return single(jax.tree.map(lambda x: x[0], p))
            return jax.lax.map(single, p, batch_size=batch_size(chunk, n)) if chunk else jax.vmap(single)(p)

        return jax.jit(fun)


def exact(
    problem: Problem,
    dtype: str,
    n: int,
    *,
    gradient: bool = False,
    own_redshift: bool = False,
    spectrum: bool = False,
    chunk: int = 0,
) -> Timed:
    """Spectra of n galaxies on the full grid, and their magnitudes in each band."""
    recipes = _Recipes(problem, dtype)
    p = recipes.parameters(problem, n, own_redshift)

    def one(q, flux):
        sed = recipes.sed(q, flux)
        magnitudes = recipes.magnitudes(q, sed)
        return (sed, magnitudes) if spectrum and not gradient else magnitudes

    run = recipes.batch(one, n, chunk, gradient)
    bands = len(recipes.bands)
    only = lambda output: np.asarray(output[1] if spectrum else output).reshape(-1, bands)  # noqa: E731
    return Timed(lambda: run(p, recipes.flux), None if gradient else only)


def tables(
    problem: Problem,
    dtype: str,
    n: int,
    *,
    gradient: bool = False,
    own_redshift: bool = False,
    chunk: int = 1000,
    n_z: int = 25,
    stored: str | None = None,
) -> Timed:
    """Magnitudes from precomputed ones of the SSPs at n_z redshifts, or (n_z = 1) at the one redshift of all galaxies."""
    recipes = _Recipes(problem, dtype)
    jnp = recipes.jnp
    p = recipes.parameters(problem, n, own_redshift)
    redshifts = _redshifts(problem, n_z)
    z_table = recipes.array(redshifts)
    magnitudes = recipes.array(np.load(stored)) if stored else recipes.table(redshifts)

    def one(q, magnitudes):
        weights, mass = recipes.weights(q)
        if n_z > 1:
            above = jnp.searchsorted(z_table, q["redshift"])
            x = (q["redshift"] - z_table[above - 1]) / (z_table[above] - z_table[above - 1])
            mags = (1 - x) * magnitudes[above - 1] + x * magnitudes[above]
        else:
            mags = magnitudes[0]
        flux = (10 ** (-0.4 * mags) * weights).sum((1, 2))
        dust = recipes.transmission(q, recipes.effective / (1 + q["redshift"]))
        return -2.5 * jnp.log10(flux * dust * mass)

    run = recipes.batch(one, n, chunk, gradient)
    return Timed(lambda: run(p, magnitudes), None if gradient else (lambda output: output))


def weights(
    problem: Problem, dtype: str, n: int, *, gradient: bool = False, own_redshift: bool = False, chunk: int = 1000
) -> Timed:
    """Weights of the SSPs alone; times the mass, and their sum, so that no output is written."""
    recipes = _Recipes(problem, dtype)
    p = recipes.parameters(problem, n, own_redshift)

    def one(q, _):
        share, mass = recipes.weights(q)
        return (share * mass).sum()

    run = recipes.batch(one, n, chunk, gradient)
    return Timed(lambda: run(p, None))


def _redshifts(problem: Problem, n_z: int) -> np.ndarray:
    """Of the table: it must begin below and end above all galaxies."""
    lo, hi = problem.z_range
    return np.linspace(lo - 1e-3, hi + 1e-3, n_z) if n_z > 1 else np.array([ONE_REDSHIFT])


def build(problem: Problem, dtype: str, n: int, *, n_z: int = 25) -> Timed:
    """The building of the table of magnitudes itself."""
    recipes = _Recipes(problem, dtype)
    return Timed(lambda: recipes.table(_redshifts(problem, n_z)))


def store(problem: Problem, dtype: str, n: int, *, path: str, n_z: int = 25) -> Timed:
    """Build the table once and keep it in a file, so that workers that predict are not charged for the memory of it."""
    with open(path, "wb") as file:
        np.save(file, _Recipes(problem, dtype).table(_redshifts(problem, n_z)))
    return Timed(lambda: None)


if __name__ == "__main__":
    serve({f.__name__: f for f in (exact, tables, weights, build, store)})
