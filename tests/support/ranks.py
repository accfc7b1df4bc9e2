"""Run a function on N ranks of one gloo world on this machine, without Ray: one process a rank.

They are forks of a process that has loaded what each of them would take seconds to load, and does nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

LIMIT_S = 240.0
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["raysft.training.worker", "transformers.modeling_utils"])


def run_on_ranks(world: int, function: Callable[..., Any], *arguments: Any, folder: Path) -> list[Any]:
    """What `function(*arguments)` returns on each rank, in their order. It must stand at the top of a test module.

    folder: empty, for what the ranks leave. Raises AssertionError with a rank's last words when one fails.
    """
    folder.mkdir(parents=True)
    (folder / "call.pickle").write_bytes(pickle.dumps((function.__module__, function.__qualname__, arguments)))
    processes = [SERVER.Process(target=_run, args=(folder, rank, world)) for rank in range(world)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + LIMIT_S
    try:
        while any(process.exitcode is None for process in processes):
            failed = [rank for rank, process in enumerate(processes) if process.exitcode]
            assert not failed, f"rank {failed[0]}: {(folder / f'{failed[0]}.log').read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"the ranks are not done after {LIMIT_S:.0f} s"
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.join()
    found = [folder / f"{rank}.result" for rank in range(world)]
    assert all(path.exists() for path in found), (folder / "0.log").read_text()[-4000:]
    return [pickle.loads(path.read_bytes()) for path in found]  # noqa: S301  # ours


def _run(folder: Path, rank: int, world: int) -> None:
    with (folder / f"{rank}.log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    module, name, arguments = pickle.loads((folder / "call.pickle").read_bytes())  # noqa: S301  # ours
    function = getattr(import_module(module), name)
    # A file, not a port, brings the ranks together: nothing can be in use already.
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=world)
    result = function(*arguments)
    dist.barrier()
    (folder / f"{rank}.result").write_bytes(pickle.dumps(result))
    dist.destroy_process_group()
    # gloo's threads may still hold tensors, and letting them go while Python shuts down aborts the process
    # (github.com/pytorch/pytorch/pull/179291); all there was to do is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
