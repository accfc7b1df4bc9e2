"""Run a function on N ranks of one gloo world on this machine, without Ray: one process a rank, ended by its id."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0


def run_on_ranks(world: int, function: Callable[..., Any], *arguments: Any, folder: Path) -> list[Any]:
    """What `function(*arguments)` returns on each rank, in their order. It must stand at the top of a test module.

    folder: empty, for what the ranks leave. Raises AssertionError with a rank's last words when one fails.
    """
    folder.mkdir(parents=True)
    (folder / "call.pickle").write_bytes(pickle.dumps((function.__module__, function.__qualname__, arguments)))
    processes = [_start(folder, rank, world) for rank in range(world)]
    deadline = time.monotonic() + LIMIT_S
    try:
        while any(process.poll() is None for process in processes):
            failed = [rank for rank, process in enumerate(processes) if process.poll()]
            assert not failed, f"rank {failed[0]}: {(folder / f'{failed[0]}.log').read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"the ranks are not done after {LIMIT_S:.0f} s"
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = [folder / f"{rank}.result" for rank in range(world)]
    assert all(path.exists() for path in found), (folder / "0.log").read_text()[-4000:]
    return [pickle.loads(path.read_bytes()) for path in found]  # noqa: S301  # ours


def _start(folder: Path, rank: int, world: int) -> subprocess.Popen[bytes]:
    # Files, not ports, bring the ranks together: nothing can be in use already.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / f"{rank}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), str(rank), str(world)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )


def _run(folder: Path, rank: int, world: int) -> None:
    from importlib import import_module

    torch.set_num_threads(1)
    module, name, arguments = pickle.loads((folder / "call.pickle").read_bytes())  # noqa: S301  # ours
    function = getattr(import_module(module), name)
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


if __name__ == "__main__":
    _run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
