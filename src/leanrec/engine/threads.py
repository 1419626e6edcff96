"""The threads that answers are computed on.

BLAS, OpenMP and ONNX Runtime have threads of their own, which wait for each other many times in a request. Where another process
holds a core, each of these waits takes as long as that process likes. So a call runs on one thread alone. Many users are cut into
shares, which as many threads as there are processors take one after the other: a thread that is held up takes fewer.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

_Share = TypeVar("_Share")
_Result = TypeVar("_Result")


def on_threads(work: Callable[[_Share], _Result], shares: Sequence[_Share], threads: int) -> list[_Result]:
    """Results of ``work`` for every share, in order, from at most so many threads, which end with the call."""
    threads = min(threads, len(shares))
    if threads <= 1:
        return [work(share) for share in shares]
    with ThreadPoolExecutor(threads, "leanrec-users") as pool:
        return list(pool.map(work, shares))


@contextmanager
def alone() -> Iterator[None]:
    """Let OpenMP and BLAS use the calling thread only, and leave them as they were.

    OpenMP's count belongs to the thread. That of BLAS belongs to the process: it is put back when the last call that runs ends,
    unless somebody else has changed it by then. MKL inside torch goes on with the count of ``torch.set_num_threads``, if the host
    program has called it.
    """
    counted = getattr(sys.modules.get("torch"), "get_num_threads", None)
    openmp, blas = _libraries(counted is not None)
    if counted is not None:
        counted()  # a thread that is new to torch takes the process's count with its first call, and would undo what follows
    before = [(library, count) for library in openmp if (count := library.num_threads) != 1]
    for library, _ in before:
        library.set_num_threads(1)
    blas.enter()
    try:
        yield
    finally:
        blas.leave()
        for library, count in before:
            library.set_num_threads(count)


class _Blas:
    """BLAS libraries, limited to one thread while anybody is inside."""

    def __init__(self, libraries: Sequence[Any]) -> None:
        self.libraries = libraries
        self._lock, self._inside, self._before = threading.Lock(), 0, [1] * len(libraries)

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [library.num_threads for library in self.libraries]
                for library, count in zip(self.libraries, self._before, strict=True):
                    if count != 1:
                        _set(library, 1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for library, count in zip(self.libraries, self._before, strict=True):
                    if count != 1 and library.num_threads == 1:
                        _set(library, count)


def _set(library: Any, count: int) -> None:
    """Set the count, whichever thread asks: OpenBLAS listens to the first one only, until that one is told to let go."""
    let_go = getattr(library, "clear_controlling_thread", None)
    if let_go is not None:
        let_go(force=True)
    library.set_num_threads(count)
    if let_go is not None:
        let_go(force=True)


@cache
def _libraries(torch: bool) -> tuple[list[Any], _Blas]:
    """What is loaded; looked up again once torch is, which brings OpenMP."""
    found = ThreadpoolController()
    return found.select(user_api="openmp").lib_controllers, _Blas(found.select(user_api="blas").lib_controllers)
