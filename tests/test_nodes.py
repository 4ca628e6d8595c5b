"""Nodes and factors of a band: as many as its dust and its stars need, those that are only tested at the end among them."""

import copy
import dataclasses
import functools

import numpy as np
import pytest

import dspsx
from dspsx import testing
from dspsx._progress import Progress
from dspsx.compressed import examples, nodes
from dspsx.compressed.examples import at_waves
from dspsx.compressed.factors import common_factors, own_factors
from dspsx.compressed.nodes import fit, interpolation_points

WAVE = np.linspace(1000.0, 2000.0, 300)
N_FIT, N_LIGHT, TOL = 60, 50, 1e-3


def power_laws(rng, n, slopes, depth):
    """Transmissions exp(-tau (wave / 1500)^-s) with optical depths up to `depth` (n, wave)."""
    slope, tau = rng.uniform(*slopes, (n, 1)), depth * rng.uniform(size=(n, 1))
    return np.exp(-tau * (WAVE / 1500.0) ** -slope)


def off_of_pairs(nodes, phi, light, transmission, projections):
    """The largest error of each transmission with each of the light, by a plain sum over wavelengths."""
    worst = 0.0
    for projection in projections:
        for spectrum in light * projection:
            exact = (transmission * spectrum).sum(1)
            worst = max(worst, np.abs((transmission[:, nodes] @ phi.T * spectrum).sum(1) / exact - 1.0).max())
    return worst


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    projections = np.stack([np.exp(-0.5 * ((WAVE - c) / 150.0) ** 2) for c in (1450.0, 1500.0, 1550.0)])
    light = 1.0 + 0.9 * np.sin(WAVE / rng.uniform(5.0, 80.0, (N_LIGHT, 1)) + rng.uniform(0.0, 6.0, (N_LIGHT, 1)))
    mild = power_laws(rng, N_FIT + N_LIGHT, (0.5, 1.5), 3.0)
    return projections, light, mild, power_laws(rng, 200, (0.0, 4.0), 12.0)


def test_nodes_are_enough_for_the_transmissions_of_the_last_test(problem):
    projections, light, mild, wild = problem
    few = fit(projections, light, mild, N_FIT, TOL, 1e-20)
    enough = fit(projections, light, mild, N_FIT, TOL, 1e-20, more=wild, tol_more=2.0 * TOL)
    assert off_of_pairs(*few, light[:40], wild, projections) > 2.0 * TOL
    assert off_of_pairs(*enough, light[:40], wild, projections) < 2.0 * TOL
    assert len(enough[0]) > len(few[0])


def test_a_last_test_that_is_passed_changes_nothing(problem):
    projections, light, mild, _ = problem
    alone = fit(projections, light, mild, N_FIT, TOL, 1e-20)
    again = fit(projections, light, mild, N_FIT, TOL, 1e-20, more=mild[:N_FIT], tol_more=1.0)
    np.testing.assert_array_equal(alone[0], again[0])
    np.testing.assert_array_equal(alone[1], again[1])


def test_a_last_test_that_nodes_cannot_pass_is_relaxed(problem):
    """The fewest nodes that come near enough to it, or else the nearest; what is not enough for galaxies is an error."""
    projections, light, mild, wild = problem
    missed = lambda found: off_of_pairs(*found, light[:40], wild, projections)  # noqa: E731
    fitted = functools.partial(fit, projections, light, mild, N_FIT, 10.0, 1e-20, more=wild)
    nearest = [missed(fitted(most=n, tol_more=1e-9)) for n in range(1, 9)]
    assert (np.diff(nearest) < 1e-9).all() and nearest[-1] < 0.7 * nearest[0]
    # one node comes near enough, where two would come nearer; the last of eight does
    assert nearest[1] == pytest.approx(nearest[4]) and 0.8 * nearest[0] < nearest[1] < nearest[0]
    for most, tol_more in ((5, 0.99 * nearest[4]), (8, 0.99 * nearest[7]), (8, 0.81 * nearest[7])):
        nodes, phi = fitted(most=most, tol_more=tol_more)
        assert missed((nodes, phi)) <= 1.25 * tol_more
        assert all(error > 1.25 * tol_more for error in nearest[: len(nodes) - 1])
    with pytest.raises(ValueError, match=r"up to 2 nodes .* times"):
        fit(projections, light, mild, N_FIT, 1e-6, 1e-20, most=2, more=wild, tol_more=1e-6)


@pytest.mark.parametrize("j", [[3], [2, 3, 4], [0, 1, 2, 3, 4, 5], [0, 2, 5]])
def test_slices_of_wavelengths(j):
    x = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(at_waves(x, np.array(j)), x[:, j])


def test_a_band_with_an_opaque_middle_needs_few_nodes(monkeypatch):
    """Its light comes through its wings, or through all of it: examples of the first kind alone would choose the nodes."""
    rng = np.random.default_rng(6)
    projection = np.exp(-0.5 * ((WAVE - 1500.0) / 90.0) ** 2)[None]
    light = 1.0 + 0.9 * np.sin(WAVE / rng.uniform(5.0, 80.0, (N_LIGHT, 1)))
    tau = 40.0 * rng.uniform(size=(N_FIT + N_LIGHT, 1)) ** 3
    slope, centre, width = (rng.uniform(*r, (N_FIT + N_LIGHT, 1)) for r in ((0.0, 4.0), (1450.0, 1550.0), (40.0, 90.0)))
    bump = np.exp(-0.5 * ((WAVE - centre) / width) ** 2)
    opaque = np.exp(-tau * ((WAVE / 1500.0) ** -slope + bump))
    monkeypatch.setattr(nodes, "_MANY_NODES", 1)
    arguments = projection, light, opaque, N_FIT, 3e-3, 1e-20
    chosen, phi = nodes.fit(*arguments)
    monkeypatch.setattr(nodes, "_balanced", lambda examples: examples)
    assert len(chosen) < len(nodes.fit(*arguments)[0])
    found = (opaque[N_FIT:, chosen] @ phi.T * light * projection).sum(1)
    assert np.abs(found / (opaque[N_FIT:] * light * projection).sum(1) - 1.0).max() < 3e-3


@pytest.fixture(scope="module")
def drawn():
    """Examples of a galaxy behind two screens, at redshifts 0 to 2."""
    full = testing.fake_galaxy(dust=dspsx.CharlotFall00())
    return examples.Examples(full, 0.0, 2.0, 50.0, np.random.default_rng(1), Progress("test", False))


def test_galaxies_of_the_last_tests_are_those_of_their_segment(drawn):
    near = drawn.near(1.0).more
    assert len(near.redshift) == len(near.population) == len(near.transmission) == len(near.gas) == 300
    far = np.abs(np.log((1.0 + drawn.more.redshift) / 2.0))
    assert np.abs(np.log((1.0 + near.redshift) / 2.0)).max() == np.sort(far)[299]
    for i in (0, 150, 299):
        (j,) = np.flatnonzero(drawn.more.redshift == near.redshift[i])
        np.testing.assert_array_equal(near.population[i], drawn.more.population[j])
        np.testing.assert_array_equal(near.transmission[i], drawn.more.transmission[j])


def test_tests_take_no_transmission_that_is_fitted_and_each_screen_of_two(drawn):
    n_laws = 1 + 4 * examples._N_LAW
    assert drawn.n_fit == n_laws + 2 * examples._N_FIT
    assert len(drawn.transmission) - drawn.n_fit == 2 * examples.N_TEST
    # behind their birth clouds stars are dimmer, by more than the screens differ otherwise
    seen = drawn.more.transmission[:, drawn.wave.size // 2]
    old, young = seen[::2], seen[1::2]
    assert len(old) == len(young) == examples._N_MORE // 2
    assert np.median(young) < 0.8 * np.median(old)
    dusty = drawn.more.transmission[drawn.more.transmission.min(1) < 0.9][:50, None, ::40]
    assert not np.isclose(dusty, drawn.transmission[None, :, ::40], rtol=1e-6).all(-1).any()


def test_factors_do_for_the_stars_of_the_last_test_alone(drawn):
    """A population that none of the galaxies of the tests holds, but those of the last test."""
    wave = drawn.wave
    j = np.flatnonzero((wave > 1500.0) & (wave < 9500.0))
    projection = np.zeros(wave.size)
    projection[j] = 1.0 / j.size
    modes = np.polynomial.legendre.legvander((wave[j] - 5500.0) / 4000.0, 15)
    chosen = interpolation_points(np.linalg.qr(modes)[0])
    phi = np.linalg.solve(modes[chosen].T, modes.T).T
    odd = drawn.more.population.copy()
    odd[:] = 0.0
    odd[np.arange(len(odd)), np.random.default_rng(2).integers(0, drawn.n_stars, len(odd))] = 1.0
    rare = copy.copy(drawn)
    rare.more = dataclasses.replace(drawn.more, population=odd)
    needed = []
    for some in (drawn, rare):
        band = own_factors((j, chosen, phi), [[projection]], some, 0.03, 0.03, np.full(1, 1e-20))
        k, basis, (table,) = common_factors([band], some)
        needed.append(k)
        light = (some.flux[:, j] * projection[j]) @ phi
        through = some.more.transmission[:, j[chosen]].astype(float)
        exact = (some.more.population @ light * through).sum(1)
        found = (some.more.population @ basis[:, :k].astype(float) @ table[:k, 0, 0].astype(float) * through).sum(1)
        assert np.abs(found / exact - 1.0).max() < 0.0301
    assert needed[1] > needed[0]


def test_a_galaxy_without_stars_cannot_be_compressed():
    empty = dspsx.TabulatedSFH(t_table=np.linspace(0.1, 14.0, 30), sfr_table=np.zeros(30))
    with pytest.raises(ValueError, match="no galaxy has stars"):
        testing.fake_galaxy(sfh=empty).compress(progress=False)
