"""Times, memory, and the file that a benchmark leaves behind."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mtl_classic._core.versions import library_versions


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call in this process, and its result: what a busy machine disturbs least."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def added_memory(work: Callable[[], Any]) -> tuple[float, Any]:
    """MiB of resident memory that a call adds and its result keeps."""
    process = psutil.Process()
    before = process.memory_info().rss
    result = work()
    return (process.memory_info().rss - before) / 2**20, result


class PeakMemory:
    """Context: the highest resident memory above that at entry, in MiB, sampled every 10 ms."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.mebibytes = (self._peak - self._start) / 2**20


def spread(values: Iterable[float]) -> dict[str, float]:
    """Mean, least and greatest over seeds."""
    array = np.asarray(list(values), dtype=float)
    return {"mean": float(array.mean()), "low": float(array.min()), "high": float(array.max())}


def machine() -> dict[str, Any]:
    """Versions and processor, without names or paths."""
    versions = library_versions()
    return {
        "python": versions.pop("python"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "versions": versions,
    }


def write(out: Path, name: str, result: dict[str, Any], markdown: str, *, show: bool = True) -> None:
    """Write NAME.json and NAME.md atomically, and print the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    result = {"benchmark": name, **result, "machine": machine()}
    for suffix, text in ((".json", json.dumps(result, indent=1, default=_plain) + "\n"), (".md", markdown + "\n")):
        write_text(out / f"{name}{suffix}", text)
    if show:
        print(markdown)


def write_text(path: Path, text: str) -> None:
    """Write a file at once: a run that is stopped leaves the old one or the new one."""
    part = path.with_name(f".{path.name.removeprefix('.')}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
