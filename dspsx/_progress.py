"""Progress bars, where tqdm is installed, of what takes more than a few seconds."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

#: Seconds before a bar appears.
_PATIENCE = 2.0


class Progress:
    """Stages of a job, each with its steps; nothing is shown of a job that is short, or if `show` is False."""

    def __init__(self, title: str, show: bool | None):
        self.title, self.show, self.bar = title, show, None
        self.started = time.perf_counter()

    def tell(self, stage: str, total: int = 1) -> None:
        """Begin a stage of so many steps."""
        if self.bar is None:
            self.bar = self._made()
        if self.bar is not None:
            self.bar.reset(total)
            self.bar.set_description(f"{self.title}: {stage}")

    def over(self, items: Iterable[Any], stage: str) -> Iterator[Any]:
        """Go through the items of a stage."""
        items = list(items)
        self.tell(stage, len(items))
        for item in items:
            yield item
            if self.bar is not None:
                self.bar.update()

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def _made(self) -> Any:
        if self.show is False or (self.show is None and time.perf_counter() - self.started < _PATIENCE):
            return None
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return None
        return tqdm(total=1, desc=self.title, leave=False)
