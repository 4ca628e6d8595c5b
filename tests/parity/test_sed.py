"""Rest-frame SEDs and their weights against dsps: the scheme "dsps" of the tabulated history and the metallicities."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dspsx import Cosmology, FilterSet, GalaxySEDModel, LognormalMDF, NoDust, SSPGrid, TabulatedSFH
from tests.parity.peers import dsps_rest_seds

pytestmark = pytest.mark.usefixtures("full_compilation")

RTOL = 1e-6
#: Wavelengths where a galaxy is fainter than this share of its peak are not compared.
FLOOR = 1e-30
#: Both sides difference a cumulative mass of rounded logarithms: each weight is uncertain by this share of all the
#: mass. It matters only on the random grids, for the few youngest stars of a galaxy that died long ago.
ROUNDING = 2e-14

T_TABLES = {
    "100 linear": np.linspace(0.1, 13.8, 100),
    "60 logarithmic": np.geomspace(0.01, 13.8, 60),
    "600 linear": np.linspace(0.01, 13.8, 600),
    "ends before t_obs": np.linspace(0.05, 6.0, 50),
}


def smooth(rng, t):
    tau, power = rng.uniform(0.3, 8.0), rng.uniform(0.0, 3.0)
    return 10 ** rng.uniform(-2, 2) * t**power * np.exp(-t / tau)


def bursty(rng, t):
    bursts = np.where(rng.random(t.size) < 0.05, 10 ** rng.uniform(0, 3, t.size), 1.0)
    return smooth(rng, t) * bursts * 10 ** rng.normal(0, 0.7, t.size)


def quenched(rng, t):
    return np.where(t > rng.uniform(1, 12), 10 ** rng.uniform(-6, -2), 1.0) * smooth(rng, t)


def interrupted(rng, t):
    return np.where(np.sin(rng.uniform(2, 20) * t) > 0, bursty(rng, t), 0.0)


def galaxies(rng, t_table, lgmet_range, n=50):
    """Histories of every kind, lgmet over the grid and a bit beyond, scatter 0.001 to 1, t_obs 0.5 to 13.8 Gyr."""
    kinds = [smooth, bursty, quenched, interrupted]
    sfr = np.stack([kinds[i % 4](rng, t_table) for i in range(n)])
    lgmet = np.clip(rng.uniform(lgmet_range[0] - 0.1, lgmet_range[1] + 0.1, n), -4.5, -1.0)
    scatter = 10 ** rng.uniform(-3, 0, n)
    scatter[:2], lgmet[2:4] = (1e-3, 1.0), lgmet_range
    t_obs = np.append([0.5, 13.8], rng.uniform(0.5, 13.8, n - 2))
    z = np.linspace(0, 10, 2001)
    ages = np.asarray(eqx.filter_vmap(Cosmology().age)(jnp.asarray(z)))
    return sfr, lgmet, scatter, np.interp(-t_obs, -ages, z)


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(None, None, 0, 0, 0, 0))
def predict(ssp, t_table, sfr, lgmet, scatter, redshift):
    galaxy = GalaxySEDModel(
        ssp=ssp,
        sfh=TabulatedSFH(t_table, sfr, scheme="dsps"),
        metallicity=LognormalMDF(lgmet, scatter, scheme="dsps"),
        dust=NoDust(),
        filters=FilterSet.load("lsst_r"),
        redshift=redshift,
    )
    return {
        "t_obs": galaxy.t_obs,
        "rest_sed": galaxy.rest_sed(),
        "mass": galaxy.mass_formed(),
        "weights": galaxy.weights(),
        "age_weights": galaxy.sfh.age_weights(ssp.lg_age, galaxy.t_obs),
        "lgmet_weights": galaxy.metallicity.weights(ssp.lgmet, ssp.lg_age, galaxy.sfh, galaxy.t_obs)[:, 0],
    }


def compare(ssp, t_table, draws, peer, rounding):
    """Weights and SEDs of a batch against dsps; the relative deviations of the SEDs where they are compared."""
    ours = {k: np.asarray(v) for k, v in predict(ssp, jnp.asarray(t_table), *map(jnp.asarray, draws)).items()}
    grid = [np.asarray(x) for x in (ssp.lgmet, ssp.lg_age, ssp.flux)]
    theirs = peer(dsps_rest_seds, t_table, *draws[:3], ours["t_obs"], *grid)

    mass = ours["mass"][:, None]
    close = {"rtol": RTOL, "atol": ROUNDING}
    np.testing.assert_allclose(ours["age_weights"] / mass, theirs["age_weights"], **close)
    np.testing.assert_allclose(ours["lgmet_weights"], theirs["lgmet_weights"], **close)
    np.testing.assert_allclose(ours["weights"] / mass[..., None], theirs["weights"], **close)

    expected = theirs["rest_sed"]
    assert np.isfinite(expected).all() and ours["rest_sed"].dtype == np.float64
    counted = expected > FLOOR * expected.max(1, keepdims=True)
    assert counted.mean() > 0.99  # what is left out are dead pixels, and sums of DSPS's negative weights
    allowed = RTOL * expected + rounding * mass * grid[2].max((0, 1))
    deviation = np.abs(ours["rest_sed"] - expected)
    assert (deviation <= allowed)[counted].all(), (
        f"worst {(deviation[counted] / allowed[counted]).max():.3g} of what is allowed"
    )
    return deviation[counted] / expected[counted]


@pytest.mark.parametrize("table", T_TABLES)
def test_popstar(table, peer, x64):
    """To 1e-6 at every wavelength, without any allowance."""
    t_table, ssp = T_TABLES[table], SSPGrid.default()
    draws = galaxies(np.random.default_rng(1 + list(T_TABLES).index(table)), t_table, (-4.0, -1.30103))
    compare(ssp, t_table, draws, peer, rounding=0.0)


def test_grids(x64, grid, peer):
    """The grid that users fetch, too; on it some light of the far ultraviolet hangs on young weights that DSPS rounds."""
    t_table = T_TABLES["100 linear"]
    ends = float(grid.lgmet[0]), float(grid.lgmet[-1])
    draws = galaxies(np.random.default_rng(5), t_table, ends, n=12)
    deviation = compare(grid, t_table, draws, peer, rounding=ROUNDING)
    assert (deviation < RTOL).mean() > 0.999


def test_no_scatter(peer, x64):
    """Without scatter a single metallicity, dsps's too."""
    t_table = T_TABLES["100 linear"]
    sfr, lgmet, scatter, redshift = galaxies(np.random.default_rng(9), t_table, (-4.0, -1.30103))
    compare(SSPGrid.default(), t_table, (sfr, lgmet, 0.0 * scatter, redshift), peer, rounding=0.0)


def random_grid(rng, n_met, n_age, n_wave):
    """A grid without regularity: random ages, metallicities and wavelengths, fluxes of physical magnitude.

    Fading with age, redder with age and metallicity, noisy by a factor of two, with dead pixels. The last age is that
    of the universe: DSPS normalises by the mass that its bins cover, all rounding for a galaxy dead before.
    """
    lg_age = np.append(np.sort(rng.uniform(-4.0, 1.1, n_age - 1)), 1.15)
    lgmet = np.sort(rng.uniform(-4.2, -1.1, n_met))
    wave = np.sort(10 ** rng.uniform(2.0, 5.5, n_wave))
    shape = (n_met, n_age, n_wave)
    tilt = (lg_age[:, None] + 1.0) + 0.3 * (lgmet[:, None, None] + 2.0)
    log_flux = -14.0 - 0.7 * lg_age[:, None] + 0.8 * tilt * np.minimum(np.log10(wave / 5500.0), 0.3)
    flux = 10 ** (log_flux + rng.normal(0, 0.3, shape)) * (rng.random(shape) > 0.01)
    return SSPGrid(wave, lg_age, lgmet, flux)


@pytest.mark.parametrize("seed", range(8))
def test_irregular_grids(seed, peer, x64):
    """DSPS's bins are not around their points on such grids, weights may be negative: the parity scheme follows."""
    rng = np.random.default_rng(100 + seed)
    ssp = random_grid(rng, *((7, 40, 300), (3, 5, 60))[seed % 4 == 3])
    t_table = np.sort(np.append([0.01, 13.8], rng.uniform(0.01, 13.8, 80)))
    draws = galaxies(rng, t_table, (float(ssp.lgmet[0]), float(ssp.lgmet[-1])))
    deviation = compare(ssp, t_table, draws, peer, rounding=ROUNDING)
    assert (deviation < RTOL).mean() > 0.98


def test_published_vectors(x64):
    """The numbers of DSPS 0.4.8 for one history and one metallicity, to the digits given."""
    t = jnp.linspace(0.1, 13.8, 100)
    lg_age = jnp.linspace(-3.0, 1.1, 10)
    sfh = TabulatedSFH(t, t * jnp.exp(-t / 2), scheme="dsps")
    weights = np.asarray(sfh.age_weights(lg_age, jnp.asarray(10.0)))
    expected = [1.93446986e-5, 5.52323159e-5, 1.57748448e-4, 4.50960907e-4, 1.32238294e-3]
    expected += [3.99015916e-3, 1.33703758e-2, 6.02383096e-2, 0.54207597, 0.378319517]
    np.testing.assert_allclose(weights / weights.sum(), expected, rtol=1e-8)

    metallicity = LognormalMDF(-2.0, 0.2, scheme="dsps")
    lgmet = jnp.log10(jnp.asarray([0.0002, 0.0006, 0.002, 0.0061, 0.012, 0.03]))
    weights = np.asarray(metallicity.weights(lgmet, lg_age, sfh, jnp.asarray(10.0)))[:, 0]
    np.testing.assert_allclose(weights, [0.0, 0.0, 0.014911, 0.318274, 0.589261, 0.077554], atol=6e-7)


def test_one_galaxy_as_in_the_batch(x64):
    """A galaxy built alone, outside any transformation, is the galaxy of the batch."""
    ssp, t_table = SSPGrid.default(), T_TABLES["100 linear"]
    sfr, lgmet, scatter, redshift = galaxies(np.random.default_rng(1), t_table, (-4.0, -1.30103))
    batch = predict(ssp, jnp.asarray(t_table), *map(jnp.asarray, (sfr, lgmet, scatter, redshift)))
    galaxy = GalaxySEDModel(
        ssp=ssp,
        sfh=TabulatedSFH(t_table, sfr[7], scheme="dsps"),
        metallicity=LognormalMDF(lgmet[7], scatter[7], scheme="dsps"),
        redshift=redshift[7],
    )
    np.testing.assert_allclose(galaxy.rest_sed(), batch["rest_sed"][7], rtol=1e-7)
    np.testing.assert_allclose(galaxy.weights(), batch["weights"][7], rtol=1e-7, atol=ROUNDING * batch["mass"][7])
