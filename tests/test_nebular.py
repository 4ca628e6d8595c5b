"""Emission lines: the table, the ionising photons, the interpolation, and what a galaxy makes of them."""

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
from dspsx.nebular import NebularLines, TabulatedLines

#: H-alpha per ionising photon, erg: case B at 10^4 K and low density (Osterbrock & Ferland 2006).
CASE_B = 1.37e-12
FEW = ("H_alpha_6563", "H_beta_4861", "OIII_5007", "OII_3726", "NII_6584")


@functools.cache
def file():
    source = importlib.resources.files("dspsx") / "data" / "nebular_lines.h5"
    with importlib.resources.as_file(source) as path, h5py.File(path) as h:
        return {k: h[k][()] for k in h} | {"bytes": path.stat().st_size, "attrs": dict(h.attrs)}


def column(name):
    return list(file()["name"]).index(name.encode())


def state(lines, **values):
    """The same lines at other parameters."""
    for name, value in values.items():
        lines = dspsx.replace(lines, lambda x, name=name: getattr(x, name), value)
    return lines


@eqx.filter_jit
def _luminosities(lines, ssp, weights):
    return lines.luminosities(ssp, weights)


def luminosity(lines, ssp, weights):
    return np.asarray(_luminosities(lines, ssp, jnp.asarray(weights, dtype=float)[None])[1][0], float)


def single_age(ssp, met, age):
    weights = np.zeros(ssp.flux.shape[:2])
    weights[met, age] = 1e6
    return weights


def on_nodes():
    """A grid whose metallicities and young ages are those of the table, with ionising spectra."""
    wave = np.array([90.0, 500.0, 911.76, 911.78, 3000.0, 9000.0, 1e5])
    lg_age = np.concatenate([file()["lg_age"], [-0.5, 1.1]])
    flux = np.full((5, lg_age.size, 7), 1e-13) * np.linspace(1.0, 2.0, 5)[:, None, None]
    return dspsx.SSPGrid(wave=wave, lg_age=lg_age, lgmet=file()["lgmet"], flux=flux)


# the table


def test_the_file_is_small_and_says_where_it_is_from():
    assert file()["bytes"] < 3e5
    for key in ("source", "source_sha256", "citation", "licence", "models", "built_by"):
        assert file()["attrs"][key]
    assert len(file()["name"]) == len(set(file()["name"])) >= 60
    assert (np.diff(file()["wave"]) > 0).all()


def test_balmer_lines_are_those_of_case_b():
    """H-alpha/H-beta is 2.86 at 10^4 K and 2.75 at 2 x 10^4 K, in case B: gas of few metals is hot. H-alpha per photon lies
    within 10 % because helium takes photons (less), and neutral hydrogen is excited by collisions (more); there is no dust."""
    energy, young = file()["energy"], file()["lg_age"] < -2.49
    halpha, hbeta = (energy[..., column(name)] for name in ("H_alpha_6563", "H_beta_4861"))
    ratio = (halpha / hbeta)[:, :, young]
    assert ratio.min() > 2.75 and ratio.max() < 2.92
    assert np.abs(halpha / CASE_B - 1).max() < 0.1001
    assert np.abs(halpha[:, 2:, young] / CASE_B - 1).max() < 0.06
    hgamma, palpha = (energy[..., column(name)] for name in ("H_gamma_4340", "Pa_alpha_18751"))
    np.testing.assert_allclose((hgamma / hbeta)[:, :, young], 0.47, rtol=0.03)
    np.testing.assert_allclose((palpha / hbeta)[:, :, young], 0.30, atol=0.04)


def test_lines_of_one_upper_level_keep_their_ratio():
    energy = file()["energy"]
    for strong, weak, ratio in (
        ("OIII_5007", "OIII_4959", 2.98),
        ("NII_6584", "NII_6548", 3.05),
        ("SIII_9531", "SIII_9069", 2.48),
        ("OI_6300", "OI_6364", 3.13),
    ):
        found = energy[..., column(strong)] / energy[..., column(weak)]
        np.testing.assert_allclose(found, ratio, rtol=0.05)


def test_metal_lines_go_with_metallicity_and_ionisation():
    """At 1 Myr: [NII] grows with Z, [OIII] is brightest below solar, and [OIII]/[OII] grows with U, as in Byler+17, fig. 9."""
    line = {name.decode(): file()["energy"][:, :, 0, i] for i, name in enumerate(file()["name"])}
    assert (np.diff(line["NII_6584"], axis=1) > 0).all()
    assert (line["OIII_5007"][:, 2:4].min(1) > line["OIII_5007"][:, [0, 4]].max(1)).all()
    assert (np.diff(line["OIII_5007"] / line["OII_3729"], axis=0) > 0).all()
    # low density: the upper limit of the ratio
    np.testing.assert_allclose((line["SII_6716"] / line["SII_6731"]), 1.35, atol=0.1)


# ionising photons


def test_ionising_photons_are_exact_for_a_spectrum_linear_between_its_points(x64):
    ssp = testing.fake_ssp(n_wave=40)
    x = np.geomspace(float(ssp.wave[0]), nebular.LYMAN_LIMIT, 100_001)
    flux = np.array([[np.interp(x, ssp.wave, f) for f in row] for row in np.asarray(ssp.flux)])
    expected = np.trapezoid(flux, np.log(x), axis=-1) * units.LSUN_CGS / 6.62607015e-27 / nebular.PHOTONS
    np.testing.assert_allclose(nebular.ionising_photon_rates(ssp), expected, rtol=1e-8)


def test_ionising_photons_of_the_default_grid():
    """Of a constant star formation rate at Z = 0.02: 1.37e53 per second and Msun/yr (Murphy et al. 2011, Kroupa IMF)."""
    galaxy = dspsx.GalaxySEDModel(
        sfh=dspsx.ConstantSFH(age=1.0), metallicity=dspsx.DeltaMDF(lgmet=np.log10(0.02)), lines=NebularLines()
    )
    sfr = float(galaxy.sfr(0.03))
    photons = float(galaxy.lines.ionising_photons(galaxy.weights()[None])[0]) * nebular.PHOTONS / sfr
    assert photons == pytest.approx(1.37e53, rel=0.03)
    halpha = luminosity(galaxy.lines, galaxy.ssp, galaxy.weights())[galaxy.lines.index("H_alpha_6563")]
    # Kennicutt & Evans 2012, of the same Murphy et al. 2011: 1.86e41 erg/s per Msun/yr
    assert halpha * units.LSUN_CGS / sfr == pytest.approx(1.86e41, rel=0.05)


def test_stars_older_than_until_ionise_nothing():
    ssp = testing.fake_ssp()
    lines = NebularLines(ssp, until=0.03)
    old = 10.0 ** np.asarray(ssp.lg_age) > 0.03
    weights = np.where(old, 1e8, 0.0) * np.ones((4, 1))
    assert (luminosity(lines, ssp, weights) == 0).all()
    assert (luminosity(NebularLines(ssp, until=14.0), ssp, weights) > 0).all()


# interpolation


def test_at_the_nodes_the_table_comes_back(x64):
    ssp = on_nodes()
    lines = NebularLines(ssp)
    rate = nebular.ionising_photon_rates(ssp) * nebular.PHOTONS / units.LSUN_CGS
    for u, logu in enumerate(file()["logu"]):
        for m, a in ((0, 0), (2, 3), (4, 10), (3, 7)):
            found = luminosity(state(lines, logu=logu), ssp, single_age(ssp, m, a))
            np.testing.assert_allclose(found, 1e6 * rate[m, a] * file()["energy"][u, m, a], rtol=1e-6)


def test_between_nodes_lines_lie_between_or_close_to_their_neighbours(x64):
    ssp = on_nodes()
    lines = NebularLines(ssp, tied=False)
    weights = np.zeros(ssp.flux.shape[:2])
    weights[:, : file()["lg_age"].size] = file()["photons"]  # a constant star formation rate
    evaluate = jax.vmap(
        lambda u, z: state(lines, logu=u, lgmet_gas=z).luminosities(ssp, jnp.asarray(weights)[None])[1][0]
    )
    u, z = np.linspace(-4, -1, 61), file()["lgmet"]
    for other in z:
        at = np.log(evaluate(jnp.asarray(u), jnp.full(61, other)))
        inside = np.maximum(at[:-10:10], at[10::10]), np.minimum(at[:-10:10], at[10::10])
        for k in range(10):
            assert (at[k:-1:10] < inside[0] + 0.12).all() and (at[k:-1:10] > inside[1] - 0.12).all()
    steps = np.abs(np.diff(np.log(evaluate(jnp.full(401, -2.3), jnp.linspace(z[0], z[-1], 401))), axis=0))
    assert steps.max() < 0.06  # in log luminosity, for 0.006 dex in Z: nothing jumps


def test_outside_the_table_its_edge_is_used():
    ssp = testing.fake_ssp()
    lines = NebularLines(ssp, tied=True)
    held = state(NebularLines(ssp, tied=False), lgmet_gas=np.log10(0.02))
    top = single_age(ssp, -1, 2)  # Z = 0.04
    np.testing.assert_allclose(luminosity(lines, ssp, top), luminosity(held, ssp, top), rtol=2e-5)
    youngest = single_age(ssp, 1, 0)  # 0.3 Myr
    assert np.isfinite(luminosity(lines, ssp, youngest)).all()


@pytest.mark.parametrize("lgmet", [-3.4, -2.6, -2.0])
def test_tied_gas_has_the_mean_metallicity_of_the_stars_on_a_coarse_grid_too(lgmet):
    ssp = testing.fake_ssp()
    weights = testing.fake_galaxy(metallicity=dspsx.DeltaMDF(lgmet=lgmet)).weights()
    tied = luminosity(NebularLines(ssp), ssp, weights)
    free = luminosity(state(NebularLines(ssp, tied=False), lgmet_gas=lgmet), ssp, weights)
    np.testing.assert_allclose(tied, free, rtol=2e-4)


def test_how_dust_divides_the_stars_does_not_change_what_the_gas_emits(x64):
    """A galaxy's gas has one metallicity, also where that of its stars depends on their age."""
    galaxy = testing.fake_galaxy(metallicity=dspsx.AgeCorrelatedMDF())
    lines, weights = NebularLines(galaxy.ssp), galaxy.weights()
    share = jnp.asarray(np.random.default_rng(2).uniform(size=weights.shape))
    screens = jnp.stack([weights * share, weights * (1.0 - share), 0.0 * weights])
    for of_screens in (_luminosities(lines, galaxy.ssp, screens)[1], lines.continuum_parts(galaxy.ssp, screens)):
        assert (of_screens[2] == 0).all()
    together = luminosity(lines, galaxy.ssp, weights)
    np.testing.assert_allclose(_luminosities(lines, galaxy.ssp, screens)[1].sum(0), together, rtol=1e-12)
    parts = lines.continuum_parts(galaxy.ssp, weights[None])[0]
    np.testing.assert_allclose(lines.continuum_parts(galaxy.ssp, screens).sum(0), parts, rtol=1e-12)


def test_escape_takes_photons_from_every_line():
    ssp = testing.fake_ssp()
    lines, weights = NebularLines(ssp), single_age(ssp, 1, 1)
    some = luminosity(state(lines, escape=0.3), ssp, weights)
    np.testing.assert_allclose(some, 0.7 * luminosity(lines, ssp, weights), rtol=1e-6)
    assert (luminosity(state(lines, escape=1.0), ssp, weights) == 0).all()


def test_a_choice_of_lines_and_separable_weights_change_nothing(precision):
    galaxy = testing.fake_galaxy(metallicity=dspsx.LognormalMDF(lgmet=-2.3, scatter=0.3))
    every, few = NebularLines(galaxy.ssp), NebularLines(galaxy.ssp, lines=FEW)
    assert few.line_names == FEW
    found = luminosity(few, galaxy.ssp, galaxy.weights())
    rtol = 1e-5 if precision == "float32" else 1e-12
    expected = luminosity(every, galaxy.ssp, galaxy.weights())[[every.index(name) for name in FEW]]
    np.testing.assert_allclose(found, expected, rtol=rtol)
    weights = galaxy.weights()
    mass = weights.sum(0)
    args = (few, galaxy.ssp, weights.sum(1) / mass.sum(), jnp.stack([mass, 2 * mass]))
    _, separable = eqx.filter_jit(lambda lines, *x: lines.luminosities_separable(*x))(*args)
    np.testing.assert_allclose(separable[0], found, rtol=rtol)
    np.testing.assert_allclose(separable[1], 2 * found, rtol=rtol)


# derivatives


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_finite_over_the_box(tied, precision):
    ssp = testing.fake_ssp()
    lines, rng = NebularLines(ssp, tied=tied), np.random.default_rng(0)
    usual = np.asarray(testing.fake_galaxy().weights())
    masses = [usual, np.zeros_like(usual), 1e-25 * usual, 1e4 * usual, single_age(ssp, 3, 0), single_age(ssp, 0, 4)]

    @eqx.filter_jit
    def gradients(lines, weights):
        theta, rest = dspsx.partition(lines, lambda x: (x.logu, x.lgmet_gas, x.escape), physical=True)

        def total(theta, weights):
            return dspsx.combine(theta, rest, physical=True).luminosities(ssp, weights[None])[1].sum()

        return jax.tree.leaves(jax.grad(total, argnums=(0, 1))(theta, weights))

    places = [lambda lo, hi: lo, lambda lo, hi: hi, lambda lo, hi: rng.choice([lo, hi])]
    for draw in [lines, *(testing.draw(lines, rng) for _ in range(10)), *(testing.draw(lines, rng, w) for w in places)]:
        for mass in masses:
            for gradient in gradients(draw, jnp.asarray(mass, dtype=float)):
                assert np.isfinite(gradient).all()


def test_the_derivatives_are_right_and_useful(x64):
    galaxy = testing.fake_galaxy(metallicity=dspsx.LognormalMDF(lgmet=-2.3, scatter=0.3))
    weights = galaxy.weights()[None]
    lines = NebularLines(galaxy.ssp, tied=False, lines=FEW)

    @jax.jit
    def log(x):
        return jnp.log(state(lines, logu=x[0], lgmet_gas=x[1]).luminosities(galaxy.ssp, weights)[1][0])

    for point in ([-3.3, -3.2], [-2.6, -2.2], [-1.2, -1.8]):
        check_grads(log, (jnp.asarray(point),), order=1, modes=["fwd", "rev"], rtol=1e-5, atol=1e-7)
    by_logu, by_gas = np.asarray(jax.jit(jax.jacobian(log))(jnp.asarray([-3.2, -2.2]))).T
    assert by_logu[FEW.index("OIII_5007")] > 0.5 and by_logu[FEW.index("NII_6584")] < -0.2
    assert by_gas[FEW.index("NII_6584")] > 1.0

    tied = NebularLines(galaxy.ssp, lines=FEW)

    @jax.jit
    def by_weights(w):
        return jnp.log(tied.luminosities(galaxy.ssp, w)[1])

    check_grads(by_weights, (weights,), order=1, modes=["rev"], rtol=1e-4, atol=1e-6, eps=1.0)


def test_float32_is_as_good_as_float64():
    draws = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            galaxy = testing.fake_galaxy(lines=NebularLines(testing.fake_ssp()))
            rng = np.random.default_rng(1)
            for _ in range(10):
                galaxy = dspsx.replace(galaxy, lambda g: g.lines.logu, rng.uniform(-4, -1))
                galaxy = dspsx.replace(galaxy, lambda g: g.metallicity.lgmet, rng.uniform(-4, -1.5))
                draws.append(luminosity(galaxy.lines, galaxy.ssp, galaxy.weights()))
    np.testing.assert_allclose(draws[:10], draws[10:], rtol=2e-4)


# in a galaxy


def test_in_bands_lines_are_delta_functions(x64):
    lines = NebularLines(testing.fake_ssp(), continuum=False)
    young = {"dust": dspsx.Calzetti00(av=0.5), "sfh": dspsx.ConstantSFH(age=0.05)}
    galaxy, stars = testing.fake_galaxy(**young, lines=lines), testing.fake_galaxy(**young)
    wave = lines.wave
    emitted = luminosity(lines, galaxy.ssp, galaxy.weights()) * np.asarray(galaxy.dust.transmission(wave))
    dimming = float(eqx.filter_jit(lambda g: g.cosmology.dimming(g.redshift))(galaxy)) / units.AB_LSUN_HZ
    observed, bright, faint = np.asarray(wave) * 1.3, np.asarray(galaxy.fluxes()), np.asarray(stars.fluxes())
    for band, (w, t) in enumerate(galaxy.filters.curves()):
        fine = np.linspace(w[0], w[-1], 40_001)
        norm = np.trapezoid(np.interp(fine, w, t) / fine, fine)
        per_hz = emitted * np.asarray(wave) / units.C_ANGSTROM * np.interp(observed, w, t, left=0, right=0)
        assert bright[band] - faint[band] == pytest.approx(per_hz.sum() / norm * dimming, rel=1e-5)
    assert (bright > 1.01 * faint).any()


def test_a_compressed_galaxy_has_the_same_lines():
    young = {"dust": dspsx.Calzetti00(), "sfh": dspsx.ConstantSFH(age=0.05)}
    galaxy = testing.fake_galaxy(**young, lines=NebularLines(testing.fake_ssp()))
    small = galaxy.compress(n_galaxies=30, progress=False)
    assert small.lines is galaxy.lines
    np.testing.assert_allclose(
        luminosity(small.lines, small.ssp, small.weights()),
        luminosity(galaxy.lines, galaxy.ssp, galaxy.weights()),
        rtol=1e-6,
    )
    np.testing.assert_allclose(small.magnitudes(), galaxy.magnitudes(), atol=1e-3)
    bare = testing.fake_galaxy(**young)
    assert np.abs(np.asarray(galaxy.magnitudes() - bare.magnitudes())).max() > 0.01


def test_a_batch_of_galaxies_shares_the_table():
    galaxy = testing.fake_galaxy(lines=NebularLines(testing.fake_ssp()))
    batch = dspsx.stack([galaxy, dspsx.replace(galaxy, lambda g: g.lines.logu, -3.5)])
    assert batch.lines.by_age is galaxy.lines.by_age
    together = eqx.filter_vmap(lambda g: g.magnitudes(), in_axes=(dspsx.batch_axes(batch),))(batch)
    np.testing.assert_allclose(together[0], galaxy.magnitudes(), atol=1e-5)


def test_saved_and_loaded(tmp_path):
    lines = NebularLines(testing.fake_ssp(), logu=-3.1, tied=False, lines=FEW)
    dspsx.save(tmp_path / "lines.h5", lines)
    assert eqx.tree_equal(dspsx.load(tmp_path / "lines.h5"), lines)


# names and errors


def test_lines_are_found_by_name():
    lines = NebularLines(testing.fake_ssp())
    assert lines.line_names[lines.index("H_alpha_6563")] == "H_alpha_6563"
    assert float(lines.wave[lines.index("H_alpha_6563")]) == pytest.approx(6564.61, abs=0.05)
    assert float(lines.wave[lines.index("OIII_5007")]) == pytest.approx(5008.24, abs=0.02)
    with pytest.raises(ValueError, match="'Halpha'; did you mean H_alpha_6563"):
        lines.index("Halpha")
    with pytest.raises(ValueError, match="OIII_5007"):
        NebularLines(testing.fake_ssp(), lines=["OIII_5008"])
    with pytest.raises(ValueError, match="more than once"):
        NebularLines(testing.fake_ssp(), lines=["OIII_5007", "OIII_5007"])
    with pytest.raises(ValueError, match="at least one"):
        NebularLines(testing.fake_ssp(), lines=[])


def test_a_grid_that_cannot_ionise_is_refused():
    full = testing.fake_ssp()
    with pytest.raises(TypeError, match="SSPGrid"):
        NebularLines(full.compress(rank=5))
    red = dspsx.SSPGrid(wave=full.wave[20:], lg_age=full.lg_age, lgmet=full.lgmet, flux=full.flux[..., 20:])
    with pytest.raises(ValueError, match="no ionising photons"):
        NebularLines(red)
    dark = jnp.where(full.wave < 1000.0, 0.0, full.flux)
    absorbed = dspsx.SSPGrid(wave=full.wave, lg_age=full.lg_age, lgmet=full.lgmet, flux=dark)
    with pytest.raises(ValueError, match="TabulatedLines"):
        NebularLines(absorbed)
    with pytest.raises(ValueError, match="until"):
        NebularLines(full, until=1e-5)
    with pytest.raises(TypeError, match="tied"):
        NebularLines(full, tied=1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="logu"):
        NebularLines(full, logu=-0.5)


def test_lines_of_another_grid_are_refused():
    lines, other = NebularLines(testing.fake_ssp()), testing.fake_ssp(n_age=13)
    with pytest.raises(ValueError, match="made for"):
        lines.luminosities(other, jnp.ones((1, 4, 13)))
    shifted = eqx.tree_at(lambda g: g.lg_age, testing.fake_ssp(), testing.fake_ssp().lg_age - 0.1)
    with pytest.raises(ValueError, match="other values"):
        lines.check_use(shifted)


# lines that come with a grid


def write(path, names=("H alpha 6563", "[O III] 5007", "Ba-beta 4861"), n_age=12, **attributes):
    rng = np.random.default_rng(5)
    ssp = testing.fake_ssp()
    table = rng.random((4, 12, len(names)))[:, :n_age]
    table[:, 7:] = 0.0
    with h5py.File(path, "w") as h:
        h["ssp_lgmet"], h["ssp_lg_age_gyr"] = np.asarray(ssp.lgmet, float), np.asarray(ssp.lg_age, float)
        h["ssp_emline_name"] = np.array(names, dtype="S")
        h["ssp_emline_wave"] = np.linspace(4000.0, 7000.0, len(names))
        h["ssp_emline_luminosity"] = table
        h.attrs.update(attributes)
    return table


def test_tabulated_lines(tmp_path, precision):
    table = write(tmp_path / "lines.h5")
    lines = TabulatedLines.from_hdf5(tmp_path / "lines.h5")
    assert lines.line_names == ("H_alpha_6563", "O_III_5007", "Ba_beta_4861")
    assert lines.index("[O III] 5007") == 1
    galaxy = testing.fake_galaxy(lines=lines)
    expected = np.tensordot(np.asarray(galaxy.weights(), float), table, 2)
    np.testing.assert_allclose(luminosity(lines, galaxy.ssp, galaxy.weights()), expected, rtol=1e-5)
    assert lines.luminosity.shape == (4, 7, 3)
    assert np.isfinite(galaxy.magnitudes()).all()
    one = TabulatedLines.from_hdf5(tmp_path / "lines.h5", lines=["O_III_5007"])
    np.testing.assert_allclose(luminosity(one, galaxy.ssp, galaxy.weights()), expected[1:2], rtol=1e-5)


def test_tabulated_lines_in_another_suns_units(tmp_path, x64):
    table = write(tmp_path / "lines.h5", l_sun_cgs=3.839e33)
    lines = TabulatedLines.from_hdf5(tmp_path / "lines.h5")
    np.testing.assert_allclose(lines.luminosity, table[:, :7] * 3.839 / 3.828, rtol=1e-12)


def test_tables_that_cannot_be_used(tmp_path):
    write(tmp_path / "double.h5", names=("H alpha 6563", "H-alpha 6563"))
    with pytest.raises(ValueError, match="H_alpha_6563 stands there more than once"):
        TabulatedLines.from_hdf5(tmp_path / "double.h5")
    write(tmp_path / "short.h5", n_age=10)
    with pytest.raises(ValueError, match="must have shape"):
        TabulatedLines.from_hdf5(tmp_path / "short.h5")
    write(tmp_path / "lines.h5")
    with pytest.raises(ValueError, match="did you mean O_III_5007"):
        TabulatedLines.from_hdf5(tmp_path / "lines.h5", lines=["OIII_5007"])
    with h5py.File(tmp_path / "lines.h5", "a") as h:
        h["ssp_emline_luminosity"][0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        TabulatedLines.from_hdf5(tmp_path / "lines.h5")
    with h5py.File(tmp_path / "lines.h5", "a") as h:
        del h["ssp_emline_wave"]
    with pytest.raises(ValueError, match="lacks ssp_emline_wave"):
        TabulatedLines.from_hdf5(tmp_path / "lines.h5")
