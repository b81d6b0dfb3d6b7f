"""Pyro's stack of handlers is one for the process: programs run one at a time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["one_at_a_time"]

LOCK = threading.RLock()


def one_at_a_time(fn: Callable) -> Callable:
    """The function, which waits while another thread runs a program."""

    @functools.wraps(fn)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with LOCK:
            return fn(*args, **kwargs)

    return alone
