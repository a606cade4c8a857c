"""Blocking work of the host itself, such as removing a folder.

The event loop's default pool is left to name resolution: work in it would hold up the app's connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


async def in_new_thread[T](work: Callable[[], T]) -> T:
    """Run `work` in a thread that ends with it."""
    threads = ThreadPoolExecutor(1, "once")
    try:
        return await asyncio.wrap_future(threads.submit(work))
    finally:
        threads.shutdown(wait=False)
