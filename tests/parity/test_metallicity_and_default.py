"""How far the default weights, linear between the grid's points, are from DSPS's bins on the default grid."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dspsx import FilterSet, GalaxySEDModel, LognormalMDF, SSPGrid, TabulatedSFH
from tests.parity.test_sed import T_TABLES, bursty, quenched, smooth


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(None, None, 0, 0, 0, 0, None, None))
def magnitudes(ssp, filters, sfr, lgmet, scatter, redshift, age_scheme, met_scheme):
    t_table = jnp.asarray(T_TABLES["600 linear"])
    galaxy = GalaxySEDModel(
        ssp=ssp,
        sfh=TabulatedSFH(t_table, sfr, scheme=age_scheme),
        metallicity=LognormalMDF(lgmet, scatter, scheme=met_scheme),
        filters=filters,
        redshift=redshift,
    )
    return galaxy.magnitudes()


@pytest.mark.parametrize("kind", [smooth, bursty, quenched])
def test_default_against_dsps(kind, x64):
    """Run with -s for the table: deviations in mmag of 50 galaxies at z = 0.02 to 2 in LSST ugrizy."""
    rng = np.random.default_rng(40)
    ssp, filters, n = SSPGrid.default(), FilterSet.load("lsst_*"), 50
    sfr = np.stack([kind(rng, T_TABLES["600 linear"]) for _ in range(n)])
    args = (sfr, rng.uniform(-3.4, -1.5, n), rng.uniform(0.05, 0.4, n), rng.uniform(0.02, 2.0, n))
    args = [jnp.asarray(x) for x in args]
    run = lambda *schemes: np.asarray(magnitudes(ssp, filters, *args, *schemes))  # noqa: E731
    deviation = 1e3 * (run("hat", "hat") - run("dsps", "dsps"))
    assert np.isfinite(deviation).all()
    print(kind.__name__, "median", np.median(deviation, 0).round(1), "worst", np.abs(deviation).max(0).round(1))
