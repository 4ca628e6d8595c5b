"""Absorption by the intergalactic medium against the published formulae, in plain NumPy, and a table of eazy-py."""

import csv

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import igm, testing
from dspsx.igm import DampingWing, Inoue14, Madau95

ALPHA = 1215.67
#: 1 A to 1 m, densely where lines are, with every line and its neighbours.
LINES = np.concatenate([igm._INOUE[0], [911.8, 911.75, 10 * ALPHA]])
EDGES = np.concatenate([LINES, np.nextafter(LINES, 0), np.nextafter(LINES, 1e9), LINES - 1e-4, LINES + 1e-4])
WAVE = np.sort(np.concatenate([np.geomspace(1.0, 1e10, 400), np.linspace(880.0, 1300.0, 600), EDGES]))
REDSHIFT = np.concatenate([[0.0, 1e-6, 0.03, 0.3, 1.2, 2.0, 4.7, 20.0], np.linspace(0.5, 12.0, 24)])
MODELS = {"Madau95": Madau95, "Inoue14": Inoue14, "DampingWing": DampingWing}
each = pytest.mark.parametrize("name", MODELS)


@eqx.filter_jit
def transmission(model, wave, redshift):
    """(redshift, wave)"""
    return jax.vmap(model.transmission, in_axes=(None, 0))(wave, redshift)


@eqx.filter_jit
def optical_depth(function, wave, redshift):
    return jax.vmap(function, in_axes=(None, 0))(wave, redshift)


def integral(function, low, high, n=4000):
    """Trapezoid rule in the logarithm, for each of many upper limits."""
    x = np.geomspace(low, high, n)
    return np.trapezoid(function(x) * x, np.log(x), axis=0)


# Inoue et al. (2014)


def forest_density(u, x):
    """d tau / d(1 + z) of the forest's Lyman continuum: derivative of eqs. 25-27 with respect to the source's redshift."""
    law = np.where(u < 2.2, 0.3248 * 0.9 * u**-1.9, np.where(u < 5.7, 2.545e-2 * 1.6 * u**0.6, 5.221e-4 * 3.4 * u**2.4))
    return x**2.1 * law


def damped_density(u, x):
    """The same of damped systems: derivative of eqs. 28-29."""
    near = 0.2113 * 2.0 * u - 0.07661 * 2.3 * u**1.3 * x**-0.3
    return np.where(u < 3.0, near, 0.04696 * 3.0 * u**2 - 0.01779 * 3.3 * u**2.3 * x**-0.3)


def numpy_inoue14(wave, z):
    """The paper's formulae, case by case; its Lyman continuum where it is defined, and NaN elsewhere."""
    observed, tau = wave * (1 + z), np.zeros_like(wave)
    for line, a1, a2, a3, d1, d2 in igm._INOUE.T:
        y = observed / line
        forest = np.where(y < 2.2, a1 * y**1.2, np.where(y < 5.7, a2 * y**3.7, a3 * y**5.5))
        damped = np.where(y < 3.0, d1 * y**2, d2 * y**3)
        tau += np.where((observed >= line) & (wave < line), forest + damped, 0.0)
    x, u = observed / 911.8, 1 + z
    if z < 1.2:
        forest = 0.3248 * (x**1.2 - u**-0.9 * x**2.1)
    elif z < 4.7:
        near = 2.545e-2 * u**1.6 * x**2.1 + 0.3248 * x**1.2 - 0.2496 * x**2.1
        forest = np.where(x < 2.2, near, 2.545e-2 * (u**1.6 * x**2.1 - x**3.7))
    else:
        near = 5.221e-4 * u**3.4 * x**2.1 + 0.3248 * x**1.2 - 3.140e-2 * x**2.1
        middle = 5.221e-4 * u**3.4 * x**2.1 + 0.2182 * x**2.1 - 2.545e-2 * x**3.7
        forest = np.where(x < 2.2, near, np.where(x < 5.7, middle, 5.221e-4 * (u**3.4 * x**2.1 - x**5.5)))
    if z < 2.0:
        damped = 0.2113 * u**2 - 0.07661 * u**2.3 * x**-0.3 - 0.1347 * x**2
    else:
        near = 0.6340 + 0.04696 * u**3 - 0.01779 * u**3.3 * x**-0.3 - 0.1347 * x**2 - 0.2905 * x**-0.3
        damped = np.where(x < 3.0, near, 0.04696 * u**3 - 0.01779 * u**3.3 * x**-0.3 - 0.02916 * x**3)
    # at the Lyman limit itself the printed digits leave damped at -1e-5 (1 + z)^2
    continuum = forest + np.maximum(damped, 0.0)
    return tau + np.where(wave < 911.8, np.where(observed >= 911.8, continuum, np.nan), 0.0)


def test_inoue14_table_of_eazy(shared, precision):
    """The mean transmission by eazy-py 0.8.7, to its six digits: 1e-6, and in float32 to 4e-6."""
    with open(shared / "data" / "reference" / "igm_inoue14_transmission.csv") as file:
        rows = list(csv.DictReader(file))
    z, observed, expected = (np.array([float(r[k]) for r in rows]) for k in ("z", "wave_obs_A", "transmission"))
    assert len(rows) == 128 and expected.min() < 1e-4 and expected.max() == 1.0
    wave = jnp.asarray(observed / (1 + z), precision)
    ours = jax.vmap(lambda w, z: Inoue14().transmission(w[None], z)[0])(wave, jnp.asarray(z, precision))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 if precision == "float64" else 4e-6)


def test_inoue14_coefficients(shared):
    """The numbers of table 2, as eazy-py distributes them."""
    forest = np.loadtxt(shared / "data" / "reference" / "LAFcoeff.txt")
    damped = np.loadtxt(shared / "data" / "reference" / "DLAcoeff.txt")
    np.testing.assert_array_equal(igm._INOUE, np.concatenate([forest[:, 1:], damped[:, 2:]], axis=1).T)


def test_inoue14_formulae(x64):
    """Our products of powers and sums over lines between cuts, against the formulae as they are printed."""
    assert igm._INOUE.shape == (6, 39)
    ours = np.asarray(optical_depth(igm.inoue14_optical_depth, jnp.asarray(WAVE), jnp.asarray(REDSHIFT)))
    expected = np.array([numpy_inoue14(WAVE, z) for z in REDSHIFT])
    # where a line lies on a cut by rounding, the printed power laws on its two sides differ in the fourth digit
    on_a_cut = np.isin(REDSHIFT, [1.2, 2.0, 4.7])[:, None] & np.isfinite(expected)
    defined = np.isfinite(expected) & ~on_a_cut
    assert defined.mean() > 0.6 and expected[defined].max() > 1000
    np.testing.assert_allclose(ours[defined], expected[defined], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(ours[on_a_cut], expected[on_a_cut], rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("z", [0.1, 1.0, 2.5, 4.0, 6.0])
def test_inoue14_continuum_is_an_integral_over_redshift(z, x64):
    """From the absorber seen at its Lyman limit, or from z = 0, to the source: to the digits of the coefficients, 8e-4."""
    wave = np.geomspace(40.0, 900.0, 40)
    lines = np.zeros_like(wave)
    for line, a1, a2, a3, d1, d2 in igm._INOUE.T:
        y = wave * (1 + z) / line
        laws = [a1 * y**1.2 + d1 * y**2, a2 * y**3.7 + d1 * y**2, a2 * y**3.7 + d2 * y**3, a3 * y**5.5 + d2 * y**3]
        lines += np.select([y < 1, y < 2.2, y < 3, y < 5.7], [0.0, *laws[:3]], laws[3])
    expected = []
    for x in wave * (1 + z) / 911.8:
        ends = max(x, 1.0), 1 + z
        forest, damped = (integral(lambda u, f=f, x=x: f(u, x), *ends) for f in (forest_density, damped_density))
        expected.append(forest + max(damped, 0.0))
    ours = igm.inoue14_optical_depth(jnp.asarray(wave), jnp.asarray(z))
    assert (wave * (1 + z) < 911.8).sum() >= 5
    np.testing.assert_allclose(np.exp(-ours), np.exp(-(lines + expected)), rtol=0, atol=8e-4)


# Madau (1995)


def numpy_madau95(wave, z, coefficients):
    observed, tau = wave * (1 + z), np.zeros_like(wave)
    for line, a in zip(igm._INOUE[0], coefficients, strict=False):
        seen = (observed >= line) & (wave < line)
        metals = 0.0017 * (observed / line) ** 1.68 if line == ALPHA else 0.0
        tau += np.where(seen, a * (observed / line) ** 3.46 + metals, 0.0)
    c, em = observed / 911.75, 1 + z
    continuum = 0.25 * c**3 * (em**0.46 - c**0.46) + 9.4 * c**1.5 * (em**0.18 - c**0.18)
    continuum += -0.7 * c**3 * (c**-1.32 - em**-1.32) - 0.023 * (em**1.68 - c**1.68)
    return tau + np.where(wave < 911.75, np.where(observed >= 911.75, np.maximum(continuum, 0.0), np.nan), 0.0)


def test_madau95_formulae(x64):
    """Lines, metals and the approximation of the paper's footnote 3, against the formulae as they are printed."""
    ours = np.asarray(optical_depth(igm.madau95_optical_depth, jnp.asarray(WAVE), jnp.asarray(REDSHIFT)))
    expected = np.array([numpy_madau95(WAVE, z, igm._MADAU) for z in REDSHIFT])
    defined = np.isfinite(expected)
    np.testing.assert_allclose(ours[defined], expected[defined], rtol=1e-9, atol=1e-10)


def test_madau95_coefficients_are_those_printed(x64):
    """The paper prints A of four lines to two digits: redward of the fifth line those are enough."""
    np.testing.assert_allclose(igm._MADAU[:4], [0.0036, 1.7e-3, 1.2e-3, 9.3e-4], rtol=0.014)
    assert igm._MADAU.size == 17 and (np.diff(igm._MADAU) < 0).all()
    wave = np.linspace(938.0, 1300.0, 200)
    ours = np.asarray(transmission(Madau95(), jnp.asarray(wave), jnp.asarray(REDSHIFT)))
    printed = np.exp(-np.array([numpy_madau95(wave, z, [0.0036, 1.7e-3, 1.2e-3, 9.3e-4]) for z in REDSHIFT]))
    np.testing.assert_allclose(ours, printed, rtol=0, atol=0.004)


def madau95_integral(wave, z):
    """Eq. 16: all clouds in the paper's distribution of column density, with the photoelectric cross-section 6.3e-18 cm2
    at the limit, falling as wavelength cubed."""
    x = wave * (1 + z) / 911.75
    u = np.geomspace(max(x, 1.0), 1 + z, 400)[:, None]

    def clouds(low, high, law):
        n = np.geomspace(low, high, 800)
        return np.trapezoid(law * n**-1.5 * -np.expm1(-n * 6.3e-18 * (x / u) ** 3) * n, np.log(n), axis=1)

    rate = clouds(2e12, 1.59e17, 2.4e7 * u**2.46) + clouds(1.59e17, 1e20, 1.9e8 * u**0.68)
    return np.trapezoid(rate, u[:, 0])


@pytest.mark.parametrize("z", [0.3, 1.0, 2.0, 3.5, 5.0])
def test_madau95_continuum_against_the_full_integral(z, x64):
    """The approximation is good to 9 % of the optical depth (5 % for most), also where the integral begins at z = 0."""
    wave = np.geomspace(100.0, 905.0, 40)
    observed = wave * (1 + z)
    total = np.asarray(igm.madau95_optical_depth(jnp.asarray(wave), jnp.asarray(z)))
    metals = 0.0017 * (observed / ALPHA) ** 1.68 * (observed >= ALPHA)
    series = np.array(
        [sum(a * (o / w) ** 3.46 for w, a in zip(igm._INOUE[0], igm._MADAU, strict=False) if o >= w) for o in observed]
    )
    expected = np.array([madau95_integral(w, z) for w in wave])
    ratio = (total - series - metals) / expected
    assert (observed < 911.75).sum() >= 2
    np.testing.assert_allclose(ratio, 1.0, rtol=0, atol=0.09)
    assert np.abs(np.median(ratio) - 1.0) < 0.05


def test_madau95_dims_by_a_magnitude(x64):
    """Madau et al. (1996, MNRAS 283, 1388): Lyman alpha alone dims by a magnitude at 6000 A for sources at z > 4."""
    t = Madau95().transmission(jnp.asarray([6000.0 / 5.05]), jnp.asarray(4.05))
    assert 0.95 < float(-2.5 * jnp.log10(t[0])) < 1.05


# Both


@each
def test_nothing_is_absorbed_redward_of_lyman_alpha_or_at_redshift_zero(name, precision):
    model = MODELS[name]()
    t = np.asarray(transmission(model, jnp.asarray(WAVE, precision), jnp.asarray(REDSHIFT, precision)))
    assert np.isfinite(t).all() and t.min() >= 0 and t.max() <= 1
    red = WAVE > ALPHA + 1e-3
    if name == "DampingWing":
        assert t[REDSHIFT > 10][:, red & (WAVE < 1600)].max() < 1
        t = np.where(REDSHIFT[:, None] > 5.5, np.where(WAVE > 12160, t, 1.0), t)
    assert (t[:, red] == 1).all()
    assert (t[0] == 1).all()
    assert t[6, (WAVE < 1215) & (WAVE > 700)].max() < 0.5


@each
def test_gradients_are_finite(name, precision):
    """With respect to the redshift and every parameter, one wavelength at a time, at lines and their neighbours too."""

    wave = jnp.asarray(WAVE, precision)
    at = jnp.asarray(np.concatenate([REDSHIFT, igm._INOUE[0][:3] / 911.8 - 1, [5.5]]), precision)

    @jax.jit
    def jacobians(model):
        jacobian = jax.jacfwd(lambda mz: mz[0].transmission(wave, mz[1]))
        reverse = jax.grad(lambda mz: mz[0].transmission(wave, mz[1]).sum())
        return jax.vmap(lambda z: (jacobian((model, z)), reverse((model, z))))(at)

    model, rng = MODELS[name](), np.random.default_rng(0)
    corners = [testing.draw(model, rng, lambda lo, hi: rng.choice([lo, hi])) for _ in range(4)]
    for m in (model, *corners):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(jacobians(m))), m


@each
def test_gradient_in_redshift(name, x64):
    """Autodiff agrees with finite differences, away from the redshifts at which a line enters the view."""
    wave = jnp.asarray(np.concatenate([np.linspace(300.0, 1300.0, 41), [1216.0, 1217.0, 1220.0]]))
    z, h = jnp.asarray([0.9513, 3.017, 6.023, 8.511]), 1e-5
    run = jax.jit(jax.vmap(lambda z: MODELS[name]().transmission(wave, z)))
    slope = jax.jit(jax.vmap(jax.jacfwd(lambda z: MODELS[name]().transmission(wave, z))))
    got = np.asarray(slope(z))
    np.testing.assert_allclose(got, (run(z + h) - run(z - h)) / (2 * h), rtol=1e-6, atol=1e-8)
    assert (np.abs(got[:3]).max(1) > 0.1).all()
    # at z = 0 from the right, where 1 + z = 1 is a kink: absorbers begin to be
    zero, h = jnp.zeros(1), 1e-7
    expected = (run(zero + h) - 1.0) / h
    np.testing.assert_allclose(slope(zero), expected, rtol=0, atol=1e-5)
    assert (np.asarray(expected)[0, 12:24] < -0.05).all()


@each
def test_float32(name):
    """1e-5 absolute (1e-4 next to the line in the damping wing), but where rounding moves a line in or out of view."""
    rng = np.random.default_rng(2)
    wave = np.concatenate([rng.uniform(500, 1300, 3000), 10 ** rng.uniform(0, 10, 1000)]).astype(np.float32)
    z = np.concatenate([rng.uniform(0, 20, 60), rng.uniform(0, 0.3, 20)]).astype(np.float32)
    single = np.asarray(transmission(MODELS[name](), jnp.asarray(wave), jnp.asarray(z)))
    assert single.dtype == np.float32
    with jax.enable_x64(True):
        double = np.asarray(transmission(MODELS[name](), jnp.asarray(wave, float), jnp.asarray(z, float)))
    steps = np.concatenate([igm._INOUE[0], [911.8, 911.75]])
    observed = (wave.astype(float) * (1 + z.astype(float)[:, None]))[..., None]
    settled = (np.abs(observed / steps - 1) > 3e-7).all(-1) & (np.abs(wave[:, None] / steps - 1) > 1e-7).all(-1)
    assert settled.mean() > 0.99
    np.testing.assert_allclose(single[settled], double[settled], rtol=0, atol=1e-4 if name == "DampingWing" else 1e-5)


@pytest.mark.parametrize("cls", [Madau95, Inoue14])
def test_scale(cls, x64):
    """It multiplies the optical depth, and is fitted only if asked for."""
    wave, z = jnp.asarray(WAVE), jnp.asarray(3.0)
    t = np.asarray(cls().transmission(wave, z))
    np.testing.assert_allclose(cls(scale=2.0).transmission(wave, z), t**2, rtol=1e-12)
    np.testing.assert_array_equal(cls(scale=0.0).transmission(wave, z), np.ones_like(t))
    assert not dspsx.named_parameters(cls())["scale"][0].free


@pytest.mark.parametrize("name", ["Inoue14", "DampingWing"])
def test_in_a_galaxy(name, x64):
    """Magnitudes at high redshift, and their derivative with respect to it."""
    redshift, h = 7.03 if name == "DampingWing" else 3.013, 1e-6
    galaxy = testing.fake_galaxy(igm=MODELS[name](), redshift=redshift)

    def magnitudes(z):
        return dspsx.replace(galaxy, lambda g: g.redshift, z).magnitudes()

    z = jnp.asarray([redshift - h, redshift, redshift + h])
    (low, at, high), slopes = jax.jit(jax.vmap(lambda z: (magnitudes(z), jax.jacrev(magnitudes)(z))))(z)
    assert np.isfinite(slopes).all()
    np.testing.assert_allclose(slopes[1], (high - low) / (2 * h), rtol=1e-5, atol=1e-6)
    # the bands lie at 900, 1375 and 2250 A at z = 3, at 450, 690 and 1120 A at z = 7
    dimming = np.asarray(at - testing.fake_galaxy(redshift=redshift).magnitudes())
    assert (dimming > -1e-12).all() and (dimming[:2] > [20.0, 20.0] if redshift > 5 else dimming[:1] > 0.5).all()


# The damping wing


def numpy_wing(wave, z, bubble, z_end):
    """The integral over redshift of Miralda-Escude (1998), by quadrature, with tau_GP from the constants of nature."""
    h, omega_m, omega_b, helium = 0.6766, 0.3111, 0.0490, 0.2454
    rho = 1.87834e-29 * h**2 * omega_b * (1 - helium) / 1.67353e-24  # hydrogen atoms per cm3 today
    hubble = 100 * h * np.sqrt(omega_m * (1 + z) ** 3) / 3.08568e19  # 1/s
    tau_gp = 0.0265400 * 0.41641 * 1.21567e-5 * rho * (1 + z) ** 3 / hubble  # pi e2 / (m_e c) f lambda n / H
    gap = bubble * hubble * 3.08568e19 / 299792.458 / (1 + z)
    u = 1 + z_end + ((1 + z) * (1 - gap) - 1 - z_end) * np.linspace(0.0, 1.0, 200_001) ** 0.5
    seen = (1 + z) * wave / ALPHA
    x = u / seen
    return tau_gp * 2.02e-8 / np.pi * (wave / ALPHA) ** 1.5 * np.trapezoid(x**4.5 / (1 - x) ** 2, x)


@pytest.mark.parametrize(
    ("z", "bubble", "z_end"), [(7.0, 0.0, 5.5), (7.0, 30.0, 5.5), (10.0, 5.0, 6.0), (6.0, 3.0, 5.8)]
)
def test_damping_wing_is_its_integral(z, bubble, z_end, x64):
    """Redward of Lyman alpha, to 0.5 %: the digits of the constants."""
    wave = np.array([1218.0, 1225.0, 1240.0, 1300.0, 1500.0])
    ours = igm.damping_wing_optical_depth(*(jnp.asarray(v) for v in (wave, z, bubble, z_end)))
    expected = [numpy_wing(w, z, bubble, z_end) for w in wave]
    np.testing.assert_allclose(ours, expected, rtol=5e-3)


def test_damping_wing_at_and_beyond_the_line(x64):
    """In neutral gas nothing passes; beyond z_end, behind a bubble and without neutral gas the wing is gone or weak."""
    z = jnp.asarray(7.0)
    wave = jnp.asarray([950.0, 986.0, 990.0, 1100.0, 1215.0, ALPHA, 1216.5, 1230.0])
    tau = np.asarray(igm.damping_wing_optical_depth(wave, z, jnp.asarray(0.0), jnp.asarray(5.5)))
    np.testing.assert_array_equal(tau[:2], 0.0)  # at 1 + z_obs < 6.5
    np.testing.assert_allclose(tau[4:6], 3.85e5 * (8 / 7) ** 1.5, rtol=0.01)
    assert (tau[2:6] > 1e5).all() and 2 < tau[6] < 10 and 0.1 < tau[7] < 0.4
    base = np.asarray(Inoue14().transmission(wave, z))
    np.testing.assert_array_equal(DampingWing(x_hi=0.0).transmission(wave, z), base)
    np.testing.assert_array_equal(DampingWing(z_end=7.0).transmission(wave, z), base)
    assert (np.asarray(DampingWing(x_hi=1.0).transmission(wave, z))[2:6] == 0).all()
    seen = [
        float(DampingWing(Madau95(), x_hi=1.0, bubble=r).transmission(wave, z)[-2]) for r in (0.0, 3.0, 20.0, 100.0)
    ]
    assert seen[0] < 0.1 < seen[2] < seen[3] < 1 and seen == sorted(seen)


def test_damping_wing_wraps_absorption_only():
    with pytest.raises(TypeError, match="igm"):
        DampingWing(dspsx.Calzetti00())
