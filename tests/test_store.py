"""Saving and loading models: what comes back is what was saved, and a file can do no harm."""

import hashlib
import json
import os
import pickle
import sys
from typing import NamedTuple, final

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing
from dspsx._model import AbstractModel, Scalar, param
from dspsx.io import load, save, store
from tests.contracts.test_contracts import BUILD

each = pytest.mark.parametrize("name", BUILD)


class FlatDust(dspsx.DustLaw):
    """A user's law: one parameter, one list of static fields."""

    av: Scalar = param(0.3, bounds=(0.0, 5.0))
    about: tuple = eqx.field(static=True, default=("flat", 1, 0.5, True, None, ("a", ("b",))))

    def attenuation(self, wave):
        return self.av * jnp.ones_like(wave)


class Learned(AbstractModel):
    """An ingredient with a neural network."""

    net: eqx.nn.MLP
    scale: Scalar = param(1.0)


class Mixture(AbstractModel):
    """Components in containers."""

    parts: tuple
    more: list
    named: dict


class Pair(NamedTuple):
    first: AbstractModel
    second: AbstractModel


class Old(AbstractModel):
    """A class of which other versions are made in the tests."""

    a: Scalar = param(1.0)
    b: Scalar = param(2.0)
    kind: str = eqx.field(static=True, default="x")


def assert_same(got, want, ssp_is_shared=True):
    """Same classes and static fields, same numbers, and the SSP grid's own buffers."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if eqx.is_array(y):
            assert x.dtype == y.dtype and x.shape == y.shape and not getattr(x, "weak_type", False)
            np.testing.assert_array_equal(x, y)
        else:
            assert x == y
    if ssp_is_shared and hasattr(want, "ssp"):
        assert got.ssp.flux is want.ssp.flux and got.ssp.wave is want.ssp.wave


def edit(path, change):
    """Change the structure that a file tells: what a hand, or another version, may have written."""
    with h5py.File(path, "r+") as file:
        node = json.loads(file["structure"].asstr()[()])
        change(node)
        del file["structure"]
        file["structure"] = json.dumps(node)


def rename(path, module, name):
    edit(path, lambda node: node.update({"module": module, "class": name}))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.h5"


@each
def test_round_trip_of_every_ingredient(name, path, precision):
    model = testing.draw(BUILD[name](), np.random.default_rng(0))
    save(path, model)
    assert_same(load(path, ssp=getattr(model, "ssp", None)), model)


def test_default_galaxy_shares_the_grid_and_gives_identical_magnitudes(path, precision):
    galaxy = dspsx.GalaxySEDModel(dust=dspsx.PartialCover(dspsx.Noll09(av=1.1)), redshift=0.7)
    save(path, galaxy)
    assert os.path.getsize(path) < 300_000
    back = load(path)
    assert_same(back, galaxy)
    assert back.ssp is dspsx.SSPGrid.default() and back.ssp.flux is galaxy.ssp.flux
    magnitudes = eqx.filter_jit(eqx.debug.assert_max_traces(lambda g: g.magnitudes(), max_traces=1))
    np.testing.assert_array_equal(magnitudes(back), magnitudes(galaxy))


def test_the_file_says_where_it_comes_from(path):
    galaxy = testing.fake_galaxy()
    save(path, galaxy)
    with h5py.File(path) as file:
        assert file.attrs["format"] == "dspsx-model" and file.attrs["format_version"] == 1
        versions = {name: sys.modules[name].__version__ for name in ("dspsx", "jax", "equinox", "numpy", "h5py")}
        assert {name: file.attrs[name] for name in versions} == versions
        assert file.attrs["date"].endswith("+00:00")
        ssp = json.loads(file["structure"].asstr()[()])["fields"]["ssp"]
        assert ssp == {"ssp": galaxy.ssp.digest(), "shape": [4, 12, 60], "provenance": [["library", "fake"]]}
        assert not any("ssp" in name for name in file["arrays"])
        assert file["arrays/GalaxySEDModel.sfh.tau"][()] == galaxy.sfh.tau


def test_a_bare_grid_and_bare_filters(path, precision):
    save(path, dspsx.SSPGrid.default())
    assert load(path) is dspsx.SSPGrid.default()
    save(path, dspsx.FilterSet.load("wise_*"))
    assert_same(load(path), dspsx.FilterSet.load("wise_*"))


# --- SSP grids and filters


def test_another_grid_must_be_given(path):
    grid = testing.fake_ssp()
    save(path, testing.fake_galaxy(ssp=grid))
    with pytest.raises(ValueError, match="SSP grid of fake, 4 x 12 x 60") as caught:
        load(path)
    assert grid.digest()[:12] in str(caught.value) and dspsx.SSPGrid.default().digest()[:12] in str(caught.value)
    assert "ssp=grid" in str(caught.value)
    wrong = testing.fake_ssp(seed=1)
    with pytest.raises(ValueError, match="the given one differs") as caught:
        load(path, ssp=wrong)
    assert grid.digest()[:12] in str(caught.value) and wrong.digest()[:12] in str(caught.value)
    same = testing.fake_ssp()
    assert load(path, ssp=same).ssp is same
    with pytest.raises(TypeError):
        load(path, ssp=dspsx.NoDust())


def test_a_wrong_grid_is_refused_for_a_model_on_the_default_one(path):
    save(path, dspsx.GalaxySEDModel())
    with pytest.raises(ValueError, match="the given one differs"):
        load(path, ssp=testing.fake_ssp())


def test_altered_filter_curves_are_found(path):
    save(path, dspsx.FilterSet.load("lsst_*"))
    with h5py.File(path, "r+") as file:
        curves = file["arrays/FilterSet.transmission"]
        curves[...] = curves[...] * 1.01
    with pytest.raises(ValueError, match="filters at FilterSet are damaged or altered: SHA-256"):
        load(path)


def test_filters_of_close_points_survive_a_change_of_precision(path):
    wave = np.array([5000.0, 5500.0, 6000.0, 6000.0 + 1e-5])  # the last two are one number in float32
    with jax.enable_x64(True):
        save(path, dspsx.FilterSet.from_arrays(["x"], [wave], [np.array([0.0, 1.0, 0.5, 0.0])]))
    with jax.enable_x64(False):
        assert load(path).wave.dtype == np.float32


# --- batches, precision


def test_stacked_batch(path, precision):
    grid, filters = testing.fake_ssp(), testing.fake_filters()
    rng = np.random.default_rng(3)
    galaxies = [testing.draw(testing.fake_galaxy(ssp=grid, filters=filters), rng) for _ in range(4)]
    batch = dspsx.stack(galaxies)
    save(path, batch)
    back = load(path, ssp=grid)
    assert_same(back, batch)
    assert_same(dspsx.take(back, 2), galaxies[2], ssp_is_shared=False)
    run = eqx.filter_jit(eqx.filter_vmap(lambda g: g.fluxes(), in_axes=(dspsx.batch_axes(batch),)))
    np.testing.assert_array_equal(run(back), run(batch))


@pytest.mark.parametrize("saved", [False, True])
def test_floats_come_in_the_current_precision(path, saved):
    with jax.enable_x64(saved):
        table = dspsx.TabulatedSFH(np.linspace(0.1, 13.0, 7), np.linspace(1, 2, 7) / 3)
        save(path, table)
    with h5py.File(path) as file:
        assert file["arrays/TabulatedSFH.sfr_table"].dtype == ("float64" if saved else "float32")
    with jax.enable_x64(not saved):
        back = load(path)
        assert back.sfr_table.dtype == back.t_table.dtype == ("float32" if saved else "float64")
        np.testing.assert_array_equal(back.sfr_table, np.asarray(table.sfr_table, back.sfr_table.dtype))
        galaxy = dspsx.GalaxySEDModel(sfh=dspsx.TabulatedSFH([0.1, 13.7], [1.0, 2.0]))
        save(path, galaxy)
    with jax.enable_x64(saved):
        assert load(path).ssp is dspsx.SSPGrid.default()


def test_values_out_of_bounds_are_not_checked_anew(path):
    model = eqx.tree_at(lambda m: m.av, dspsx.Calzetti00(), jnp.asarray(jnp.nan))
    save(path, model)
    assert np.isnan(load(path).av)


# --- user classes, containers, networks


def test_user_subclass(path, precision):
    model = dspsx.PartialCover(FlatDust(0.7), covering=0.4)
    save(path, model)
    assert_same(load(path), model)
    assert load(path).dust.about == model.dust.about


def test_class_defined_locally_and_twice(path):
    def define(unit):
        @final
        class Local(dspsx.DustLaw):
            av: Scalar = param(0.5, unit=unit)

            def attenuation(self, wave):
                return self.av * jnp.ones_like(wave)

        return Local

    first, second = define("a"), define("b")
    save(path, first(0.25))
    assert type(load(path)) is second and load(path).av == 0.25


def test_containers(path, precision):
    model = Mixture(
        (dspsx.Calzetti00(0.5), (dspsx.NoDust(), None), 3),
        [dspsx.DelayedTauSFH(tau=2.0), jnp.arange(3), np.arange(4.0), "text"],
        {"b/c": dspsx.PowerLawDust(0.1), "a": jnp.ones(2), "": {("x", 1): [True, 0.5]}},
    )
    save(path, model)
    back = load(path)
    assert_same(back, model)
    assert type(back.more[2]) is np.ndarray and list(back.named) == list(model.named)


def test_low_precision_arrays(path):
    save(path, Mixture((jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float16), jnp.ones(2, complex)), [], {}))
    parts = load(path).parts
    assert [x.dtype.name for x in parts] == ["float32", "float32", "complex64"]


def test_network_needs_like(path, precision):
    def make(seed, width=4):
        return Learned(net=eqx.nn.MLP(2, 1, width, 2, activation=jnp.tanh, key=jax.random.key(seed)))

    model = make(0)
    save(path, model)
    with pytest.raises(ValueError, match=r"Learned\.net \(MLP\) is not of dspsx.*like=model"):
        load(path)
    back = load(path, like=make(1))
    assert_same(back, model)
    x = jnp.asarray([0.3, 0.4])
    np.testing.assert_array_equal(back.net(x), model.net(x))
    assert_same(load(path, like=eqx.filter_eval_shape(make, 1)), model)
    with pytest.raises(ValueError, match=r"net\.layers\[0\]\.weight has shape \(4, 2\), in like= it has \(5, 2\)"):
        load(path, like=make(1, width=5))
    deeper = Learned(net=eqx.nn.MLP(2, 1, 4, 3, key=jax.random.key(0)))
    with pytest.raises(ValueError, match=r"built differently in like=.*layers\[3\]"):
        load(path, like=deeper)
    with pytest.raises(ValueError, match="Learned is a Learned, but in like= a NoDust"):
        load(path, like=dspsx.NoDust())
    batch = dspsx.stack([make(i) for i in range(3)])
    save(path, batch)
    assert_same(load(path, like=batch), batch)


def test_like_inside_containers(path):
    def make(seed):
        return Mixture(
            (Learned(net=eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(seed))),),
            [eqx.nn.Linear(2, 2, key=jax.random.key(seed)), jnp.tanh],
            {"pair": Pair(dspsx.Calzetti00(0.1 * (seed + 1)), dspsx.NoDust()), "key": jax.random.key(0)},
        )

    save(path, make(0))
    back, model = load(path, like=make(1)), make(0)
    assert_same(eqx.filter(back, eqx.is_inexact_array), eqx.filter(model, eqx.is_inexact_array))
    assert jax.tree.structure(back) == jax.tree.structure(model) and back.named["pair"].first.av == np.float32(0.1)
    with pytest.raises(ValueError, match=r"more\[0\] \(Linear\) is not of dspsx"):
        load(path, like=Mixture(make(1).parts, [], {}))


# --- names of classes


def test_unknown_class_is_told_and_nothing_is_imported(path):
    save(path, dspsx.Calzetti00())
    rename(path, "colorsys", "Calzetti3000")
    loaded = "colorsys" in sys.modules
    with pytest.raises(ValueError, match="class 'Calzetti3000' of the module 'colorsys', no model class that is known"):
        load(path)
    assert ("colorsys" in sys.modules) == loaded


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("dspsx._model", "AbstractModel"),
        ("dspsx.dust.attenuation", "DustLaw"),
        ("dspsx.ssp", "SSPGrid.default"),
        ("", ""),
    ],
)
def test_a_malicious_name_does_nothing_but_raise(path, module, name):
    save(path, dspsx.Calzetti00())
    rename(path, module, name)
    with pytest.raises(ValueError, match="no model class that is known here"):
        load(path)


def test_a_class_that_moved_is_found_and_told(path):
    save(path, FlatDust(0.7))
    rename(path, "__main__", "FlatDust")
    with pytest.warns(UserWarning, match=rf"took {__name__}\.FlatDust for the class __main__\.FlatDust"):
        assert load(path).av == np.float32(0.7)
    save(path, dspsx.Calzetti00())
    rename(path, "dspsx.dust.laws", "Calzetti00")  # within dspsx there is nothing to tell
    assert type(load(path)) is dspsx.Calzetti00


def test_colliding_names(path):
    def define(module, value):
        body = {"__module__": module, "__annotations__": {"av": Scalar}, "av": param(value)}
        body |= {"attenuation": lambda self, wave: wave, "__qualname__": "Collides"}
        return type(dspsx.DustLaw)("Collides", (dspsx.DustLaw,), body)

    one, two = define("first_module", 0.1), define("second_module", 0.2)
    for cls in (one, two):
        save(path, cls())
        assert type(load(path)) is cls
    rename(path, "third_module", "Collides")
    with pytest.raises(ValueError, match="classes of that name in first_module, second_module: none is chosen"):
        load(path)


# --- fields that come and go


def test_a_field_that_the_class_does_not_have(path):
    save(path, Old())
    edit(path, lambda node: node["fields"].update(c=node["fields"]["a"]))
    with pytest.raises(ValueError, match="Old has a field c, which Old does not have"):
        load(path)


@pytest.mark.parametrize("n", [None, 3])
def test_a_field_that_the_file_lacks_takes_its_default(path, n):
    save(path, Old(5.0) if n is None else dspsx.stack([Old(5.0)] * n))
    edit(path, lambda node: (node["fields"].pop("b"), node["fields"].pop("kind")))
    with pytest.warns(UserWarning) as caught:
        back = load(path)
    assert_same(back, Old(5.0) if n is None else dspsx.stack([Old(5.0)] * n))
    assert [str(w.message).split(" lacks ")[1] for w in caught] == [
        "the field b of Old (Old): its default is used.",
        "the field kind of Old (Old): its default is used.",
    ]


def test_a_component_that_the_file_lacks_takes_its_default(path):
    save(path, dspsx.PartialCover(covering=0.2))
    edit(path, lambda node: node["fields"].pop("dust"))
    with pytest.warns(UserWarning, match="lacks the field dust of PartialCover"):
        assert_same(load(path), dspsx.PartialCover(covering=0.2))


def test_a_field_without_a_default(path):
    save(path, dspsx.TabulatedSFH([0.1, 13.7], [1.0, 2.0]))
    edit(path, lambda node: node["fields"].pop("t_table"))
    with pytest.raises(ValueError, match=r"lacks the field t_table of TabulatedSFH .*no default"):
        load(path)


@pytest.mark.parametrize(("name", "value"), [("kind", {"array": "Old.a", "numpy": False}), ("a", 1.0), ("a", None)])
def test_a_field_that_changed_its_kind(path, name, value):
    save(path, Old())
    edit(path, lambda node: node["fields"].update({name: value}))
    with pytest.raises(ValueError, match=rf"Old\.{name} is another kind of field in Old"):
        load(path)


# --- what cannot be saved


@pytest.mark.parametrize("value", [lambda x: x, {"a": 1}, ("x", {1, 2}), 1j, jnp.tanh, b"bytes"])
def test_unserialisable_static_field(path, value):
    path.write_text("precious")
    with pytest.raises(TypeError, match=r"PartialCover\.dust\.about"):
        save(path, dspsx.PartialCover(FlatDust(about=value)))
    assert path.read_text() == "precious" and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "value", [np.array(["text"]), np.array([None]), jax.ShapeDtypeStruct((2,), np.float32), {(1, (2, b"x")): 1}]
)
def test_unserialisable_value(path, value):
    with pytest.raises(TypeError, match=r"Mixture\.parts\[0\]"):
        save(path, Mixture((value,), [], {}))
    assert not os.listdir(path.parent)


def test_halves_and_tracers_are_refused(path):
    theta, rest = dspsx.partition(testing.fake_galaxy())
    for half in (theta, rest, jax.tree.map(lambda x: True, rest)):
        with pytest.raises(TypeError, match=r"GalaxySEDModel\..*no array.*combine"):
            save(path, half)
    with pytest.raises(TypeError, match="traced"):
        eqx.filter_jit(lambda m: save(path, m))(dspsx.Calzetti00())
    with pytest.raises(TypeError):
        save(path, {"a": dspsx.Calzetti00()})
    assert not os.listdir(path.parent)


def test_a_failing_save_leaves_the_old_file(path, monkeypatch):
    save(path, dspsx.Calzetti00(1.5))
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    write = h5py.Group.__setitem__

    def fail(self, name, value):
        if name == "GalaxySEDModel.redshift":
            raise OSError("disk full")
        write(self, name, value)

    monkeypatch.setattr(h5py.Group, "__setitem__", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, testing.fake_galaxy())
    monkeypatch.undo()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before and os.listdir(path.parent) == [path.name]
    save(path, dspsx.Calzetti00(0.5))
    assert load(path).av == 0.5


# --- files that are no models


def test_no_file(path):
    with pytest.raises(FileNotFoundError, match=r"model\.h5"):
        load(path)


def test_empty_foreign_and_text_files(path):
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="it is empty"):
        load(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="not HDF5"):
        load(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1.0
    with pytest.raises(ValueError, match=r"not a model that dspsx\.save wrote\.$"):
        load(path)
    testing.fake_ssp().to_hdf5(path)
    with pytest.raises(ValueError, match=r"SSPGrid\.from_hdf5"):
        load(path)


def test_truncated_file(path):
    save(path, testing.fake_galaxy())
    whole = path.read_bytes()
    for size in (10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="truncated"):
            load(path)


def test_file_of_a_future_version(path):
    save(path, dspsx.Calzetti00())
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"], file.attrs["dspsx"] = 2, "7.0"
    with pytest.raises(ValueError, match=r"newer dspsx \(7\.0, format 2\): upgrade"):
        load(path)


@pytest.mark.parametrize("structure", ["", "null", "[]", "{}", "3", '{"class": 1}', '{"array": "a"}', "[" * 100_000])
def test_senseless_structure(path, structure):
    save(path, dspsx.Calzetti00())
    with h5py.File(path, "r+") as file:
        del file["structure"]
        file["structure"] = structure
    with pytest.raises(ValueError, match="is damaged"):
        load(path)


def test_missing_parts_of_a_file(path):
    for name in ("structure", "arrays", "arrays/Calzetti00.av"):
        save(path, dspsx.Calzetti00())
        with h5py.File(path, "r+") as file:
            del file[name]
        with pytest.raises(ValueError, match="is damaged"):
            load(path)


# --- other ways to keep a model


def test_pickle_and_tree_serialise(path, precision):
    galaxy = testing.fake_galaxy(redshift=0.4, dust=dspsx.Salim18(av=0.9))
    assert_same(pickle.loads(pickle.dumps(galaxy)), galaxy, ssp_is_shared=False)
    eqx.tree_serialise_leaves(path, galaxy)
    other = testing.fake_galaxy(dust=dspsx.Salim18())
    assert_same(eqx.tree_deserialise_leaves(path, other), galaxy, ssp_is_shared=False)


def test_public_names():
    assert store.load is load and store.save is save
