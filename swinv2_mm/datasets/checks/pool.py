"""Checks in processes of their own: a file that crashes or hangs its decoder is one finding."""
from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Iterator
from multiprocessing import connection, get_context

from . import clips, media
from .findings import Finding

CHECKS = {'image': media.check_image, 'map': media.check_map, 'video': clips.check_video}
MEMORY = 4 << 30  # bytes that one file may take on top of what a worker takes
SECONDS = 300  # for one file


def run(jobs: Iterable, workers: int, seconds: float = SECONDS,
        memory: int = MEMORY) -> Iterator[list[Finding]]:
    """The findings of each job (check, path, arguments), as they come; one list for each."""
    team = [_Worker(memory) for _ in range(workers)]
    waiting, jobs = list(team), iter(jobs)
    try:
        while True:
            for worker in list(waiting):
                if (job := next(jobs, None)) is None:
                    break
                worker.start(job)
                waiting.remove(worker)
            busy = [worker for worker in team if worker.job]
            if not busy:
                return
            connection.wait([worker.pipe for worker in busy], timeout=1)
            for worker in busy:
                found = worker.answer(seconds)
                if found is not None:
                    waiting.append(worker)
                    yield found
    finally:
        for worker in team:
            worker.end()


class _Worker:
    """One process, which is replaced when it dies."""

    def __init__(self, memory: int):
        self.memory, self.job, self.process = memory, None, None
        self._begin()

    def _begin(self) -> None:
        context = get_context('fork')
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, self.memory), daemon=True)
        self.process.start()
        other.close()

    def start(self, job) -> None:
        self.job, self.since = job, time.monotonic()
        self.pipe.send(job)

    def answer(self, seconds: float) -> list[Finding] | None:
        """The findings on the job, or None while it runs."""
        what = None
        try:
            if self.pipe.poll():
                found, self.job = self.pipe.recv(), None
                return [Finding(*finding) for finding in found]
        except (EOFError, ConnectionResetError):
            self.process.join()
            what = f'ends the process that reads it (status {self.process.exitcode})'
        if what is None and time.monotonic() - self.since > seconds:
            what = f'is not read in {seconds:g} seconds'
        if what is None:
            return None
        path, self.job = self.job[1], None
        self.end()
        self._begin()
        return [Finding('crash', path, what)]

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe, memory: int) -> None:
    _quiet()
    pages = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + memory,) * 2)
    while True:
        try:
            check, path, settings = pipe.recv()
        except EOFError:
            return
        try:
            found = CHECKS[check](path, **settings)
        except MemoryError:
            found = [Finding('crash', path, f'takes more than {memory >> 20} MB to read')]
        pipe.send([tuple(finding) for finding in found])


def _quiet() -> None:
    """One thread, as a fork keeps no others, and a wait for them has no end; nothing on the screen.

    What decoders write by themselves is in the findings.
    """
    import cv2
    import torch
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    cv2.setLogLevel(0)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
