"""Progress bars, where tqdm is installed, of what takes more than a few seconds."""

from collections.abc import Iterable, Iterator
from typing import Any


class _Bar:
    def __init__(self, title: str, show: bool):
        self.title, self.tqdm = title, None
        if show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self.tqdm = tqdm(total=1, desc=title, delay=2.0, leave=False)

    def tell(self, what: str) -> None:
        """Name the present stage."""
        if self.tqdm is not None:
            self.tqdm.set_description(f"{self.title}: {what}")

    def over(self, items: Iterable[Any], what: str) -> Iterator[Any]:
        """Go through the items of a stage."""
        self.tell(what)
        items = list(items)
        if self.tqdm is not None:
            self.tqdm.reset(total=len(items))
        for item in items:
            yield item
            if self.tqdm is not None:
                self.tqdm.update()

    def close(self) -> None:
        if self.tqdm is not None:
            self.tqdm.close()


def bar(title: str, show: bool | None) -> _Bar:
    """A bar that appears after two seconds, unless `show` is False or tqdm is missing."""
    return _Bar(title, show is not False)
