"""Reading many files at once, with a progress bar when it takes long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from gradprom._process import processors

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
_PATIENCE = 1.0  # seconds before a bar appears


def map_files(
    function: Callable[[T], R], items: Sequence[T], description: str, progress: Progress | None = None
) -> list[R]:
    """``function`` of each item, in order, computed by a few threads.

    The bar goes to ``progress`` where one is given, else to one of its own on stderr that appears only after a second.
    The first exception ends the work and is raised.

    Example:
        >>> map_files(str.upper, ["a", "b"], "Reading")
        ['A', 'B']
    """
    workers = min(8, processors())
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        return _watched(pool.map(function, items), len(items), description, progress)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _watched(results: Iterable[R], total: int, description: str, progress: Progress | None) -> list[R]:
    from rich.console import Console
    from rich.progress import Progress

    own = progress is None
    bar = Progress(console=Console(stderr=True), transient=True) if progress is None else progress
    task = bar.add_task(description, total=total)
    done: list[R] = []
    begun = time.monotonic()
    with ExitStack() as stack:
        for result in results:
            done.append(result)
            bar.advance(task)
            if own and not bar.live.is_started and time.monotonic() - begun > _PATIENCE:
                stack.enter_context(bar)
    if not own:
        bar.remove_task(task)
    return done
