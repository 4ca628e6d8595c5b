"""Light of simple stellar populations."""

from dspsx.ssp.base import SSPLibrary, widths_in_hertz
from dspsx.ssp.grid import SSPGrid
from dspsx.ssp.low_rank import LowRankSSP

__all__ = ["LowRankSSP", "SSPGrid", "SSPLibrary", "widths_in_hertz"]
