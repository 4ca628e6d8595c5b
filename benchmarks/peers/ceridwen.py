"""CERIDWEN as a worker: `python -m benchmarks.peers.ceridwen --task galaxies --problem FILE.npz --dtype float64`.

As its README: an `SSPData` (here the problem's grid), a `CSPBasis` on a grid of lookback times, a `SedModel` with
`Photometry`, a history by a transform, and `predict_jit` or `predict_vmap`. Delayed exponential history on 100 nodes,
Calzetti dust, no nebular emission (that needs the data files of FSPS), one metallicity, one redshift, no broadening.
"""

import os
import tempfile

import numpy as np

from benchmarks.problem import HUBBLE, OMEGA_M, ONE_REDSHIFT, Problem
from benchmarks.timing import Skip, Timed, serve

N_NODES = 100


def galaxies(problem: Problem, dtype: str, n: int, *, gradient: bool = False, scatter: float = 0.0) -> Timed:
    """Photometry of n galaxies, each from its spectrum on the whole grid."""
    os.environ |= {"CERIDWEN_X64": str(int(dtype == "float64")), "CERIDWEN_NO_UPDATE_CHECK": "1"}
    if problem.kind != "spectrum" or scatter:
        raise Skip("is used with a delayed exponential history and one metallicity")
    import ceridwen
    import jax
    import jax.numpy as jnp
    from ceridwen.broadening import Kinematics
    from ceridwen.observation import Photometry
    from ceridwen.observation.filters import FilterSet

    solar = problem.lgmet[np.argmin(np.abs(problem.lgmet + 1.85))]
    ssp = ceridwen.SSPData(problem.lgmet, problem.lg_age, problem.wave, problem.flux, zsun=10**solar)
    cosmology = ceridwen.Cosmology.flat(100 * HUBBLE, OMEGA_M)
    nodes = jnp.linspace(0.0, float(cosmology.age(ONE_REDSHIFT)), N_NODES)
    csp = ceridwen.CSPBasis(
        ssp,
        lookback_time=nodes,
        cosmo=cosmology,
        zh_const=True,
        sfh_interp="linear",
        add_neb=False,
        add_dust=False,
        add_diffuse_dust=True,
        diffuse_law="calzetti",
        verbose=False,
    )

    def history(theta):
        tau, whole = theta["tau"], theta["age"] / theta["tau"]
        since = jnp.maximum(theta["age"] - nodes, 0.0) / tau
        return since * jnp.exp(-since) / (tau * 1e9 * (1.0 - (1.0 + whole) * jnp.exp(-whole)))

    values = problem.galaxies(n)
    k_v = 2.659 * (-2.156 + 1.509 / 0.55 - 0.198 / 0.55**2 + 0.011 / 0.55**3) + 4.05
    theta = {
        "logmass": values["lg_mass_formed"],
        "age": values["age"],
        "tau": values["tau"],
        "logzsol": values["lgmet"] - solar,
        # its curve is one at 5500 A exactly, and its A_V an optical depth
        "diffuse_tau_cal00": values["av"] * k_v / 4.05 / 2.5 * np.log(10),
    }
    theta = {name: jnp.asarray(x[:, None]) for name, x in theta.items()}
    photometry = Photometry(filters=["sdss_r0"], name="phot")
    with tempfile.TemporaryDirectory() as folder:
        for name, band in zip(problem.names, problem.bands, strict=True):
            np.savetxt(os.path.join(folder, f"{name}.par"), np.stack(band, axis=-1))
        photometry.filterset = FilterSet(problem.names, dlnlam=1e-4, directory=folder)
    model = ceridwen.SedModel(
        csp,
        observations=[photometry],
        transforms={"sfh": history, "diffuse_R_v_cal00": lambda theta: jnp.array([4.05])},
        free_param_init={name: theta[name][0] for name in ("logmass", "age", "tau")},
        zred=ONE_REDSHIFT,
        kinematics=Kinematics.none(),
        broaden_photometry=False,
    )

    total = lambda t: -2.5 * jnp.log10(model.predict(t)["phot"]).sum()  # noqa: E731
    first = {name: x[0] for name, x in theta.items()}
    if gradient:
        single = jax.value_and_grad(total)
        run = jax.jit(single if n == 1 else jax.vmap(single))
        return Timed(lambda: run(first if n == 1 else theta))
    magnitudes = lambda output: -2.5 * np.log10(np.asarray(output["phot"], float)).reshape(n, -1)  # noqa: E731
    if n == 1:
        return Timed(lambda: model.predict_jit(first), magnitudes)
    return Timed(lambda: model.predict_vmap(theta), magnitudes)


if __name__ == "__main__":
    serve({"galaxies": galaxies})
