"""Files: models saved and loaded."""

from dspsx.io.store import load, save

__all__ = ["load", "save"]
