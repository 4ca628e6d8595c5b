"""Nodes of a band: as many as its transmissions need, those that were only tested at the end among them."""

import numpy as np
import pytest

from dspsx.compressed.examples import at_waves
from dspsx.compressed.nodes import fit

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


def test_a_last_test_that_nodes_cannot_pass_is_an_error(problem):
    projections, light, mild, wild = problem
    with pytest.raises(ValueError, match=r"up to 2 nodes .* times"):
        fit(projections, light, mild, N_FIT, 0.5, 1e-20, most=2, more=wild, tol_more=1e-6)


@pytest.mark.parametrize("j", [[3], [2, 3, 4], [0, 1, 2, 3, 4, 5], [0, 2, 5]])
def test_slices_of_wavelengths(j):
    x = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(at_waves(x, np.array(j)), x[:, j])
