"""A host's stack of handlers is one for the process, and so is torch's generator: programs run one at a time.

On JAX a program runs while it is traced; what is compiled runs side by side.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["LOCK", "one_at_a_time"]

LOCK = threading.RLock()
"""Held by the thread that runs a program, as often as it enters one."""


def one_at_a_time(fn: Callable) -> Callable:
    """The function, which waits while another thread runs a program."""

    @functools.wraps(fn)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with LOCK:
            return fn(*args, **kwargs)

    return alone
