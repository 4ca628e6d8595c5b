"""The continuum of ionised gas: the table against textbooks and bagpipes, its interpolation, and the hooks that it is behind."""

import dataclasses
import functools
import importlib.resources

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import dspsx
from dspsx import nebular, testing, units
from dspsx.nebular import NebularLines
from tests.parity.test_nebular import bc03
from tests.test_nebular import on_nodes, single_age, state

WAVE = np.geomspace(950.0, 3e5, 40)
H, K_B, C = 6.62607015e-27, 1.380649e-16, 2.99792458e18  # cgs, Angstrom/s


@functools.cache
def file(name="continuum"):
    source = importlib.resources.files("dspsx") / "data" / f"nebular_{name}.h5"
    with importlib.resources.as_file(source) as path, h5py.File(path) as h:
        return {k: h[k][()] for k in h} | {"bytes": path.stat().st_size, "attrs": dict(h.attrs)}


@functools.cache
def table():
    """erg/Hz per ionising photon, (logu, met, age, wave)."""
    return file()["factors"].astype(float) @ file()["spectra"].astype(float)


def at(wave):
    """The table at wavelengths, (..., logu, met, age)."""
    grid = file()["wave"]
    x = np.clip(np.log(np.asarray(wave) / grid[0]) / np.log(grid[1] / grid[0]), 0, grid.size - 1.001)
    i = x.astype(int)
    return np.moveaxis(table()[..., i] * (1 - (x - i)) + table()[..., i + 1] * (x - i), -1, 0)


def line(name):
    return file("lines")["energy"][..., list(file("lines")["name"]).index(name.encode())].astype(float)


@eqx.filter_jit
def _continuum(lines, ssp, weights, wave):
    return lines.continuum(ssp, weights, wave)


def continuum(lines, ssp, weights, wave=WAVE):
    return np.asarray(_continuum(lines, ssp, *(jnp.asarray(x, dtype=float) for x in (weights[None], wave)))[0], float)


# the table


def test_the_file_is_small_and_goes_with_that_of_the_lines():
    assert file()["bytes"] < 3e5
    for key in ("source", "citation", "licence", "models", "built_by"):
        assert file()["attrs"][key]
    assert file()["attrs"]["source_sha256"] == file("lines")["attrs"]["source_sha256"]
    for axis in ("logu", "lgmet", "lg_age"):
        np.testing.assert_array_equal(file()[axis], file("lines")[axis])
    steps = np.diff(np.log(file()["wave"]))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    assert steps[0] <= 0.01 and file()["wave"][0] == nebular.LYMAN_LIMIT and file()["wave"][-1] > 1e6
    assert np.isfinite(table()).all() and table().min() > 0


def test_equivalent_width_of_hbeta():
    """About 1000 A and more in gas that the stars are not seen in; the cooler it is, the more (Osterbrock & Ferland 2006)."""
    width = line("H_beta_4861") / at([4862.7])[0] * 4862.7**2 / C
    assert width[:, :, 0].min() > 740 and width[:, :, 0].max() < 1760
    assert (np.diff(width[:, 1:, 0], axis=1) > 0).all()  # with Z
    np.testing.assert_allclose(width[:, 2, :3], 1050, atol=50)  # Z = 0.004, 12,000 K


def test_equivalent_widths_need_a_continuum(precision):
    """Where dust leaves none, and beyond the spectrum, there is none; other lines keep their width and derivatives."""
    galaxy = dspsx.GalaxySEDModel(
        sfh=dspsx.ConstantSFH(age=1.0), dust=dspsx.PowerLawDust(av=6.0, slope=-2.0), lines=dspsx.NebularLines()
    )
    wave, _ = galaxy.emission_lines()
    names = ["H_alpha_6563", "OIII_5007"]
    i = np.array([galaxy.lines.index(name) for name in names])
    widths = eqx.filter_jit(lambda age: dspsx.replace(galaxy, lambda g: g.sfh.age, age).equivalent_widths()[i])
    assert np.isfinite(widths(galaxy.sfh.age)).all() and np.isfinite(jax.jacfwd(widths)(galaxy.sfh.age)).all()
    slope = jax.jacrev(widths)(galaxy.sfh.age)
    step = (widths(galaxy.sfh.age * 1.01) - widths(galaxy.sfh.age * 0.99)) / (0.02 * galaxy.sfh.age)
    np.testing.assert_allclose(slope, step, rtol=2e-2)
    beyond = np.asarray(wave) * 1.015 > galaxy.ssp.wave[-1]
    assert beyond.any() and np.isnan(galaxy.equivalent_widths()[beyond]).all()
    ssp = galaxy.ssp
    some = np.asarray(ssp.wave) < 1e4
    cut = dspsx.SSPGrid(wave=ssp.wave[some], flux=ssp.flux[..., some], lgmet=ssp.lgmet, lg_age=ssp.lg_age)
    optical = dspsx.GalaxySEDModel(
        ssp=cut, sfh=dspsx.ConstantSFH(age=1.0), lines=dspsx.NebularLines(cut), filters=dspsx.FilterSet.load("lsst_r")
    )
    found = optical.equivalent_widths()
    assert np.isfinite(found[i]).all() and np.isnan(found[optical.lines.index("Pa_alpha_18751")])


def temperature():
    """K, of the [O III] lines (Osterbrock & Ferland 2006, eq. 5.4, at low density)."""
    ratio = (line("OIII_5007") + line("OIII_4959")) / line("OIII_4363")
    return 3.29e4 / np.log(ratio / 7.90)


def hbeta(t):
    """erg cm^3/s, case B (Osterbrock & Ferland 2006, table 4.4)."""
    return np.exp(np.interp(np.log(t), np.log([5e3, 1e4, 2e4]), np.log([2.20e-25, 1.24e-25, 6.58e-26])))


def bound_free(n, nu, t):
    """erg cm^3/s/Hz: recombination to level n, from the photoionisation cross-section of Kramers by detailed balance; Gaunt
    factor of Menzel & Pekeris 1935, MNRAS 96, 77."""
    rydberg = 3.28805e15
    u = np.maximum(n**2 * nu / rydberg - 1, 0.0)
    gaunt = 1 + 0.1728 * (u - 1) / (n * (u + 1)) ** (2 / 3) - 0.0496 * (u**2 + 4 * u / 3 + 1) / (n * (u + 1)) ** (4 / 3)
    cross_section = 7.907e-18 * n * (rydberg / (n**2 * nu)) ** 3 * gaunt
    free = (H**2 / (2 * np.pi * 9.1093837e-28 * K_B * t)) ** 1.5
    light = 8 * np.pi * H * nu**3 / 2.99792458e10**2 * n**2 * free * cross_section
    return np.where(nu >= rydberg / n**2, light * np.exp(-(H * nu - H * rydberg / n**2) / (K_B * t)), 0.0)


def free_free(nu, t):
    """erg cm^3/s/Hz, with the Gaunt factor of Draine 2011, eq. 10.9."""
    gaunt = np.log(np.exp(5.960 - np.sqrt(3) / np.pi * np.log(nu / 1e9 * (t / 1e4) ** -1.5)) + np.e)
    return 6.84e-38 * t**-0.5 * gaunt * np.exp(-H * nu / (K_B * t))


def two_photon(nu):
    """erg/Hz per decay of 2s (Nussbaumer & Schmutz 1984, A&A 138, 495)."""
    y = nu / (C / 1215.67)
    x = y * (1 - y)
    return H * y * 202.0 / 8.2249 * (x * (1 - (4 * x) ** 0.8) + 0.88 * x**1.53 * (4 * x) ** 0.8)


HOT = np.s_[4:, :, :3]  # log U of -2 and more, ages of 2 Myr and less: oxygen is O++ where hydrogen is H+


def test_balmer_and_paschen_jumps_by_detailed_balance():
    """Relative to H-beta, at the temperature that the gas's [O III] lines have: 8,000 to 22,000 K."""
    t = temperature()
    for n, (blue, limit, red) in ((2, (3580.0, 3647.0, 3715.0)), (3, (8100.0, 8205.0, 8300.0))):
        low, mid, high = at([0.985 * blue, blue, red])
        jump = mid * (mid / low) ** (np.log(limit / blue) / -np.log(0.985)) - high
        ratio = jump / line("H_beta_4861") / (bound_free(n, C / limit * (1 + 1e-9), t) / hbeta(t))
        assert ratio[HOT].min() > 0.95 and ratio[HOT].max() < 1.12, (n, ratio[HOT].min(), ratio[HOT].max())


def test_infrared_is_free_free_and_bound_free_emission():
    """As the jumps; helium, a tenth of the ions, adds its own."""
    t = temperature()
    for wave in (15000.0, 22000.0, 35000.0, 1e5, 1e6, 5e7):
        nu = C / wave
        light = free_free(nu, t) + sum(bound_free(n, nu, t) for n in range(2, 200))
        ratio = at([wave])[0] / line("H_beta_4861") / (light / hbeta(t))
        assert ratio[HOT].min() > 0.9 and ratio[HOT].max() < 1.21, (wave, ratio[HOT].min(), ratio[HOT].max())


def test_ultraviolet_is_two_photon_emission():
    """A third of the recombinations of hydrogen end in 2s at 10^4 K (Osterbrock & Ferland 2006, ch. 4), and collisions add
    to it in hot gas; there is nothing blueward of Lyman alpha."""
    nu, t = C / np.array([1300.0, 1500.0, 1800.0]), temperature()
    recombinations = line("H_beta_4861") / hbeta(t) * 2.59e-13 * (t / 1e4) ** -0.83
    rest = sum(bound_free(n, nu[:, None, None, None], t) for n in range(2, 50)) + free_free(nu[:, None, None, None], t)
    left = at(C / nu) / recombinations - rest / (2.59e-13 * (t / 1e4) ** -0.83)
    share = left / two_photon(nu)[:, None, None, None]
    cool = share[:, 4:, 4, :3]
    assert cool.min() > 0.28 and cool.max() < 0.36, (cool.min(), cool.max())
    assert (np.diff(share[:, 4:, :, 0].mean((0, 1))) < 0).all()
    young = at([950.0, 1150.0])[..., :3] / at([1500.0])[..., :3]
    assert young.max() < 0.08


def test_no_lines_are_left_in_it():
    """Within 0.7 % of every line, the spectrum is a straight line but for 1.5 %, where no edge of hydrogen or helium is."""
    wave = file("lines")["wave"]
    wave = wave[(wave > 1450) & (wave < 2e6)]
    edges = np.array([2601.0, 3122.0, 3423.0, 3647.0, 3680.0, 7440.0, 7847.0, 8206.0, 14588.0])
    edges = np.append(edges, 911.76 * np.arange(5, 14) ** 2)
    clear = (np.abs(np.log(wave[:, None] / edges)) > 0.028).all(1)
    assert clear.sum() > 55
    middle = at(wave[clear]) / np.sqrt(at(0.985 * wave[clear]) * at(1.015 * wave[clear]))
    assert np.abs(middle - 1).max() < 0.015, wave[clear][np.abs(middle - 1).max((1, 2, 3)) > 0.015]


#: What bagpipes 1.3.6 says, in erg/s/Hz, of 10^8 Msun formed at a constant rate over the last 100 Myr, by Z/Z_sun and log U:
#: `config.cont_grid` interpolated at BAGPIPES_WAVE, and summed by `nebular._interpolate_grid(..., t_bc=0.01, logU)`.
TEXT = """
    Z              0.2       0.2       0.2       0.2       1.0       1.0       1.0       1.0
    logU          -3.5      -2.5      -2.0     -2.25      -3.5      -2.5      -2.0     -2.25
    1000      4.235e25  4.362e25  4.399e25  4.381e25  4.243e25  4.467e25  4.486e25  4.477e25
    1250      3.915e26  3.629e26   3.56e26  3.595e26  2.534e26  2.506e26  2.494e26    2.5e26
    1500      1.222e27  1.125e27  1.102e27  1.113e27  7.576e26  7.429e26  7.383e26  7.406e26
    2000      1.282e27  1.218e27  1.202e27   1.21e27  7.592e26  7.366e26  7.274e26   7.32e26
    2500      1.462e27  1.429e27   1.42e27  1.425e27  8.839e26  8.406e26  8.215e26   8.31e26
    3000      1.919e27  1.875e27  1.863e27  1.869e27  1.364e27   1.32e27  1.299e27   1.31e27
    3300      2.339e27  2.259e27   2.24e27   2.25e27  1.916e27  1.917e27  1.919e27  1.918e27
    4200      7.831e26  7.748e26  7.732e26   7.74e26   4.48e26  4.228e26  4.123e26  4.175e26
    5500      9.168e26  9.203e26  9.217e26   9.21e26  5.867e26  5.568e26  5.429e26  5.498e26
    6200      1.021e27  1.023e27  1.024e27  1.023e27   7.08e26   6.82e26  6.702e26  6.761e26
    8000      1.294e27  1.279e27  1.277e27  1.278e27  1.067e27  1.073e27  1.079e27  1.076e27
    12000     8.977e26  9.174e26   9.23e26  9.202e26  6.539e26   6.35e26  6.266e26  6.308e26
    14000     9.943e26   1.01e27  1.015e27  1.013e27  7.697e26  7.596e26  7.559e26  7.577e26
    15500     7.645e26  7.953e26  8.038e26  7.996e26   5.22e26  4.979e26  4.866e26  4.922e26
    22000     9.194e26   9.47e26   9.55e26   9.51e26  6.897e26   6.74e26  6.672e26  6.706e26
    35000     8.541e26  8.931e26  9.038e26  8.985e26  6.063e26  5.832e26  5.727e26   5.78e26
    50000     9.063e26  9.485e26  9.603e26  9.544e26  6.473e26  6.239e26   6.13e26  6.184e26
    150000    1.071e27  1.126e27  1.142e27  1.134e27  7.551e26  7.258e26  7.122e26   7.19e26
    500000    1.314e27  1.387e27  1.407e27  1.397e27  9.137e26  8.752e26  8.571e26  8.661e26
"""
NAMES, *COLUMNS = np.array([row.split() for row in TEXT.strip().splitlines()]).T
BAGPIPES_WAVE = NAMES[2:].astype(float)
BAGPIPES = {(float(z), float(logu)): np.array(light, float) for z, logu, *light in COLUMNS}


@pytest.mark.parametrize("case", BAGPIPES)
def test_bagpipes(case, x64):
    """To 0.5 %, also between nodes of log U, at wavelengths that are a step away from the edges."""
    grid = bc03()
    mass = dspsx.ConstantSFH(lg_mass_formed=8.0, age=0.1).age_weights(grid.lg_age, jnp.asarray(10.0))
    weights = np.zeros((2, mass.size))
    weights[0 if case[0] == 0.2 else 1] = mass
    lines = NebularLines(grid, logu=case[1], until=0.0101)
    found = continuum(lines, grid, weights, BAGPIPES_WAVE) * units.LSUN_CGS
    np.testing.assert_allclose(found, BAGPIPES[case], rtol=0.005)


# interpolation


def test_at_the_nodes_the_table_comes_back(x64):
    ssp = on_nodes()
    lines = NebularLines(ssp)
    rate = nebular.ionising_photon_rates(ssp) * nebular.PHOTONS / units.LSUN_CGS
    grid = file()["wave"]
    for u, logu in enumerate(file()["logu"]):
        for m, a in ((0, 0), (2, 3), (4, 10), (3, 7)):
            found = continuum(state(lines, logu=logu), ssp, single_age(ssp, m, a), grid[1:-1])
            np.testing.assert_allclose(found, 1e6 * rate[m, a] * table()[u, m, a, 1:-1], rtol=1e-6)


def test_between_nodes_it_is_between_its_neighbours(x64):
    ssp, grid = testing.fake_ssp(), file()["wave"]
    lines, young = NebularLines(ssp), single_age(ssp, 1, 1)
    middle = continuum(lines, ssp, young, np.sqrt(grid[:-1] * grid[1:]))
    ends = continuum(lines, ssp, young, grid * (1 + 1e-12) ** np.array([1] + [0] * (grid.size - 2) + [-1]))
    np.testing.assert_allclose(middle, (ends[:-1] + ends[1:]) / 2, rtol=1e-6)
    u = np.linspace(-4, -1, 61)
    sweep = np.array([continuum(state(lines, logu=x), ssp, young) for x in u])
    inside = np.maximum(sweep[:-10:10], sweep[10::10]), np.minimum(sweep[:-10:10], sweep[10::10])
    for k in range(10):
        assert (sweep[k:-1:10] < inside[0] * 1.02).all() and (sweep[k:-1:10] > inside[1] * 0.98).all()


def test_outside_of_the_table_there_is_nothing(precision):
    ssp = testing.fake_ssp()
    edge = np.array([10.0, 500.0, 911.0, 1.01e8, 1e9])
    light = continuum(NebularLines(ssp), ssp, single_age(ssp, 1, 1), np.concatenate([edge, [912.0, 1e8]]))
    assert (light[:-2] == 0).all() and (light[-2:] > 0).all()


def test_the_two_forms_of_weights_agree(precision):
    ssp = testing.fake_ssp()
    lines = NebularLines(ssp, escape=0.2)
    rng = np.random.default_rng(2)
    met, mass = jnp.asarray(rng.dirichlet(np.ones(4)), float), jnp.asarray(rng.random((2, 12)) * 1e8, float)
    wave = jnp.asarray(WAVE, float)
    general = lines.continuum(ssp, met[None, :, None] * mass[:, None, :], wave)
    separable = lines.continuum_separable(ssp, met, mass, wave)
    assert separable.shape == (2, 40) and separable.dtype == precision
    np.testing.assert_allclose(general, separable, rtol=2e-5)
    # what a class has that writes the general form alone
    base = dspsx.EmissionLines.continuum_separable(lines, ssp, met, mass, wave)
    np.testing.assert_allclose(base, separable, rtol=2e-5)
    # linear in mass
    np.testing.assert_allclose(lines.continuum_separable(ssp, met, 3.0 * mass, wave), 3.0 * separable, rtol=2e-5)


def test_float32_agrees_with_float64():
    def evaluate():
        ssp = testing.fake_ssp()
        wave = np.random.default_rng(0).uniform(920.0, 3e4, 300)
        wave = wave[np.abs(np.log(wave[:, None] / [911.76, 1215.67, 3647.0, 8206.0])).min(1) > 0.011]
        return continuum(NebularLines(ssp, logu=-2.3), ssp, single_age(ssp, 2, 2), wave)

    single = evaluate()
    with jax.enable_x64(True):
        np.testing.assert_allclose(single, evaluate(), rtol=3e-5)


def test_a_batch_with_wavelengths_of_its_own_equals_one_by_one():
    ssp = testing.fake_ssp()
    lines, rng = NebularLines(ssp), np.random.default_rng(7)
    weights = jnp.asarray(rng.random((3, 1, 4, 12)) * 1e7, float)
    wave = jnp.asarray(np.sort(rng.uniform(800.0, 2e4, (3, 50))), float)
    together = jax.vmap(lines.continuum, in_axes=(None, 0, 0))(ssp, weights, wave)
    for i in range(3):
        np.testing.assert_allclose(together[i], lines.continuum(ssp, weights[i], wave[i]), rtol=1e-5)


# gradients


def scaled(lines, ssp):
    """As a function of all that it may be differentiated by, of order one."""

    def light(logu, lgmet_gas, escape, lg_mass, wave):
        changed = eqx.tree_at(lambda x: (x.logu, x.lgmet_gas, x.escape), lines, (logu, lgmet_gas, escape))
        out = changed.continuum(ssp, 10.0 ** lg_mass[None], wave)
        return jnp.log10(out[0] + 1e-16)

    return jax.jit(light)  # with arrays of NumPy, too


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_finite_differences(tied, x64):
    ssp = testing.fake_ssp()
    lg_mass = jnp.asarray(np.random.default_rng(4).uniform(5.0, 7.0, (4, 12)))
    # in the middle of steps: the slope changes where one ends
    wave = jnp.asarray(911.76 * np.exp(0.005 * (np.array([8, 100, 270, 281, 300, 700]) + 0.4)))
    for values in ((-2.3, -2.6, 0.1), (-3.71, -2.1, 0.0)):
        args = (*(jnp.asarray(x) for x in values), lg_mass, wave)
        # float32 numbers of the table, and steps of 1e-6 in log10
        check_grads(
            scaled(NebularLines(ssp, tied=tied), ssp), args, order=1, modes=("fwd", "rev"), rtol=1e-4, atol=1e-6
        )


def test_gradients_on_the_nodes_of_the_table(x64):
    """Of what is linear between nodes, the mean of both sides; at its ends, the inside."""
    ssp = testing.fake_ssp()
    lines = NebularLines(ssp, tied=False)
    weights = jnp.full((1, 4, 12), 1e6)

    def of(logu, lgmet):
        changed = eqx.tree_at(lambda x: (x.logu, x.lgmet_gas), lines, (logu, lgmet))
        return jnp.log(changed.luminosities(ssp, weights)[1].sum(0))

    value, slope = jax.jit(of), jax.jit(jax.jacfwd(of, argnums=(0, 1)))
    step = 1e-6
    for nodes, i in zip(lines.nodes, range(2), strict=True):
        for k, node in enumerate(nodes):
            ends = [node - step * (k > 0), node + step * (k < len(nodes) - 1)]
            where = [jnp.asarray([-2.3, -2.6]).at[i].set(x) for x in (*ends, node)]
            expected = (value(*where[1]) - value(*where[0])) / (ends[1] - ends[0])
            np.testing.assert_allclose(slope(*where[2])[i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_finite_at_the_edges(tied, precision):
    ssp = testing.fake_ssp()
    lines, grid = NebularLines(ssp, tied=tied), file()["wave"]
    wave = jnp.asarray([1e-3, 100.0, grid[0], grid[0] * (1 + 1e-7), grid[1], 3646.0, grid[-2], grid[-1], 1e12], float)

    @jax.jit
    @functools.partial(jax.jacrev, argnums=(0, 1, 2, 3, 4))
    def gradient(logu, lgmet_gas, escape, weights, wave):
        changed = eqx.tree_at(lambda x: (x.logu, x.lgmet_gas, x.escape), lines, (logu, lgmet_gas, escape))
        return changed.continuum(ssp, weights[None], wave)[0], changed.transmission(wave)

    for logu in (-4.0, -2.5, -1.0):
        for lgmet, escape, mass in ((-4.0, 0.0, 0.0), (-1.69897, 1.0, 1e9), (-2.0, 0.5, 1e-3)):
            numbers = (jnp.asarray(x, float) for x in (logu, lgmet, escape))
            found = gradient(*numbers, jnp.full((4, 12), mass, float), wave)
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


# the hooks


def test_lines_alone():
    ssp = testing.fake_ssp()
    lines, full = NebularLines(ssp, continuum=False), NebularLines(ssp)
    weights, wave = jnp.full((1, 4, 12), 1e6), jnp.asarray(WAVE, float)
    assert full.has_continuum and not lines.has_continuum
    assert lines.continuum(ssp, weights, wave) is None
    assert lines.continuum_separable(ssp, weights[0, :, 0], weights[0], wave) is None
    assert len(jax.tree.leaves(lines)) == len(jax.tree.leaves(full)) - 2
    np.testing.assert_array_equal(lines.luminosities(ssp, weights)[1], full.luminosities(ssp, weights)[1])
    with pytest.raises(TypeError, match="continuum"):
        NebularLines(ssp, continuum="no")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="made for"):
        full.continuum(testing.fake_ssp(n_age=13), jnp.ones((1, 4, 13)), wave)


def test_what_escapes_the_gas_is_not_in_its_light(precision):
    ssp = testing.fake_ssp()
    young = single_age(ssp, 1, 1)
    some, all_ = NebularLines(ssp, escape=0.3), NebularLines(ssp)
    np.testing.assert_allclose(continuum(some, ssp, young), 0.7 * continuum(all_, ssp, young), rtol=1e-5)
    wave = jnp.asarray([100.0, 911.7, 911.8, 5000.0], float)
    left = some.transmission(wave)
    assert left.dtype == precision
    np.testing.assert_allclose(left, [0.3, 0.3, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(all_.transmission(wave), [0.0, 0.0, 1.0, 1.0])


class Green(dspsx.EmissionLines):
    """A line, and no more."""

    def luminosities(self, ssp, weights):
        return jnp.array([5000.0], weights.dtype), 1e-3 * weights.sum((1, 2))[:, None]


class Grey(Green):
    """With a continuum."""

    def continuum(self, ssp, weights, wave):
        return weights.sum((1, 2))[:, None] * jnp.ones_like(wave)[None]


def test_lines_of_ones_own():
    ssp, wave = testing.fake_ssp(), jnp.asarray(WAVE, float)
    met, mass = jnp.full(4, 0.25), jnp.ones((2, 12))
    green, grey = Green(), Grey()
    assert not green.has_continuum and grey.has_continuum
    assert green.continuum(ssp, jnp.ones((1, 4, 12)), wave) is None and green.transmission(wave) is None
    assert green.continuum_separable(ssp, met, mass, wave) is None
    np.testing.assert_allclose(grey.continuum_separable(ssp, met, mass, wave), np.full((2, 40), 12.0), rtol=1e-6)


def test_a_stack_shares_the_spectra_and_a_file_keeps_them(tmp_path):
    lines = NebularLines(testing.fake_ssp())
    both = dspsx.stack([lines, dspsx.replace(lines, lambda x: x.logu, -3.5)])
    assert both.spectra is lines.spectra and both.factors is lines.factors
    for one in (lines, NebularLines(testing.fake_ssp(), continuum=False)):
        dspsx.save(tmp_path / "lines.h5", one)
        assert eqx.tree_equal(dspsx.load(tmp_path / "lines.h5"), one)


class Veil(Grey):
    """A continuum that is about as bright as the stars, with an edge, of which no spectra are known."""

    def continuum(self, ssp, weights, wave):
        return 1e-15 * weights.sum((1, 2))[:, None] * jnp.where(wave < 3646.0, 2.0, 1.0)[None]


@pytest.mark.parametrize("lines", [Veil, lambda: NebularLines(lines=["H_alpha_6563"])])
def test_bands_hold_what_the_spectrum_holds(lines, x64):
    """A band is the mean of the spectrum, and of the lines: also where an edge of the gas is in the band."""
    galaxy = testing.fake_galaxy(
        ssp=dspsx.SSPGrid.default(), lines=lines(), dust=dspsx.Calzetti00(av=0.5), redshift=0.7
    )
    galaxy = dataclasses.replace(galaxy, filters=dspsx.FilterSet.load(["lsst_g", "lsst_r", "lsst_i"]))

    @eqx.filter_jit
    def look(galaxy):
        light, z = galaxy.light(), galaxy.redshift
        wave, luminosity = light.emission_lines(observed=True)
        sed = light.rest_sed() * galaxy.on_the_way(galaxy.ssp.wave)
        seen = galaxy.filters.band_average(galaxy.ssp.wave, sed, z) + galaxy.filters.line_average(wave, luminosity, z)
        stars = dataclasses.replace(galaxy, lines=None).fluxes()
        return galaxy.fluxes(), seen * light.dimming / units.AB_LSUN_HZ, stars

    fluxes, seen, stars = look(galaxy)
    np.testing.assert_allclose(fluxes, seen, rtol=1e-9)
    assert (fluxes > 1.005 * stars).all()


@eqx.filter_jit
def magnitudes(galaxy):
    return galaxy.magnitudes()


@pytest.mark.parametrize("redshift", [0.7, (0.6, 0.8)])
def test_a_compressed_galaxy_has_the_continuum(redshift):
    """In the nodes of its bands if its spectra are few, else at samples of the bands; within the tolerance."""
    bare = None
    for lines, known, tol in ((NebularLines(lines=["H_alpha_6563"]), True, 1e-3), (Veil(), False, 2e-2)):
        full = testing.fake_galaxy(
            ssp=dspsx.SSPGrid.default(), lines=lines, dust=dspsx.Calzetti00(av=0.5), redshift=0.7
        )
        full = dataclasses.replace(full, filters=dspsx.FilterSet.load(["lsst_g", "lsst_r"]))
        small = full.compress(redshift=redshift, tol=tol, n_galaxies=40, progress=False)
        assert small.ssp.has_gas(lines) == known
        expected = magnitudes(full)
        error = 1e3 * np.abs(np.asarray(magnitudes(small) - expected))
        assert error.max() < 1e3 * tol, error
        # gas put in afterwards is at samples of the bands
        bare = bare or dataclasses.replace(full, lines=None).compress(redshift=redshift, n_galaxies=40, progress=False)
        assert not bare.ssp.has_gas(lines)
        later = 1e3 * np.abs(np.asarray(magnitudes(dataclasses.replace(bare, lines=lines)) - expected))
        assert later.max() < 20.0, later


@pytest.mark.filterwarnings("ignore:at redshift .* the spectrum does not cover all of radio")
def test_the_gas_shines_on_where_the_spectrum_ends(x64):
    """At 3 mm there is free-free emission and no SSP grid; compressed galaxies have it too."""
    edges = [np.geomspace(0.9 * c, 1.1 * c, 50) for c in (3e7, 6000.0)]
    bands = dspsx.FilterSet.from_arrays(["radio", "optical"], edges, [np.ones(50)] * 2)
    galaxy = testing.fake_galaxy(
        ssp=dspsx.SSPGrid.default(),
        lines=NebularLines(lines=["H_alpha_6563"]),
        dust=dspsx.Calzetti00(av=0.5),
        redshift=0.1,
    )
    galaxy = dataclasses.replace(galaxy, filters=bands)
    fine = jnp.asarray(np.geomspace(2.7e7, 3.3e7, 2001))
    glow = eqx.filter_jit(lambda g: g.lines.continuum(g.ssp, g.weights()[None], fine / 1.1)[0])(galaxy)
    expected = bands.band_average(fine, glow, 0.0)[0] * galaxy.light().dimming / units.AB_LSUN_HZ
    fluxes_of = eqx.filter_jit(lambda g: g.fluxes())
    fluxes = fluxes_of(galaxy)
    np.testing.assert_allclose(fluxes[0], expected, rtol=2e-3)
    for redshift in (0.1, (0.05, 0.15)):
        small = galaxy.compress(redshift=redshift, n_galaxies=40, progress=False)
        assert small.ssp.has_gas(galaxy.lines) and small.ssp.gas_ends() is not None
        np.testing.assert_allclose(fluxes_of(small), fluxes, rtol=1e-3)
