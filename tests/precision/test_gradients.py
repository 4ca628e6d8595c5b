"""Gradients are finite in float32 everywhere within the bounds of the parameters, the bounds included."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx

BANDS = ["galex_*", "sdss_g", "sdss_z", "ukirt_k"]
CHUNK = 250
Z_MAX = 10.0
#: Finite ends for bounds that are open.
OPEN = {"sfh.sfr_table": (0.0, 1e3)}
T_TABLE = np.append(np.linspace(0.3, 13.0, 10), np.linspace(13.1, 14.5, 15))


def galaxy(sfh):
    return dspsx.GalaxySEDModel(
        sfh=sfh,
        dust=dspsx.PartialCover(dust=dspsx.Salim18()),
        filters=dspsx.FilterSet.load(BANDS),
    )


TEMPLATES = {
    "diffstar": lambda: galaxy(dspsx.DiffstarSFH()),
    "delayed tau": lambda: galaxy(dspsx.DelayedTauSFH()),
    "table": lambda: galaxy(dspsx.TabulatedSFH(t_table=T_TABLE, sfr_table=np.ones_like(T_TABLE))),
}


class Box:
    """The bounds of every parameter of a galaxy, and draws from them."""

    def __init__(self, kind):
        self.model = TEMPLATES[kind]()
        self.named = dspsx.named_parameters(self.model)
        self.bounds = {name: OPEN.get(name, info.bounds) for name, (info, _) in self.named.items()}
        self.bounds["redshift"] = (0.0, Z_MAX)

    def draw(self, rng, n):
        return {
            name: rng.uniform(*self.bounds[name], (n, *x.shape)).astype(np.float32)
            for name, (_, x) in self.named.items()
        }

    def at(self, rng, n, **ends):
        """Draws with some parameters at given values; the key has __ for a dot."""
        p = self.draw(rng, n)
        for name, value in ends.items():
            p[name.replace("__", ".")][:] = value
        return p

    def edges(self, rng, n):
        """Each parameter at each of its ends with the others random; then all at one end."""
        cases = {}
        for name, bounds in self.bounds.items():
            for end, value in zip(("lower", "upper"), bounds, strict=True):
                cases[f"{name} at its {end} bound"] = self.at(rng, n, **{name.replace(".", "__"): value})
        for k, end in enumerate(("lower", "upper")):
            cases[f"all at their {end} bounds"] = self.at(
                rng, 1, **{name.replace(".", "__"): bounds[k] for name, bounds in self.bounds.items()}
            )
        corners = self.draw(rng, 20 * n)
        for name, (lo, hi) in self.bounds.items():
            corners[name] = np.where(rng.random(corners[name].shape) < 0.5, lo, hi).astype(np.float32)
        cases["corners"] = corners
        return cases


@eqx.filter_jit
def gradients(chosen, rest):
    """Of the sum of magnitudes with respect to every parameter, in physical units; and the magnitudes."""

    def total(chosen, rest):
        mags = eqx.combine(chosen, rest).magnitudes()
        return mags.sum(), mags

    return jax.vmap(jax.grad(total, has_aux=True), in_axes=(0, None))(chosen, rest)


def check(box, cases):
    """Every gradient and magnitude of every case is finite. Gives the share of bands that hold light."""
    axes = dspsx.batch_axes(box.model)
    is_none = lambda x: x is None  # noqa: E731
    mask = jax.tree.map(lambda a: a == 0, axes, is_leaf=is_none)
    chosen, rest = eqx.partition(box.model, mask)
    treedef = jax.tree.structure(chosen)
    names = list(box.named)
    table = {name: np.concatenate([case[name] for case in cases.values()]) for name in names}
    labels = np.repeat(list(cases), [case["redshift"].size for case in cases.values()])
    n = labels.size
    bad, lit = [], []
    for start in range(0, n, CHUNK):
        rows = np.arange(start, start + CHUNK).clip(max=n - 1)  # the last one is repeated: one shape, one compilation
        batch = jax.tree.unflatten(treedef, [jnp.asarray(table[name][rows]) for name in names])
        assert all(x.dtype == np.float32 for x in jax.tree.leaves(batch))
        grads, mags = gradients(batch, rest)
        grads = {name: np.asarray(g).reshape(CHUNK, -1) for name, g in zip(names, jax.tree.leaves(grads), strict=True)}
        lit.append(np.asarray(mags) < 84.0)
        for name, g in grads.items():
            for i in np.flatnonzero(~np.isfinite(g).all(-1)):
                bad.append((rows[i], f"d/d {name} = {g[i]}"))
        for i in np.flatnonzero(~np.isfinite(np.asarray(mags)).all(-1)):
            bad.append((rows[i], f"magnitudes {mags[i]}"))
    for k, what in bad[:10]:
        values = ", ".join(f"{name}={table[name][k]}" for name in names)
        print(f"{labels[k]}: {what} at {values}")
    assert not bad, f"{len(bad)} not finite, of {len({k for k, _ in bad})} draws among {n}"
    return np.concatenate(lit).mean()


def test_order_of_parameters():
    """`check` relies on named_parameters being in the order of the leaves."""
    box = Box("diffstar")
    assert len(jax.tree.leaves(box.model)) >= len(box.named)
    for (_, x), y in zip(box.named.values(), (v for v in jax.tree.leaves(_parameters(box.model))), strict=True):
        assert x is y


def _parameters(model):
    mask = jax.tree.map(lambda a: a == 0, dspsx.batch_axes(model), is_leaf=lambda x: x is None)
    return eqx.filter(model, mask)


def test_ten_thousand_draws():
    box, rng = Box("diffstar"), np.random.default_rng(6)
    bright = box.draw(rng, 2_000)
    # in most of the box stars hardly form: haloes of galaxies as well
    bright["sfh.mah.logm0"] = rng.uniform(11, 15, 2_000).astype(np.float32)
    lit = check(box, {"random": box.draw(rng, 10_000), "galaxies": bright})
    print(f"\n12,000 draws from the whole box: {lit:.0%} of the bands hold light")


@pytest.mark.parametrize("kind", ["diffstar", "delayed tau", "table"])
def test_edges(kind):
    box, rng = Box(kind), np.random.default_rng(7)
    n = 20 if kind == "diffstar" else 8
    cases = box.edges(rng, n) | {
        "no dust": box.at(rng, n, dust__dust__av=0),
        "nothing covered": box.at(rng, n, dust__covering=0),
        "all covered, much dust": box.at(rng, n, dust__covering=1, dust__dust__av=6),
        "one metallicity": box.at(rng, n, metallicity__scatter=0),
        "metallicity on a point of the grid": box.at(
            rng, n, metallicity__scatter=0, metallicity__lgmet=np.float32(box.model.ssp.lgmet[3])
        ),
        "here": box.at(rng, n, redshift=0),
        "next door": box.at(rng, n, redshift=1e-9),
        "no dust, one metallicity, here": box.at(rng, n, dust__dust__av=0, metallicity__scatter=0, redshift=0),
    }
    if kind == "diffstar":
        cases |= {
            "no star formation": box.at(rng, n, sfh__lgy_at_mcrit=-12, sfh__indx_lo=5, sfh__mah__logm0=0),
            "little star formation": box.at(rng, n, sfh__lgy_at_mcrit=-12, sfh__indx_lo=5, sfh__mah__logm0=9),
            "no gas": box.at(rng, n, sfh__fb=0),
            "deepest and fastest quenching": box.at(
                rng, n, sfh__lg_drop=-3, sfh__lg_rejuv=-3, sfh__qlglgdt=-3, sfh__lg_qt=0.1, sfh__mah__t_peak=0.05
            ),
        }
    if kind == "delayed tau":
        cases["random"] = box.draw(rng, 1000)
        for tau in (0.01, 30.0):
            for age in (0.01, 15.0):
                cases[f"tau {tau}, age {age}"] = box.at(rng, n, sfh__tau=tau, sfh__age=age)
    if kind == "table":
        cases["random"] = box.draw(rng, 500)
        cases["zeros"] = box.at(rng, n, sfh__sfr_table=0)
        zeros = box.draw(rng, 200)
        zeros["sfh.sfr_table"] *= rng.random(zeros["sfh.sfr_table"].shape) < 0.3
        cases["many zeros"] = zeros
        late = box.draw(rng, n)
        late["sfh.sfr_table"][:, :-1] = 0
        cases["stars only after the observation"] = late
    lit = check(box, cases)
    print(
        f"\n{kind}: {sum(c['redshift'].size for c in cases.values())} draws on the edges, {lit:.0%} of the bands hold light"
    )


def test_edges_through_the_unbounded_space():
    """What an optimiser may meet: parameters driven to a bound, and hundreds of units outside."""
    box, rng = Box("diffstar"), np.random.default_rng(8)
    theta, rest = dspsx.partition(box.model)
    leaves, treedef = jax.tree.flatten(theta)
    draws = [
        np.stack([rng.normal(0, scale, (40, *x.shape)) for scale in (1, 5, 30, 200)]).reshape(160, *x.shape)
        for x in leaves
    ]
    batch = jax.tree.unflatten(treedef, [jnp.asarray(x, dtype=float) for x in draws])

    def total(theta, rest):
        return dspsx.combine(theta, rest).magnitudes().sum()

    grads = eqx.filter_jit(jax.vmap(jax.grad(total), in_axes=(0, None)))(batch, rest)
    for g in jax.tree.leaves(grads):
        assert np.isfinite(np.asarray(g)).all()
