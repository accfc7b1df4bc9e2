"""How long a job takes on some nodes, and what that costs: a low, a middle and a high number, and what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysft.cluster.pools.catalogue import Pool
from raysft.cluster.pools.need import Need
from raysft.plan.plan import BF16_GAIN, CPU_EFFICIENCY, START_S

# Model FLOPs utilization, from the best to the worst. The best are measured (docs/benchmarks.md: Llama of 1B, all
# weights, one H200): compiled or not. A small model starts kernels most of the time; that end is a guess.
MFU = (0.35, 0.25, 0.05)
MFU_COMPILED = (0.49, 0.35, 0.10)
# Of the speed of a worker alone that each of several has; guesses.
ALIKE = (1.0, 0.9, 0.6)
# Other CPUs than the one at hand, in units of its speed; the fast end has bf16.
CPUS = (BF16_GAIN, 1.0, 0.5)
BOOT_S = (180.0, 300.0, 480.0)  # until a node that is asked for has started and has the image
HOUR_S = 3600.0


@dataclass(frozen=True)
class Span:
    """A number that is not known well; to four digits behind the point."""

    low: float
    mid: float
    high: float

    def times(self, factor: float) -> Span:
        """Each of the three, so many times."""
        return Span(*(round(each * factor, 4) for each in (self.low, self.mid, self.high)))


def hours(need: Need, used: Sequence[Pool], workers: int, boots: bool, cpus_each: int = 1) -> Span | None:
    """From asking for the nodes to the report; None where the speed of their GPUs is not known.

    used: pools in which the workers stand. boots: whether nodes are started for the job. cpus_each: CPUs of a worker.
    """
    speeds = _speeds(need, used, cpus_each)
    if min(speeds) <= 0:
        return None
    alike = ALIKE if workers > 1 else (1.0, 1.0, 1.0)
    found = [
        round((need.flops / (workers * speed * share) + START_S + (boot if boots else 0.0)) / HOUR_S, 4)
        for speed, share, boot in zip(speeds, alike, BOOT_S, strict=True)
    ]
    return Span(*found)


def _speeds(need: Need, used: Sequence[Pool], cpus_each: int) -> tuple[float, ...]:
    """Operations a second of one worker, from the best case to the worst. All wait for the slowest."""
    if need.gpu:
        slowest = min(pool.tflops for pool in used) * 1e12
        return tuple(slowest * mfu for mfu in (MFU_COMPILED if need.compiled else MFU))
    return tuple(need.cpu_flops * cpus_each * CPU_EFFICIENCY * times for times in CPUS)


def assumed(need: Need) -> list[str]:
    """What the numbers rest on, for people."""
    if need.gpu:
        best, mid, worst = MFU_COMPILED if need.compiled else MFU
        speed = (
            f"GPUs reach {best:.0%} (low), {mid:.0%} (mid) or {worst:.0%} (high) of their dense bf16 operations a "
            f"second; {best:.0%} was measured on one H200 with a Llama of 1B, the others are guesses"
        )
    else:
        speed = "a CPU computes as fast as one of this machine (mid), twice as fast (low) or half as fast (high)"
    return [
        speed,
        f"each of several workers has {ALIKE[0]:.0%}, {ALIKE[1]:.0%} or {ALIKE[2]:.0%} of the speed of one alone",
        f"a node that is asked for is there after {BOOT_S[0] / 60:.0f}, {BOOT_S[1] / 60:.0f} or {BOOT_S[2] / 60:.0f} "
        f"minutes; start-up, evaluation and report take {START_S:.0f} s",
        "prices are dated; head, disks, traffic and what a preemption costs are not counted",
    ]
