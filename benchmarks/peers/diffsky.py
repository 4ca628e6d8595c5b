"""diffsky as a worker: `python -m benchmarks.peers.diffsky --task galaxies --problem FILE.npz --dtype float64`.

Its kernel of population photometry, called as its own tests call it, with the default parameters: it draws the histories
from the halos and predicts each galaxy three times over (quenched, on the main sequence, and bursty), with metallicity,
bursts and dust by scaling relations. Tables of magnitudes at 25 redshifts, dust at effective wavelengths. Galaxies of
another model: its magnitudes are not compared.
"""

import numpy as np

from benchmarks.problem import BARYONS, HUBBLE, OMEGA_M, Problem
from benchmarks.timing import Timed, serve


def galaxies(problem: Problem, dtype: str, n: int, *, gradient: bool = False, n_z: int = 25) -> Timed:
    """Photometry of n halos, all at once; or the gradient of its sum with respect to the parameters of the population."""
    import jax
    import jax.numpy as jnp
    from diffmah.diffmah_kernels import DiffmahParams
    from diffsky.experimental.kernels.phot_kernels_in_situ import _mc_phot_kern
    from diffsky.experimental.precompute_ssp_phot import get_precompute_ssp_mag_redshift_table
    from diffsky.param_utils.diffsky_param_wrapper_merging import DEFAULT_PARAM_COLLECTION
    from diffsky.utils.phot_utils import get_wave_eff_table
    from dsps.cosmology import DEFAULT_COSMOLOGY, age_at_z
    from dsps.data_loaders import SSPData
    from dsps.data_loaders.defaults import TransmissionCurve

    jax.config.update("jax_enable_x64", dtype == "float64")
    array = lambda x: jnp.asarray(np.asarray(x, dtype))  # noqa: E731
    cosmology = DEFAULT_COSMOLOGY._replace(Om0=OMEGA_M, h=HUBBLE)
    curves = [TransmissionCurve(w, t) for w, t in problem.bands]
    lo, hi = problem.z_range
    redshifts = np.linspace(lo - 1e-3, hi + 1e-3, n_z)
    ssp = SSPData(*(array(x) for x in (problem.lgmet, problem.lg_age, problem.wave, problem.flux)))
    table = array(get_precompute_ssp_mag_redshift_table(curves, ssp, redshifts, cosmology))
    effective = array(get_wave_eff_table(redshifts, curves))
    z_table = array(redshifts)

    p = {name: array(x) for name, x in problem.galaxies(n, own_redshift=True).items()}
    mah = DiffmahParams(*(p[name] for name in DiffmahParams._fields))
    t_obs = age_at_z(p["redshift"], *cosmology)
    centrals, zeros = -np.ones(n, int), np.zeros(n, dtype)

    def run(parameters, key, mah, z, t_obs, table):
        halos = (mah, centrals, zeros, zeros, zeros)
        results, _, _ = _mc_phot_kern(
            key, z, t_obs, *halos, ssp, table, z_table, effective, *parameters, cosmology, BARYONS
        )
        return results.obs_mags_weighted.sum() if gradient else results.obs_mags

    # the defaults hold integers, of which there are no gradients
    parameters = jax.tree.map(lambda x: array(float(x)), tuple(DEFAULT_PARAM_COLLECTION))
    compiled = jax.jit(jax.value_and_grad(run) if gradient else run)
    inputs = (jax.random.key(0), mah, p["redshift"], t_obs, table)
    return Timed(lambda: compiled(parameters, *inputs))


if __name__ == "__main__":
    serve({"galaxies": galaxies})
