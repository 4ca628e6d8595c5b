"""Lines that have names."""

import difflib
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import is_concrete
from dspsx.nebular.base import EmissionLines
from dspsx.ssp import SSPLibrary


class NamedLines(EmissionLines):
    """Emission lines that have names."""

    line_names: eqx.AbstractVar[tuple[str, ...]]
    lgmet: eqx.AbstractVar[Float[Array, " met"]]
    lg_age: eqx.AbstractVar[Float[Array, " age"]]

    def index(self, name: str) -> int:
        """Place of a line in `line_names`. Raises ValueError, with the names that are like it, if there is none."""
        return find_line(name, self.line_names, type(self).__name__)

    def check_use(self, ssp: SSPLibrary) -> None:
        """Raise ValueError if these lines are not for the metallicities and ages of an SSP library."""
        ours, theirs = (self.lgmet, self.lg_age), (ssp.lgmet, ssp.lg_age)
        same = all(a.shape == b.shape for a, b in zip(ours, theirs, strict=True))
        if same and all(map(is_concrete, (*ours, *theirs))):
            same = all(np.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))
        if not same:
            raise ValueError(
                f"{type(self).__name__} is for {self.lgmet.size} metallicities and {self.lg_age.size} ages of the SSP grid that it "
                f"was made for; the galaxy's ssp has {ssp.lgmet.size} and {ssp.lg_age.size}, or other values. Make it for that "
                "grid: NebularLines(grid), or TabulatedLines of the same file."
            )


def unique_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Names as a tuple; raises ValueError for none or for one that is there twice."""
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen:
        raise ValueError(f"{what}: name at least one line.")
    if double := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise ValueError(f"{what}: {', '.join(double)} stands there more than once.")
    return chosen


def find_line(name: str, names: tuple[str, ...], what: str) -> int:
    if name in names:
        return names.index(name)
    if (same := identifier(name)) in names:
        return names.index(same)
    lower = {n.lower(): n for n in names}
    close = [lower[n] for n in difflib.get_close_matches(identifier(name).lower(), lower, 4, 0.5)]
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names[:8])} ..."
    raise ValueError(f"{what} has no line {name!r}; {hint} All {len(names)} are in line_names.")


def identifier(name: Any) -> str:
    """A name as DSPS makes it of what a file has."""
    text = name.decode() if isinstance(name, bytes) else str(name)
    text = text.strip().replace("[", "").replace("]", "")
    return text.replace(" ", "_").replace("-", "_").replace(".", "p")
