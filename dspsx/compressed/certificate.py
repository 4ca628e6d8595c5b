"""What an approximation was measured to cost."""

from typing import final

import equinox as eqx

from dspsx._model import AbstractModel


def kinds(part: AbstractModel) -> dict[str, bool]:
    """The class of an ingredient and those of the ones that it is made of, and whether each is dspsx's."""
    found = {type(part).__name__: type(part).__module__.startswith("dspsx.")}
    for x in vars(part).values():
        for inner in x if isinstance(x, tuple | list) else (x,):
            if isinstance(inner, AbstractModel):
                found |= kinds(inner)
    return found


@final
class Certificate(AbstractModel):
    """Errors of a compressed galaxy against the exact integral, over galaxies drawn from the whole box of its free parameters;
    those that are not free (`dspsx.summary` says which) have the values that they had.

    **Fields:** `bands`; `redshift`, first and last; `nodes` of each band; `rank` of the factorisation; `rows`, the
    redshifts that are tabulated; `tol_mmag` asked for; `worst_mmag`, `p99_mmag`, `median_mmag` measured in magnitudes of
    `n_galaxies` galaxies that were not used to build it, with `worst_of_band`; for a range of redshift, of the derivatives of
    some of these by redshift, the fraction `slopes_off` by more than 1 %, and the `worst_slope`, both of the derivative or of
    1 mag per unit of redshift, whichever is more (None if not measured); `excepted`, what was left out and how much of it;
    `model`, the classes of the ingredients and of what these are made of; `megabytes` of the tables and `seconds` that the build
    took; `dtype`.
    """

    bands: tuple[str, ...] = eqx.field(static=True)
    redshift: tuple[float, float] = eqx.field(static=True)
    nodes: tuple[int, ...] = eqx.field(static=True)
    rank: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    tol_mmag: float = eqx.field(static=True)
    worst_mmag: float = eqx.field(static=True)
    p99_mmag: float = eqx.field(static=True)
    median_mmag: float = eqx.field(static=True)
    worst_of_band: tuple[float, ...] = eqx.field(static=True)
    n_galaxies: int = eqx.field(static=True)
    excepted: str = eqx.field(static=True)
    model: str = eqx.field(static=True)
    megabytes: float = eqx.field(static=True)
    seconds: float = eqx.field(static=True)
    dtype: str = eqx.field(static=True)
    slopes_off: float | None = eqx.field(static=True, default=None)
    worst_slope: float | None = eqx.field(static=True, default=None)

    def brief(self) -> str:
        """The certificate in two lines."""
        lo, hi = self.redshift
        where = f"z = {lo:g}" if lo == hi else f"{lo:g} < z < {hi:g}, {self.rows} tabulated"
        size = f"{where}, {sum(self.nodes)} nodes, rank {self.rank}"
        slopes = ""
        if self.slopes_off is not None:
            slopes = f" derivatives by redshift within 1 % in {1.0 - self.slopes_off:.2%}, {self.worst_slope:.2%} off at worst;"
        return (
            f"Certificate({len(self.bands)} bands, {size}: worst {self.worst_mmag:.3g}, 99 % within {self.p99_mmag:.2g}, median "
            f"{self.median_mmag:.2g} mmag over {self.n_galaxies} galaxies; tolerance {self.tol_mmag:g} mmag;{slopes} "
            f"{self.excepted}; {self.megabytes:.3g} MB, built in {self.seconds:.3g} s, {self.dtype})"
        )

    def __str__(self) -> str:
        rows = [
            self.brief(),
            f"  model: {self.model}; parameters that are not free: as they were",
            "  band                 nodes   worst / mmag",
        ]
        for band, nodes, worst in zip(self.bands, self.nodes, self.worst_of_band, strict=True):
            rows.append(f"  {band:20s} {nodes:5d}   {worst:12.3g}")
        return "\n".join(rows)
