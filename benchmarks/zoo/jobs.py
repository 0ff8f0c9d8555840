"""Jobs of which some need others' results, run by several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Job:
    """Something to do.

    Attributes:
        name: unique among the jobs.
        work: what is called, in another process.
        arguments: its arguments.
        after: names of jobs that must have ended before.
    """

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    after: tuple[str, ...] = ()


def results(jobs: Sequence[Job], workers: int) -> Iterator[Any]:
    """Each job's result as it ends; of the jobs that can start, the first starts first.

    A job that fails ends the run, once the jobs at work have ended.
    """
    waiting, ended = list(jobs), set[str]()
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        running = dict[Future[Any], str]()
        while waiting or running:
            ready = [job for job in waiting if ended.issuperset(job.after)]
            for job in ready[: workers - len(running)]:
                running[pool.submit(job.work, *job.arguments)] = job.name
                waiting.remove(job)
            if not running:
                raise ValueError(f"these jobs wait for others that don't exist: {waiting}")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                ended.add(running.pop(future))
                yield future.result()
