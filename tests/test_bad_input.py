"""Bad input gets a clear error (or a warning) at the door: what is wrong, what was given, what is expected; and nothing
partial is written.

Most cases run here, with jaxtyping's checks switched on by pytest. Those that such checks would catch first (a wrong
type of component, a batch where one galaxy is meant) are run as a user runs them, in a plain process: `AS_USER`.
"""

import json
import os
import pathlib
import subprocess
import sys
import warnings

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import FilterSet, GalaxySEDModel, SSPGrid, TabulatedSFH, testing
from dspsx._model import Scalar, param
from dspsx.metallicity import LognormalMDF

ROOT = pathlib.Path(__file__).resolve().parents[1]
T = np.linspace(0.1, 14.0, 8)


def case(name, function, error, *words):
    """An entry of a table: `function` must raise `error` with every one of `words` in its message."""
    return pytest.param(function, error, words, id=name)


def refused(function, error, words):
    with pytest.raises(error) as info:
        function()
    lacking = [word for word in words if word not in str(info.value)]
    assert not lacking, f"{lacking} not told by {info.type.__name__}: {info.value}"


table = lambda *cases: pytest.mark.parametrize(("function", "error", "words"), cases)  # noqa: E731


def galaxy(**changes):
    return testing.fake_galaxy(**changes)


def axes_of_fake():
    fake = testing.fake_ssp()
    return {name: np.asarray(getattr(fake, name)) for name in ("wave", "lg_age", "lgmet", "flux")}


# --- parameters


class Quantity:
    """A number with a unit, as astropy has them."""

    def __init__(self, value, unit):
        self.value, self.unit = np.asarray(value, float), unit

    def to_value(self, unit):
        return self.value * {("nm", "Angstrom"): 10.0}[self.unit, unit]

    def __array__(self, dtype=None, copy=None):
        return self.value


MASKED = np.ma.masked_equal([1.0, -99.0, 1.0], -99.0)


@table(
    case("array", lambda: dspsx.Calzetti00(av=[1, 2]), ValueError, "Calzetti00.av", "(2,)", "single number", "stack"),
    case("array of one", lambda: dspsx.Calzetti00(av=[1.0]), ValueError, "Calzetti00.av", "(1,)", "single number"),
    case("text", lambda: dspsx.Calzetti00(av="big"), TypeError, "Calzetti00.av", "'big'", "number"),
    case("None", lambda: dspsx.Calzetti00(av=None), TypeError, "Calzetti00.av", "None", "number"),
    case("complex", lambda: dspsx.Calzetti00(av=1j), TypeError, "Calzetti00.av", "1j"),
    case("NaN", lambda: dspsx.Calzetti00(av=np.nan), ValueError, "Calzetti00.av", "NaN", "[0, 6] mag"),
    case("infinite", lambda: dspsx.Calzetti00(av=np.inf), ValueError, "Calzetti00.av = inf", "[0, 6] mag"),
    case("too low", lambda: dspsx.Calzetti00(av=-0.1), ValueError, "Calzetti00.av = -0.1", "[0, 6] mag", "in V"),
    case("too high", lambda: dspsx.Calzetti00(av=7), ValueError, "Calzetti00.av = 7", "[0, 6] mag"),
    case("solar lgmet", lambda: LognormalMDF(lgmet=0.0), ValueError, "lgmet = 0", "[-4.5, -1]", "log10 Z", "solar"),
    case("H0 for h", lambda: dspsx.Cosmology(h=70), ValueError, "Cosmology.h = 70", "[0.2, 1.5]", "100 km/s/Mpc"),
    case("linear mass", lambda: dspsx.DelayedTauSFH(1e10), ValueError, "lg_mass_formed = 1e+10", "log10 Msun"),
    case("halo mass", lambda: dspsx.DiffmahHalo(logm0=1e12), ValueError, "DiffmahHalo.logm0", "log10 Msun"),
    case("redshifts", lambda: galaxy(redshift=[0.1, 0.2]), ValueError, "GalaxySEDModel.redshift", "(2,)", "stack"),
    case("NaN redshift", lambda: galaxy(redshift=np.nan), ValueError, "GalaxySEDModel.redshift", "NaN", "[0, 20]"),
    case("redshift -1", lambda: galaxy(redshift=-1.0), ValueError, "GalaxySEDModel.redshift = -1", "[0, 20]"),
    case("redshift 21", lambda: galaxy(redshift=21.0), ValueError, "GalaxySEDModel.redshift = 21", "[0, 20]"),
    case("redshift text", lambda: galaxy(redshift="low"), TypeError, "GalaxySEDModel.redshift", "'low'", "number"),
    case("number in text", lambda: galaxy(redshift="0.1"), TypeError, "GalaxySEDModel.redshift", "'0.1'", "number"),
    case(
        "number in an array of text", lambda: galaxy(redshift=np.array("0.1")), TypeError, "redshift", "'0.1'", "number"
    ),
    case("unit", lambda: dspsx.DelayedTauSFH(tau=Quantity(10, "Myr")), TypeError, "DelayedTauSFH.tau", "Myr", "in Gyr"),
    case("masked", lambda: galaxy(redshift=MASKED[1]), TypeError, "GalaxySEDModel.redshift", "masked"),
    case("masked table", lambda: TabulatedSFH(np.arange(1.0, 4.0), MASKED), TypeError, "sfr_table", "masked"),
    case("redshift None", lambda: galaxy(redshift=None), TypeError, "GalaxySEDModel.redshift", "None", "number"),
    case(
        "redshift a grid", lambda: GalaxySEDModel(testing.fake_ssp()), TypeError, "GalaxySEDModel.redshift", "SSPGrid"
    ),
)
def test_parameters(function, error, words):
    refused(function, error, words)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (dspsx.Calzetti00, lambda: {}),
        (dspsx.Cosmology, lambda: {}),
        (dspsx.DelayedTauSFH, lambda: {}),
        (dspsx.DiffmahHalo, lambda: {}),
        (dspsx.DiffstarSFH, lambda: {}),
        (LognormalMDF, lambda: {}),
        (dspsx.PartialCover, lambda: {}),
        (GalaxySEDModel, lambda: {}),
        (TabulatedSFH, lambda: {"t_table": T, "sfr_table": T}),
        (SSPGrid, axes_of_fake),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_misspelt_name_is_told(build, arguments):
    with pytest.raises(TypeError, match="redshfit"):
        build(redshfit=0.5, **arguments())


@table(
    case("one value", lambda: TabulatedSFH([1.0], [1.0]), ValueError, "t_table", "at least two", "Gyr"),
    case("decreasing", lambda: TabulatedSFH([2, 1], [1, 1]), ValueError, "t_table", "increasing", "Gyr"),
    case("repeated", lambda: TabulatedSFH([1, 1, 2], [1, 1, 1]), ValueError, "t_table", "strictly increasing"),
    case("from zero", lambda: TabulatedSFH([0, 1], [1, 1]), ValueError, "t_table", "positive"),
    case("NaN time", lambda: TabulatedSFH([1, np.nan], [1, 1]), ValueError, "t_table", "finite"),
    case("infinite time", lambda: TabulatedSFH([1, np.inf], [1, 1]), ValueError, "t_table", "finite"),
    case("years", lambda: TabulatedSFH([1e8, 1e10], [1, 1]), ValueError, "t_table", "1e+10", "Gyr"),
    case("Myr", lambda: TabulatedSFH([100, 13000], [1, 1]), ValueError, "t_table", "13000", "Gyr"),
    case("lengths", lambda: TabulatedSFH([1, 2], [1, 2, 3]), ValueError, "t_table", "sfr_table", "(2,)", "(3,)"),
    case("number for a table", lambda: TabulatedSFH([1, 2], 1.0), ValueError, "sfr_table", "(2,)", "()"),
    case("two-dimensional", lambda: TabulatedSFH(np.ones((2, 2)), np.ones((2, 2))), ValueError, "t_table", "(2, 2)"),
    case("negative", lambda: TabulatedSFH([1, 2], [1, -1]), ValueError, "sfr_table = -1", "[0, inf] Msun/yr"),
    case("NaN", lambda: TabulatedSFH([1, 2], [1, np.nan]), ValueError, "sfr_table", "NaN", "Msun/yr"),
    case("infinite", lambda: TabulatedSFH([1, 2], [1, np.inf]), ValueError, "sfr_table", "Msun/yr"),
    case("missing", lambda: TabulatedSFH(T), TypeError, "sfr_table"),
    case("text", lambda: TabulatedSFH("a", "b"), TypeError, "TabulatedSFH.", "'"),
    case("scheme", lambda: TabulatedSFH(T, T, scheme="dpsps"), ValueError, "scheme", "'hat' or 'dsps'", "'dpsps'"),
    case("scheme of the MDF", lambda: LognormalMDF(scheme="Hat"), ValueError, "scheme", "'hat' or 'dsps'", "'Hat'"),
)
def test_tables_and_schemes(function, error, words):
    refused(function, error, words)


@table(
    case("unit", lambda: galaxy().fluxes("njy"), ValueError, "'njy'", "nJy", "maggies"),
    case("unit of the spectrum", lambda: galaxy().observed_sed("abmag"), ValueError, "'abmag'", "nJy"),
    case("unit itself", lambda: dspsx.units.per_maggie("jy"), ValueError, "'jy'", "Jy"),
    case("cosmology", lambda: dspsx.Cosmology.named("planck16"), ValueError, "'planck16'", "planck15", "wmap9"),
    case("dsps on two metallicities", lambda: two_metallicities().magnitudes(), ValueError, "dsps", "at least three"),
)
def test_names_and_switches(function, error, words):
    refused(function, error, words)


def two_metallicities():
    return galaxy(ssp=testing.fake_ssp(n_met=2), metallicity=LognormalMDF(scheme="dsps"))


# --- SSP grids


def axes(**changes):
    """The default grid as numpy arrays, changed by functions: `axes(wave=lambda w: w / 10)`."""
    grid = SSPGrid.default()
    arrays = {name: np.asarray(getattr(grid, name), float) for name in ("wave", "lg_age", "lgmet", "flux")}
    return arrays | {name: change(arrays[name]) for name, change in changes.items()}


def grid(**changes):
    return lambda: SSPGrid(**axes(**changes))


def put(index, value):
    def change(x):
        x = x.copy()
        x[index] = value
        return x

    return change


def cut(lo, hi, scale):
    """The default grid between two wavelengths in Angstrom, in another unit."""

    def build():
        arrays = axes()
        inside = (arrays["wave"] >= lo) & (arrays["wave"] <= hi)
        return SSPGrid(**arrays | {"wave": arrays["wave"][inside] / scale, "flux": arrays["flux"][:, :, inside]})

    return build


@table(
    case("flux of two axes", grid(flux=lambda f: f[0]), ValueError, "SSPGrid.flux", "(6, 106, 1229)", "(106, 1229)"),
    case("flux transposed", grid(flux=lambda f: f.T), ValueError, "(n_met, n_age, n_wave)", "(1229, 106, 6)"),
    case("axis of two axes", grid(wave=lambda w: w[None]), ValueError, "SSPGrid", "wave (1, 1229)"),
    case("axis a number", grid(lgmet=lambda z: z[0]), ValueError, "SSPGrid", "lgmet ()"),
    case("axis short", grid(lg_age=lambda a: a[:-1]), ValueError, "SSPGrid.flux", "(6, 105, 1229)"),
    case("text", grid(flux=lambda f: "spectra"), TypeError, "SSPGrid.flux", "array of numbers", "'spectra'"),
    case("None", grid(wave=lambda w: None), TypeError, "SSPGrid.wave", "array of numbers", "None"),
    case("wave reversed", grid(wave=lambda w: w[::-1]), ValueError, "SSPGrid.wave", "increase", "index 0", "Sort"),
    case("wave repeated", grid(wave=put(3, 96.0)), ValueError, "SSPGrid.wave", "increase strictly", "index 2"),
    case("age reversed", grid(lg_age=lambda a: a[::-1]), ValueError, "SSPGrid.lg_age", "increase", "Sort"),
    case("met reversed", grid(lgmet=lambda z: z[::-1]), ValueError, "SSPGrid.lgmet", "increase", "Sort"),
    case("wave NaN", grid(wave=put(5, np.nan)), ValueError, "SSPGrid.wave", "1 value(s)", "not finite"),
    case("wave infinite", grid(wave=put(-1, np.inf)), ValueError, "SSPGrid.wave", "not finite"),
    case("age of zero", grid(lg_age=put(0, -np.inf)), ValueError, "SSPGrid.lg_age", "not finite"),
    case("met NaN", grid(lgmet=put(1, np.nan)), ValueError, "SSPGrid.lgmet", "not finite"),
    case("wave negative", grid(wave=lambda w: w - 100.0), ValueError, "SSPGrid.wave", "positive", "-9"),
    case("one metallicity", grid(lgmet=lambda z: z[:1], flux=lambda f: f[:1]), ValueError, "SSPGrid.lgmet", "two"),
    case("one age", grid(lg_age=lambda a: a[:1], flux=lambda f: f[:, :1]), ValueError, "SSPGrid.lg_age", "two"),
    case("one wave", grid(wave=lambda w: w[:1], flux=lambda f: f[..., :1]), ValueError, "SSPGrid.wave", "two"),
    case("no wave", grid(wave=lambda w: w[:0], flux=lambda f: f[..., :0]), ValueError, "SSPGrid.wave", "two", "got 0"),
    case("flux NaN", grid(flux=put((2, 7, 9), np.nan)), ValueError, "SSPGrid.flux", "1 value(s)", "lgmet =", "wave ="),
    case("flux infinite", grid(flux=put((0, 0, 0), np.inf)), ValueError, "SSPGrid.flux", "not finite"),
    case("log age in yr", grid(lg_age=lambda a: a + 9), ValueError, "SSPGrid.lg_age", "log10(age/Gyr)", "subtract 9"),
    case("ages in Gyr", grid(lg_age=lambda a: 10**a), ValueError, "SSPGrid.lg_age", "15.1", "log10"),
    case("ages in yr", grid(lg_age=lambda a: 10 ** (a + 9)), ValueError, "SSPGrid.lg_age", "log10(age/Gyr)"),
    case("log age in Myr", grid(lg_age=lambda a: a + 3), ValueError, "SSPGrid.lg_age", "log10(age/Gyr)"),
    case("met by solar", grid(lgmet=lambda z: z + 1.7), ValueError, "SSPGrid.lgmet", "0.39", "solar", "log10(Z_sun)"),
    case("met up to 0", grid(lgmet=lambda z: z - z[-1]), ValueError, "SSPGrid.lgmet", "0", "mass fraction"),
    case("met not log", grid(lgmet=lambda z: 10**z), ValueError, "SSPGrid.lgmet", "log10"),
    case("youngest last", grid(flux=lambda f: f[:, ::-1]), ValueError, "SSPGrid.flux", "reverse order of age"),
    case("nm", grid(wave=lambda w: w / 10), ValueError, "SSPGrid.wave", "nm", "Angstrom", "Multiply by 10"),
    case("micron", grid(wave=lambda w: w / 1e4), ValueError, "SSPGrid.wave", "micron", "Angstrom", "10000"),
    case("nm optical", cut(3000, 9000, 10), ValueError, "SSPGrid.wave", "nm", "multiply by 10"),
    case("nm to the near infrared", cut(1000, 30000, 10), ValueError, "SSPGrid.wave", "nm", "Multiply by 10"),
    case("nm to 10 micron", cut(900, 100000, 10), ValueError, "SSPGrid.wave", "nm", "Multiply by 10"),
    case("nm to 5 micron", cut(100, 50000, 10), ValueError, "SSPGrid.wave", "nm"),
    case("micron optical", cut(3000, 9000, 1e4), ValueError, "SSPGrid.wave", "micron", "10000"),
    case("micron to 10", cut(900, 100000, 1e4), ValueError, "SSPGrid.wave", "micron", "10000"),
)
def test_grids(function, error, words):
    refused(function, error, words)


@pytest.mark.parametrize(("lo", "hi"), [(0, 1e9), (3000, 9000), (900, 30000), (912, 100000), (8000, 30000)])
def test_grids_that_are_right_pass(lo, hi):
    assert isinstance(cut(lo, hi, 1.0)(), SSPGrid)


def test_a_grid_is_checked_when_its_values_are_there_and_not_under_a_trace():
    fake = testing.fake_ssp()

    def build(wave, flux):
        return SSPGrid(wave, fake.lg_age, fake.lgmet, flux).flux

    reversed_wave = fake.wave[::-1]
    assert jax.make_jaxpr(build)(reversed_wave, fake.flux * jnp.nan)
    with pytest.raises(ValueError, match=r"SSPGrid\.wave must increase"):
        build(reversed_wave, fake.flux)
    with pytest.raises(ValueError, match=r"SSPGrid\.flux must have shape"):
        jax.make_jaxpr(build)(fake.wave, fake.flux[:-1])


# --- filters


def one(wave=(4000.0, 5000.0, 6000.0), transmission=(0.0, 1.0, 0.0)):
    return lambda: FilterSet.from_arrays(["b"], [wave], [transmission])


@table(
    case("nm", one((400, 500, 600)), ValueError, "filter b", "400 to 600", "expected Angstrom", "nm"),
    case("micron", one((0.4, 0.5, 0.6)), ValueError, "filter b", "0.4 to 0.6", "expected Angstrom", "micron"),
    case("micron, mid infrared", one((20, 22, 24)), ValueError, "filter b", "expected Angstrom", "micron"),
    case("negative wave", one((-4000, 5000, 6000)), ValueError, "filter b", "positive", "-4000"),
    case("wave from zero", one((0, 5000, 6000)), ValueError, "filter b", "positive"),
    case("decreasing", one((6000, 5000, 4000)), ValueError, "filter b", "increase", "6000, 5000"),
    case("repeated", one((4000, 5000, 5000)), ValueError, "filter b", "increase", "5000, 5000 at index 1"),
    case("wave NaN", one((4000, np.nan, 6000)), ValueError, "filter b", "not finite"),
    case("wave infinite", one((4000, 5000, np.inf)), ValueError, "filter b", "not finite"),
    case("NaN", one(transmission=(0, np.nan, 0)), ValueError, "filter b", "not finite"),
    case("negative", one(transmission=(0, 1, -0.1)), ValueError, "filter b", "transmission", "-0.1"),
    case("all zero", one(transmission=(0, 0, 0)), ValueError, "filter b", "transmission", "not all zero"),
    case("lengths", one(transmission=(0, 1)), ValueError, "filter b", "one length", "(3,)", "(2,)"),
    case("one point", one((5000,), (1,)), ValueError, "filter b", "at least 2", "(1,)"),
    case("narrower than float32", one((5000, 5000.0001, 5000.0002)), ValueError, "filter b"),
    case(
        "twice the name",
        lambda: FilterSet.from_arrays(["b", "b"], [(4000, 5000)] * 2, [(1, 1)] * 2),
        ValueError,
        "each name once",
        "['b', 'b']",
    ),
    case("text", one(np.array(["a", "b", "c"])), TypeError, "filter b", "text"),
    case("a list of text", one(("a", "b", "c")), TypeError, "filter b", "text"),
    case("words", one(transmission=(0, [1, 2], 0)), ValueError, "filter b", "numbers"),
    case("masked", one(transmission=MASKED), TypeError, "filter b", "transmission", "masked"),
    case("no file", lambda: FilterSet.from_files(None), TypeError, "from_files", "None"),  # pyright: ignore[reportArgumentType]
    case("none", lambda: FilterSet.from_arrays([], [], []), ValueError, "at least one band"),
    case("counts", lambda: FilterSet.from_arrays(["b"], [], []), ValueError, "1 names", "0 wavelength arrays"),
    case("unknown name", lambda: FilterSet.load("lsst_w"), ValueError, "'lsst_w'", "lsst_z", "available()"),
    case("unknown glob", lambda: FilterSet.load(["lsst_*", "2mas_*"]), ValueError, "'2mas_*'", "twomass_"),
    case("like nothing", lambda: FilterSet.load("@@@@@"), ValueError, "'@@@@@'", "none", "available()"),
    case("no names", lambda: FilterSet.load([]), ValueError, "at least one"),
    case("join of the same", lambda: FilterSet.load("lsst_*") + FilterSet.load("lsst_g"), ValueError, "each name once"),
)
def test_filters(function, error, words):
    refused(function, error, words)


GOOD_CURVE = "# a comment\n4000 0\n5000 1\n6000 0\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["two columns", "curve.txt"]),
        ("# only comments\n# and nothing\n", ["two columns", "curve.txt"]),
        ("wavelength transmission\n4000 0\n5000 1\n", ["two columns", "curve.txt", "wavelength"]),
        ("hello world\n", ["two columns", "curve.txt", "hello"]),
        ("4000\n5000\n6000\n", ["two columns", "curve.txt", "(3, 1)"]),
        ("4000 0\n5000 1 3\n", ["two columns", "curve.txt"]),
        ("4000,0\n5000,1\n6000,0\n", ["two columns", "curve.txt", "4000,0"]),
        ("4000 0\n5000 nan\n6000 0\n", ["filter curve", "not finite"]),
        ("6000 0\n5000 1\n4000 0\n", ["filter curve", "increase"]),
        ("400 0\n500 1\n600 0\n", ["filter curve", "Angstrom", "nm"]),
        ("\x00\xff\xfe\x80" * 30, ["two columns", "curve.txt"]),
    ],
    ids=["empty", "comments", "header", "words", "one column", "ragged", "commas", "NaN", "decreasing", "nm", "binary"],
)
def test_filter_text_files(tmp_path, text, words):
    path = tmp_path / "curve.txt"
    path.write_bytes(text.encode("latin-1"))
    refused(lambda: FilterSet.from_files(path), ValueError, words)


def test_filter_files_that_are_right_or_absent(tmp_path):
    path = tmp_path / "curve.txt"
    path.write_text(GOOD_CURVE)
    assert FilterSet.from_files(path).names == ("curve",)
    assert FilterSet.from_files([path], names=["g"]).names == ("g",)
    write(tmp_path / "dsps.h5", wave=[4000.0, 5000.0, 6000.0], transmission=[0.0, 1.0, 0.0])
    assert FilterSet.from_files(tmp_path / "dsps.h5").names == ("dsps",)
    for name in ("absent.txt", "absent.h5"):
        with pytest.raises(FileNotFoundError, match="no file"):
            FilterSet.from_files(tmp_path / name)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        FilterSet.from_files(tmp_path)
    with pytest.raises(ValueError, match="each name once"):
        FilterSet.from_files([path, path])


# --- HDF5 files


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value


def write_model(path):
    dspsx.save(path, dspsx.DelayedTauSFH())


def write_grid(path):
    testing.fake_ssp().to_hdf5(path)


def write_curve(path):
    write(path, wave=[4000.0, 5000.0, 6000.0], transmission=[0.0, 1.0, 0.0])


#: How to write a good file of each kind, and how to read it.
KINDS = {
    "model": (write_model, dspsx.load),
    "grid": (write_grid, lambda path: SSPGrid.from_hdf5(path, check=False)),
    "filter": (write_curve, FilterSet.from_files),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_truncated_files(kind, tmp_path):
    create, read = KINDS[kind]
    path = tmp_path / "file.h5"
    create(path)
    read(path)
    whole = path.read_bytes()
    for size in (1, 10, 100, 1000, len(whole) // 4, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(lambda: read(path), ValueError, ["file.h5", f"{size} bytes", "truncated"])
    assert os.listdir(tmp_path) == ["file.h5"]


@each_kind
def test_altered_files_raise_nothing_but_a_value_error(kind, tmp_path):
    create, read = KINDS[kind]
    path = tmp_path / "file.h5"
    create(path)
    whole, rng, refusals = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(len(damaged), size=20):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read(path)
            except ValueError:
                refusals += 1
    assert refusals > 10


@each_kind
def test_files_that_are_something_else(kind, tmp_path):
    _, read = KINDS[kind]
    path = tmp_path / "file.h5"
    path.write_bytes(b"")
    refused(lambda: read(path), ValueError, ["file.h5", "empty"])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    refused(lambda: read(path), ValueError, ["file.h5", "not HDF5"])
    path.write_text("# a text file\n")
    refused(lambda: read(path), ValueError, ["file.h5", "not HDF5"])
    write(path, something_else=1.0)
    with pytest.raises(ValueError, match=r"file\.h5"):
        read(path)
    for other, (create, _) in KINDS.items():
        if other != kind:
            create(path)
            with pytest.raises(ValueError, match=r"file\.h5"):
                read(path)
    with pytest.raises(FileNotFoundError, match=r"no file"):
        read(tmp_path / "absent.h5")
    with pytest.raises(IsADirectoryError, match=r"is a folder"):
        read(tmp_path)


def rewrite(path, **changes):
    """A good grid file with datasets changed, or left out where None; the path itself is returned."""
    keys = {"ssp_lgmet": "lgmet", "ssp_lg_age_gyr": "lg_age", "ssp_wave": "wave", "ssp_flux": "flux"}
    fake = testing.fake_ssp()
    datasets = {key: np.asarray(getattr(fake, name)) for key, name in keys.items()} | changes
    write(path, **{key: value for key, value in datasets.items() if value is not None})
    return path


@pytest.mark.parametrize("name", ["ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux"])
def test_a_dataset_that_a_grid_file_lacks_is_named(name, tmp_path):
    path = rewrite(tmp_path / "grid.h5", **{name: None})
    refused(lambda: SSPGrid.from_hdf5(path), ValueError, [f"lacks {name}", "it holds ssp_", "grid.h5"])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"ssp_wave": np.arange(60.0)[::-1] + 1}, ValueError, ["SSPGrid.wave", "increase"]),
        ({"ssp_wave": "text"}, TypeError, ["SSPGrid.wave", "array of numbers"]),
        ({"ssp_flux": np.ones((3, 12, 60))}, ValueError, ["SSPGrid.flux", "(4, 12, 60)", "(3, 12, 60)"]),
        ({"ssp_flux": np.full((4, 12, 60), np.nan)}, ValueError, ["SSPGrid.flux", "not finite"]),
        ({"ssp_lgmet": np.linspace(-2, 0.3, 4)}, ValueError, ["SSPGrid.lgmet", "solar"]),
        ({"ssp_lg_age_gyr": np.linspace(5, 10.1, 12)}, ValueError, ["SSPGrid.lg_age", "subtract 9"]),
    ],
    ids=["reversed", "text", "shape", "nan", "solar", "years"],
)
def test_grid_files_with_bad_contents(changes, error, words, tmp_path):
    refused(lambda: SSPGrid.from_hdf5(rewrite(tmp_path / "grid.h5", **changes)), error, words)


@pytest.mark.parametrize("reader", ["grid", "filter"])
def test_a_group_where_a_dataset_should_be(reader, tmp_path):
    path = tmp_path / "file.h5"
    if reader == "grid":
        rewrite(path, ssp_wave=None, **{"ssp_wave/nested": 1.0})
    else:
        write(path, transmission=[0.0, 1.0], **{"wave/nested": 1.0})
    refused(lambda: KINDS[reader][1](path), ValueError, ["file.h5", "wave"])


@pytest.mark.parametrize("value", ["bright", 0.0, np.nan, -1.0], ids=str)
def test_a_solar_luminosity_that_makes_no_sense(value, tmp_path):
    path = rewrite(tmp_path / "grid.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["l_sun_cgs"] = value
    with pytest.raises(ValueError, match="l_sun_cgs"):
        SSPGrid.from_hdf5(path, check=False)


def test_spectra_in_another_unit_are_told_by_a_warning(tmp_path):
    path = tmp_path / "grid.h5"
    arrays = axes()
    step = slice(None, None, 4)
    arrays |= {"lg_age": arrays["lg_age"][step], "flux": arrays["flux"][:, step]}
    SSPGrid(**arrays).to_hdf5(path)
    SSPGrid.from_hdf5(path)  # the right unit: no warning (they are errors here)
    per_angstrom = arrays["flux"] * dspsx.units.C_ANGSTROM / arrays["wave"] ** 2
    SSPGrid(**arrays | {"flux": per_angstrom}).to_hdf5(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SSPGrid.from_hdf5(path)
    told = "\n".join(str(warning.message) for warning in caught)
    assert all(word in told for word in ("grid.h5", "odd mass-to-light", "Lsun/A")), told


def test_nothing_partial_is_written(tmp_path, monkeypatch):
    missing = tmp_path / "no" / "such" / "file.h5"
    for attempt in (lambda: dspsx.save(missing, galaxy()), lambda: testing.fake_ssp().to_hdf5(missing)):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            attempt()
    path = tmp_path / "grid.h5"
    testing.fake_ssp().to_hdf5(path)
    before = path.read_bytes()

    def fail(self, name, **kwargs):
        if name == "ssp_flux":
            raise OSError("disk full")
        return create(self, name, **kwargs)

    create = h5py.Group.create_dataset
    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OSError, match="disk full"):
        testing.fake_ssp(seed=1).to_hdf5(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["grid.h5"]
    with pytest.raises(OSError, match="disk full"):
        testing.fake_ssp().to_hdf5(tmp_path / "new.h5")
    assert os.listdir(tmp_path) == ["grid.h5"]


# --- coverage, and histories that end


def test_bands_that_the_spectrum_does_not_cover_are_told():
    fake, bands = testing.fake_ssp(), FilterSet.load(["lsst_r", "wise_w3"])  # the fake grid ends at 5 micron
    with pytest.warns(UserWarning, match=r"redshift 0\.5 .*not cover.*wise_w3") as caught:
        GalaxySEDModel(ssp=fake, filters=bands, redshift=0.5)
    assert len(caught) == 1 and "lsst_r" not in str(caught[0].message)
    GalaxySEDModel(ssp=fake, filters=bands, redshift=3.0)  # covered: 5 micron (1 + 3) = 20 micron
    with pytest.warns(UserWarning, match=r"redshift 20 .*galex_fuv"):
        GalaxySEDModel(ssp=fake, filters=FilterSet.load("galex_fuv"), redshift=20.0)
    GalaxySEDModel(filters=FilterSet.load("*"), redshift=0.0)  # the default grid covers every embedded band


def test_energy_that_a_grid_lacks_is_told():
    fake = testing.fake_ssp()
    red = np.asarray(fake.wave) > 3000
    short = dspsx.SSPGrid(wave=fake.wave[red], flux=fake.flux[..., red], lgmet=fake.lgmet, lg_age=fake.lg_age)
    dusty = {"dust": dspsx.Calzetti00(), "filters": FilterSet.load("lsst_r")}
    GalaxySEDModel(ssp=short, **dusty)
    GalaxySEDModel(dust_emission=dspsx.Casey12(), **dusty)
    with pytest.warns(UserWarning, match="what dust absorbs of the starlight outside is missing"):
        GalaxySEDModel(ssp=short, dust_emission=dspsx.Casey12(), **dusty)


def test_coverage_is_told_by_replace_too():
    model = GalaxySEDModel(ssp=testing.fake_ssp(), filters=FilterSet.load("wise_w3"), redshift=3.0)
    with pytest.warns(UserWarning, match=r"redshift 0\.5 .*wise_w3"):
        dspsx.replace(model, lambda g: g.redshift, 0.5)
    with pytest.warns(UserWarning, match=r"redshift 3 .*wise_w4"):
        dspsx.replace(model, lambda g: g.filters, FilterSet.load("wise_w4"))


def test_a_band_without_light_has_finite_magnitudes_and_gradients():
    with pytest.warns(UserWarning, match="wise_w4"):
        model = GalaxySEDModel(ssp=testing.fake_ssp(), filters=FilterSet.load("wise_w4"), redshift=0.1)
    theta, rest = dspsx.partition(model)
    observe = jax.jit(jax.value_and_grad(lambda t, r: dspsx.combine(t, r).magnitudes()[0]))
    magnitude, slopes = observe(theta, rest)
    assert 80 < magnitude < 100
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


def test_a_history_that_ends_before_the_observation_is_told():
    with pytest.warns(UserWarning, match=r"history ends at 7 Gyr.*observed at 10\.\d+ Gyr"):
        galaxy(sfh=TabulatedSFH(T / 2, T), redshift=0.3)
    galaxy(sfh=TabulatedSFH(T, T), redshift=0.3)
    galaxy(sfh=TabulatedSFH(T / 2, T), redshift=1.0)  # 5.9 Gyr after the Big Bang


# --- partition, combine, replace, stack, take


def broken(value):
    """A galaxy with a value that construction would have refused."""
    return eqx.tree_at(lambda g: g.sfh.age, galaxy(), jnp.asarray(value))


def tuple_of(n):
    return [dspsx.replace(galaxy(), lambda g: g.redshift, 0.1 * (i + 1)) for i in range(n)]


@table(
    case("data", lambda: dspsx.partition(galaxy(), lambda g: g.ssp.flux), TypeError, "data", "never fitted"),
    case("curves", lambda: dspsx.partition(galaxy(), lambda g: g.filters.wave), TypeError, "data", "never fitted"),
    case("a whole grid", lambda: dspsx.partition(galaxy(), lambda g: g.ssp), ValueError, "no free parameter"),
    case("nothing", lambda: dspsx.partition(galaxy(), lambda g: ()), ValueError, "no free parameter"),
    case("only fixed", lambda: dspsx.partition(galaxy(), lambda g: g.cosmology), ValueError, "no free parameter"),
    case("no parameter", lambda: dspsx.partition(dspsx.NoDust()), ValueError, "no free parameter"),
    case("misspelt", lambda: dspsx.partition(galaxy(), lambda g: g.sfh.agee), AttributeError, "agee"),
    case("out of bounds", lambda: dspsx.partition(broken(-3.0)), ValueError, "sfh.age = -3", "[0.01, 15] Gyr"),
    case("NaN", lambda: dspsx.partition(broken(np.nan)), ValueError, "sfh.age", "NaN", "[0.01, 15] Gyr"),
    case("physical", lambda: dspsx.partition(broken(-3.0), physical=True), ValueError, "sfh.age = -3"),
    case("theta itself", lambda: dspsx.partition(dspsx.partition(galaxy())[0]), ValueError, "outside its bounds"),
    case("halves exchanged", lambda: dspsx.combine(*dspsx.partition(galaxy())[::-1]), ValueError, "combine"),
    case("halves of two models", lambda: halves_of_two_models(), ValueError, "built differently", "ssp=galaxy.ssp"),
)
def test_partition_and_combine(function, error, words):
    refused(function, error, words)


def halves_of_two_models():
    theta, _ = dspsx.partition(galaxy(dust=dspsx.Calzetti00()))
    return dspsx.combine(theta, dspsx.partition(galaxy())[1])


def test_wavelengths_with_a_unit_are_converted():
    found = FilterSet.from_arrays(["b"], [Quantity((1500, 1600, 1700), "nm")], [(0, 1, 0)])
    assert eqx.tree_equal(found, one((15000, 16000, 17000), (0, 1, 0))())


def age(value):
    return lambda: dspsx.replace(galaxy(), lambda g: g.sfh.age, value)


def place(where, value):
    return lambda: dspsx.replace(galaxy(), where, value)


@table(
    case("too low", age(-1), ValueError, "sfh.age = -1", "[0.01, 15] Gyr"),
    case("NaN", age(np.nan), ValueError, "sfh.age", "NaN"),
    case("infinite", age(np.inf), ValueError, "sfh.age", "inf"),
    case("shape", age([1, 2]), ValueError, "shape (2,)", "shape ()"),
    case("text", age("old"), TypeError, "'old'"),
    case("number in text", age("3.0"), TypeError, "'3.0'", "number"),
    case("None", age(None), TypeError, "None"),
    case("unit", age(Quantity(3, "Gyr")), TypeError, "unit"),
    case("misspelt", place(lambda g: g.sfh.agee, 1.0), AttributeError, "agee"),
    case("too few values", place(lambda g: (g.sfh.age, g.redshift), (1,)), ValueError, "2 place(s)", "1 value(s)"),
    case("NaN in a grid", place(lambda g: g.ssp.flux, np.full((4, 12, 60), np.nan)), ValueError, "SSPGrid.flux"),
    case("an axis of a grid", place(lambda g: g.ssp.wave, np.arange(60.0)[::-1] + 1), ValueError, "SSPGrid.wave"),
)
def test_replace(function, error, words):
    refused(function, error, words)


def test_replace_leaves_the_original():
    model = galaxy()
    with pytest.raises(ValueError, match="outside its bounds"):
        dspsx.replace(model, lambda g: (g.redshift, g.sfh.age), (0.5, 99))
    assert float(model.redshift) == pytest.approx(0.3)


@table(
    case("none", lambda: dspsx.stack([]), ValueError, "stack", "at least one"),
    case(
        "classes",
        lambda: dspsx.stack([dspsx.Calzetti00(), dspsx.PowerLawDust()]),
        ValueError,
        "model 1",
        "model 0",
        "PowerLawDust",
        "Calzetti00",
    ),
    case("components", lambda: dspsx.stack([galaxy(), galaxy(dust=dspsx.Noll09())]), ValueError, "model 1", "Noll09"),
    case("grids", lambda: dspsx.stack([galaxy(), galaxy(ssp=testing.fake_ssp(seed=1))]), ValueError, "different data"),
    case("shapes", lambda: dspsx.stack([galaxy(), galaxy(ssp=testing.fake_ssp(n_wave=50))]), ValueError, "model 1"),
    case("times", lambda: dspsx.stack([TabulatedSFH(T, T), TabulatedSFH(2 * T, T)]), ValueError, "different data"),
    case("lengths", lambda: dspsx.stack([TabulatedSFH(T, T), TabulatedSFH(T[1:], T[1:])]), ValueError, "data"),
    case("filters", lambda: dspsx.stack([galaxy(), galaxy(filters=FilterSet.load("lsst_g"))]), ValueError, "model 1"),
    case("not a model", lambda: dspsx.stack([galaxy(), None]), TypeError, "model 1", "None"),
    case("batch and one", lambda: dspsx.stack([dspsx.stack(tuple_of(2)), galaxy()]), ValueError, "stack"),
    case("beyond the end", lambda: dspsx.take(dspsx.stack(tuple_of(2)), 2), IndexError, "2"),
    case("before the start", lambda: dspsx.take(dspsx.stack(tuple_of(2)), -3), IndexError, "3"),
    case("of one galaxy", lambda: dspsx.take(galaxy(), 0), (IndexError, ValueError), "batch"),
)
def test_stack_and_take(function, error, words):
    refused(function, error, words)


# --- under jit, grad and vmap


def with_cosmology(**parameters):
    """A galaxy whose table of star formation, bands and redshift are known when its cosmology is traced."""
    return galaxy(sfh=TabulatedSFH(T, T), cosmology=dspsx.Cosmology(**parameters))


CONSTRUCTIONS = {
    "Calzetti00": lambda x: dspsx.Calzetti00(av=x),
    "PartialCover": lambda x: dspsx.PartialCover(covering=x),
    "LognormalMDF": lambda x: LognormalMDF(scatter=x),
    "TabulatedSFH": lambda x: TabulatedSFH(T, x * jnp.asarray(T, float)),
    "times of TabulatedSFH": lambda x: TabulatedSFH(x * jnp.asarray(T, float), T),
    "Cosmology": lambda x: dspsx.Cosmology(h=x),
    "grid": lambda x: brighter(x),
    "redshift of a galaxy": lambda x: galaxy(redshift=x),
    "dust of a galaxy": lambda x: galaxy(dust=dspsx.Calzetti00(av=x)),
    "grid of a galaxy": lambda x: galaxy(ssp=brighter(x)),
    "wavelengths of a galaxy": lambda x: galaxy(ssp=stretched(x)),
    "table of a galaxy": lambda x: galaxy(sfh=TabulatedSFH(T, x * jnp.asarray(T, float))),
    "Om0 of a galaxy": lambda x: with_cosmology(Om0=x),
    "h of a galaxy": lambda x: with_cosmology(h=x),
    "replace": lambda x: dspsx.replace(galaxy(), lambda g: g.redshift, x),
    "partition": lambda x: dspsx.partition(galaxy(dust=dspsx.Calzetti00(av=x)))[0].dust,
}


def brighter(x):
    fake = testing.fake_ssp()
    return SSPGrid(fake.wave, fake.lg_age, fake.lgmet, x * fake.flux)


def stretched(x):
    fake = testing.fake_ssp()
    return SSPGrid(x * fake.wave, fake.lg_age, fake.lgmet, fake.flux)


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_checks_let_tracers_pass(name):
    def build(x):
        model = CONSTRUCTIONS[name](x)
        total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(model))
        return total + model.t_obs if isinstance(model, GalaxySEDModel) else total

    x = jnp.asarray(0.7)
    assert jax.make_jaxpr(jax.vmap(jax.grad(build)))(x[None])  # as in jit, where constants are traced too
    assert np.isfinite(jax.vmap(build)(x[None])).all()  # here other ingredients are concrete
    assert np.isfinite(jax.jvp(build, (x,), (x,))[1])


def test_values_that_a_trace_hid_are_checked_at_the_next_door():
    axes_ = dspsx.batch_axes(dspsx.Calzetti00())
    batch = eqx.filter_vmap(dspsx.Calzetti00, out_axes=axes_)(jnp.asarray([1.0, 99.0]))
    with pytest.raises(ValueError, match=r"Calzetti00\.av = 99 is outside its bounds \[0, 6\] mag"):
        dspsx.partition(batch)
    with pytest.raises(ValueError, match="99"):
        dspsx.replace(batch, lambda d: d.av, [2.0, 99.0])


def test_shapes_and_names_are_checked_under_a_trace_too():
    for build in (
        lambda x: dspsx.Calzetti00(av=x),
        lambda x: galaxy(redshift=x),
        lambda x: LognormalMDF(lgmet=x),
    ):
        with pytest.raises(ValueError, match=r"must be a single number; got shape \(2,\)"):
            jax.make_jaxpr(build)(jnp.ones(2))
    with pytest.raises(TypeError, match="a_v"):
        jax.make_jaxpr(lambda x: dspsx.Calzetti00(a_v=x))(1.0)
    with pytest.raises(ValueError, match="'njy'"):
        jax.make_jaxpr(lambda x: galaxy(redshift=x).fluxes("njy"))(0.5)
    with pytest.raises(ValueError, match="2 place"):
        jax.make_jaxpr(lambda x: dspsx.replace(galaxy(), lambda g: (g.redshift, g.sfh.age), (x,)))(0.5)


# --- as a user meets them: without the checks of jaxtyping, which pytest adds to dspsx


class WideDust(dspsx.DustLaw):
    """A law of the wrong shape."""

    def attenuation(self, wave):
        return jnp.ones(3)


class ConstantDust(dspsx.DustLaw):
    """A law that gives a number."""

    def attenuation(self, wave):
        return 1.0


class Screens(dspsx.DustModel):
    """Screens of given shapes."""

    shares: int = eqx.field(static=True)
    transmissions: int = eqx.field(static=True)
    extra: int = eqx.field(static=True, default=0)

    def screens(self, wave, lg_age):
        return jnp.ones((self.shares, lg_age.size)), jnp.ones((self.transmissions, wave.size + self.extra))


class OneScreen(dspsx.DustModel):
    """A model that forgets the share."""

    def screens(self, wave, lg_age):
        return jnp.ones((1, wave.size))


class ShortSFH(dspsx.StarFormationHistory):
    """A history of the wrong shape."""

    def sfr(self, t):
        return jnp.ones(3)


class ConstantSFH(dspsx.StarFormationHistory):
    """A history that gives a number."""

    def sfr(self, t):
        return 1.0


class FlatMet(dspsx.MetallicityModel):
    """Weights without the axis of ages."""

    def weights(self, lgmet, lg_age, sfh, t_obs):
        return jnp.ones(lgmet.size) / lgmet.size


class TurnedMet(dspsx.MetallicityModel):
    """Weights with their axes exchanged."""

    def weights(self, lgmet, lg_age, sfh, t_obs):
        return jnp.ones((lg_age.size, lgmet.size)) / lgmet.size


class NumberMet(dspsx.MetallicityModel):
    """Weights that are a number."""

    def weights(self, lgmet, lg_age, sfh, t_obs):
        return 1.0


class ShortHalo(dspsx.MassAccretionHistory):
    """A halo of the wrong shape."""

    def log_mah(self, t):
        return jnp.full(3, 12.0)


class UndeclaredDust(dspsx.DustLaw):
    """A law whose parameter is not declared with `param`."""

    av: float = 0.5

    def attenuation(self, wave):
        return self.av * (wave / 5500.0) ** -0.7


class PlainDust(dspsx.DustLaw):
    """A law that is right, for batches."""

    av: Scalar = param(0.5, bounds=(0.0, 5.0), unit="mag", doc="attenuation at 5500 A")

    def attenuation(self, wave):
        return self.av * (wave / 5500.0) ** -0.7


def many(n):
    return dspsx.stack(tuple_of(n))


def dusty_batch(n):
    """Galaxies that differ in their dust alone."""
    model = galaxy(dust=PlainDust())
    shared = lambda g: (g.cosmology, g.sfh, g.metallicity, g.redshift)  # noqa: E731
    build = lambda av: dspsx.replace(model, lambda g: g.dust.av, av)  # noqa: E731
    return eqx.filter_vmap(build, out_axes=dspsx.batch_axes(model, shared=shared))(jnp.linspace(0.1, 1.0, n))


def seen(**ingredients):
    return lambda: galaxy(**{name: build() for name, build in ingredients.items()}).magnitudes()


#: name: (function, error, words of the message)
AS_USER = {
    "dust by name": (lambda: galaxy(dust="calzetti"), TypeError, ["GalaxySEDModel.dust", "DustModel", "'calzetti'"]),
    "dust a class": (lambda: galaxy(dust=dspsx.Calzetti00), TypeError, ["GalaxySEDModel.dust", "DustModel", "class"]),
    "dust None": (lambda: galaxy(dust=None), TypeError, ["GalaxySEDModel.dust", "None"]),
    "dust a history": (lambda: galaxy(dust=dspsx.DelayedTauSFH()), TypeError, ["GalaxySEDModel.dust", "DustModel"]),
    "sfh a class": (lambda: galaxy(sfh=dspsx.DiffstarSFH), TypeError, ["GalaxySEDModel.sfh", "StarFormationHistory"]),
    "sfh a halo": (lambda: galaxy(sfh=dspsx.DiffmahHalo()), TypeError, ["GalaxySEDModel.sfh", "DiffmahHalo"]),
    "metallicity a number": (lambda: galaxy(metallicity=-2.0), TypeError, ["GalaxySEDModel.metallicity", "-2.0"]),
    "ssp a path": (lambda: galaxy(ssp="grid.h5"), TypeError, ["GalaxySEDModel.ssp", "SSPGrid", "'grid.h5'"]),
    "filters names": (lambda: galaxy(filters=["lsst_g"]), TypeError, ["GalaxySEDModel.filters", "FilterSet"]),
    "cosmology by name": (lambda: galaxy(cosmology="planck15"), TypeError, ["GalaxySEDModel.cosmology", "Cosmology"]),
    "mah a class": (lambda: dspsx.DiffstarSFH(mah=dspsx.DiffmahHalo), TypeError, ["DiffstarSFH.mah", "DiffmahHalo()"]),
    "mah a number": (lambda: dspsx.DiffstarSFH(mah=12.0), TypeError, ["DiffstarSFH.mah", "12.0"]),
    "screen a class": (lambda: dspsx.PartialCover(dspsx.Noll09), TypeError, ["PartialCover.dust", "Calzetti00()"]),
    "abstract": (lambda: dspsx.DustLaw(), TypeError, ["DustLaw", "attenuation"]),
    "replace by name": (place(lambda g: g.dust, "calzetti"), TypeError, ["GalaxySEDModel.dust", "'calzetti'"]),
    "replace by a class": (place(lambda g: g.dust, dspsx.Calzetti00), TypeError, ["GalaxySEDModel.dust"]),
    "replace by a history": (place(lambda g: g.dust, dspsx.DelayedTauSFH()), TypeError, ["GalaxySEDModel.dust"]),
    "replace by a number": (place(lambda g: g.sfh, 1.0), TypeError, ["GalaxySEDModel.sfh", "1.0"]),
    "save of text": (lambda: dspsx.save("file.h5", "model"), TypeError, ["save", "dspsx model", "str"]),
    "save of a dict": (lambda: dspsx.save("file.h5", {"a": 1}), TypeError, ["save", "dspsx model", "dict"]),
    "load with a path": (lambda: dspsx.load("file.h5", ssp="grid.h5"), TypeError, ["load", "SSPGrid", "str"]),
    "cosmology 5": (lambda: dspsx.Cosmology.named(5), (TypeError, ValueError), ["named", "5", "planck15"]),
    "bare arrays": (lambda: FilterSet.from_arrays("b", T, T), ValueError, ["1 names", "8 wavelength arrays"]),
    "filter 3": (lambda: FilterSet.load([3]), (TypeError, ValueError), ["3"]),
    # what a user's subclass returns
    "law short": (seen(dust=WideDust), ValueError, ["WideDust.attenuation", "(60,)", "(3,)"]),
    "law a number": (seen(dust=ConstantDust), ValueError, ["ConstantDust.attenuation", "(60,)", "()"]),
    "screens differ": (seen(dust=lambda: Screens(2, 1)), ValueError, ["Screens.screens", "(2, 12)", "(1, 60)"]),
    "screens differ more": (seen(dust=lambda: Screens(2, 3)), ValueError, ["Screens.screens", "(2, 12)", "(3, 60)"]),
    "screens long": (seen(dust=lambda: Screens(1, 1, 5)), ValueError, ["Screens.screens", "(1, 65)"]),
    "screens alone": (seen(dust=OneScreen), (TypeError, ValueError), ["OneScreen.screens"]),
    "history short": (seen(sfh=ShortSFH), ValueError, ["ShortSFH.sfr", "one rate for each time", "(3,)"]),
    "history a number": (seen(sfh=ConstantSFH), ValueError, ["ConstantSFH.sfr", "one rate for each time", "()"]),
    "history, now": (lambda: galaxy(sfh=ShortSFH()).sfr(0), ValueError, ["ShortSFH.sfr", "(3,)"]),
    "weights flat": (seen(metallicity=FlatMet), ValueError, ["FlatMet.weights", "(4, 12) or (4, 1)", "(4,)"]),
    "weights turned": (seen(metallicity=TurnedMet), ValueError, ["TurnedMet.weights", "(4, 12)", "(12, 4)"]),
    "weights a number": (seen(metallicity=NumberMet), ValueError, ["NumberMet.weights", "(4, 12)", "()"]),
    "halo short": (seen(sfh=lambda: dspsx.DiffstarSFH(ShortHalo())), ValueError, ["ShortHalo.log_mah", "(3,)"]),
    "undeclared number": (UndeclaredDust, TypeError, ["UndeclaredDust.av", "param"]),
    # many where one is meant
    "batch seen": (lambda: many(2).magnitudes(), ValueError, ["batch", "filter_vmap", "batch_axes"]),
    "batch weighed": (lambda: many(2).mass_formed(), ValueError, ["batch", "filter_vmap", "batch_axes"]),
    "batch's spectrum": (lambda: many(2).rest_sed(), ValueError, ["batch", "filter_vmap", "batch_axes"]),
    "batch's rate": (lambda: many(2).sfr(), ValueError, ["batch", "filter_vmap", "batch_axes"]),
    "as many as nodes": (lambda: many(14).t_obs, ValueError, ["batch", "filter_vmap", "batch_axes"]),
    "as many as waves": (lambda: dusty_batch(60).magnitudes(), ValueError, ["batch", "filter_vmap", "batch_axes"]),
    "batch as component": (lambda: galaxy(dust=dspsx.stack([PlainDust()] * 2)), ValueError, ["dust", "batch"]),
    "redshifts": (lambda: dspsx.Cosmology().age(jnp.linspace(0.0, 1.0, 5)), ValueError, ["redshift", "(5,)", "vmap"]),
    "14 redshifts": (lambda: dspsx.Cosmology().age(jnp.linspace(0.0, 1.0, 14)), ValueError, ["redshift", "vmap"]),
    "timescales": (lambda: galaxy().sfr(jnp.asarray([0.1, 0.2])), ValueError, ["timescale", "(2,)"]),
    "timescale negative": (lambda: galaxy().sfr(-0.1), ValueError, ["timescale", "-0.1", "Gyr"]),
}


def as_user():
    """Print what each case of `AS_USER` raises, as JSON: run in a process without pytest."""
    found = {}
    for name, (function, _, _) in AS_USER.items():
        try:
            found[name] = ["nothing", repr(function())[:200]]
        except Exception as error:
            found[name] = [[cls.__name__ for cls in type(error).__mro__], str(error)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GalaxySEDModel(ssp=testing.fake_ssp(), filters=FilterSet.load("wise_w4"), redshift=0.1)
        testing.fake_ssp().to_hdf5("fake.h5")
        SSPGrid.from_hdf5("fake.h5")
        os.remove("fake.h5")
    found["warnings"] = [warning.filename for warning in caught]
    print(json.dumps(found))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    code = "from tests.test_bad_input import as_user; as_user()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not os.listdir(folder)
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.xdist_group("as_user")
@pytest.mark.parametrize("name", AS_USER)
def test_as_a_user_meets_it(name, outcomes):
    _, error, words = AS_USER[name]
    raised, message = outcomes[name]
    assert raised != "nothing", f"accepted: {message}"
    allowed = {cls.__name__ for cls in (error if isinstance(error, tuple) else (error,))}
    assert allowed & set(raised), f"{raised[0]}: {message}"
    lacking = [word for word in words if word not in message]
    assert not lacking, f"{lacking} not told by {raised[0]}: {message}"


@pytest.mark.xdist_group("as_user")
def test_warnings_point_to_the_line_that_caused_them(outcomes):
    assert len(outcomes["warnings"]) >= 2
    assert {pathlib.Path(path) for path in outcomes["warnings"]} == {pathlib.Path(__file__)}
