"""What the benchmarks share: one core, interleaved timing, and the file of results.

Import this module before NumPy, JAX or torch: it keeps the process on one core and every library at one thread. Times
are CPU times of the process; contestants take turns within one run, so that what else the machine does meets them all,
and ratios are taken turn by turn.
"""

import datetime
import functools
import gc
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if early := sorted({"numpy", "jax", "torch"} & sys.modules.keys()):
    raise ImportError(f"expected benchmarks' `common` to be imported before the libraries it limits, got {early} first")
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("exact", "lower", "upper", "estimate", "ratio")


def machine() -> str:
    """The machine in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, one used; {platform.system()}, Python {platform.python_version()}"


def commit(tree: Path = ROOT) -> str:
    """The commit of the code, and whether it had been changed since."""
    try:
        git = ["git", "-C", str(tree)]
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        status = [*git, "status", "--porcelain", "--", "deepgen_ppl", "benchmarks"]
        changes = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" with changes" if changes.stdout.strip() else "")


@dataclass
class Results:
    """The values of one run, to be written to docs/results/NAME.json.

    Args:
        name: name of the benchmark.
        engine: `numpyro`, `pyro` or `both`.
        seed: seed of the run.
        out: file to write; None for docs/results/NAME.json.
    """

    name: str
    engine: str
    seed: int
    out: Path | None = None
    values: dict[str, dict] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    before: float = 0.0

    @property
    def path(self) -> Path:
        """The file of results."""
        return self.out or ROOT / "docs" / "results" / f"{self.name}.json"

    def add(
        self,
        key: str,
        value: float,
        *,
        kind: str,
        se: float | None = None,
        published: float | None = None,
        note: str = "",
    ) -> None:
        """Keep one value and print it; `se` is None where there is none or it cannot be trusted."""
        if kind not in KINDS:
            raise ValueError(f"expected a kind among {KINDS}, got {kind!r}")
        value, se = (None if x is None or not math.isfinite(x) else float(f"{x:.6g}") for x in (value, se))
        self.values[key] = {"value": value, "se": se, "kind": kind, "published": published, "note": note}
        print(f"{key:44s} {value!s:>12} se {se!s:<10} {kind:9s} {'' if published is None else f'({published})'} {note}")

    def keep(self) -> None:
        """Take over the values and the seconds of an earlier run, which this one completes."""
        if self.path.is_file():
            earlier = json.loads(self.path.read_text())
            if earlier["engine"] == self.engine and earlier["seed"] == self.seed:
                self.values, self.before = earlier["values"] | self.values, earlier["seconds"]

    def write(self) -> Path:
        """Write the file, beside and renamed."""
        record = {
            "name": self.name,
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_public(sys.argv[1:])]),
            "commit": commit(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine(),
            "engine": self.engine,
            "seed": self.seed,
            "seconds": round(self.before + time.perf_counter() - self.began, 1),
            "values": self.values,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps(record, indent=2) + "\n")
        beside.replace(self.path)
        return self.path


def _public(arguments: list[str]) -> list[str]:
    """The arguments without `--out FILE`, which says nothing about the values."""
    kept = iter(arguments)
    return [a for a in kept if not a.startswith("--out=") and not (a == "--out" and next(kept, a))]


@dataclass(frozen=True)
class Timing:
    """CPU times of contestants that took turns.

    Attributes:
        times: name -> milliseconds per unit of work, one a turn.
    """

    times: Mapping[str, Sequence[float]]

    def ms(self, name: str) -> tuple[float, float]:
        """Median milliseconds and its standard error."""
        return _median(self.times[name])

    def ratio(self, name: str, reference: str) -> tuple[float, float]:
        """Median over the turns of the ratio of two contestants, and its standard error."""
        return _median([a / b for a, b in zip(self.times[name], self.times[reference], strict=True)])


def _median(x: Sequence[float]) -> tuple[float, float]:
    """Median, and sqrt(pi / 2) sd / sqrt(n) with the sd from the median absolute deviation."""
    middle = statistics.median(x)
    return middle, 1.2533 * 1.4826 * statistics.median(abs(t - middle) for t in x) / math.sqrt(len(x))


def spent(run: Callable[[], object]) -> float:
    """CPU seconds of one call, system time included, without Python's garbage collector (as `timeit` has it)."""
    gc.collect()
    gc.disable()
    began = time.process_time()
    run()
    seconds = time.process_time() - began
    gc.enable()
    return seconds


def ratios(contestants: Mapping[str, tuple[Callable[[], object], int]], repeats: int) -> Timing:
    """Time contestants in turns, after one run of each that is not counted.

    Args:
        contestants: name -> (function that waits for its result, units of work in one call).
        repeats: number of turns.
    """
    for run, _ in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, (run, units) in contestants.items():
            times[name].append(spent(run) / units * 1e3)
    return Timing(times)


def marginal(runs: Mapping[str, tuple[Callable[[int], object], int, int]], repeats: int) -> Timing:
    """Cost of one unit where a run has a fixed cost too: the difference of a long and a short run, in turns.

    Args:
        runs: name -> (function of the number of units, short, long).
        repeats: number of turns; with more than one, a first turn is not counted.
    """
    for run, short, long in runs.values() if repeats > 1 else ():
        run(short)
        run(long)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (run, short, long) in runs.items():
            first, second = (spent(functools.partial(run, units)) for units in (short, long))
            times[name].append((second - first) / (long - short) * 1e3)
    return Timing(times)


def report(results: Results, timing: Timing, prefix: str, limit: str, targets: Mapping[str, float], unit: str) -> None:
    """Write the milliseconds of every contestant, and its ratio to the limit with the target where there is one."""
    for name in timing.times:
        value, se = timing.ms(name)
        results.add(f"{prefix}.{name}.ms", value, se=se, kind="estimate", note=f"CPU ms {unit}")
    for name in timing.times:
        if name != limit:
            value, se = timing.ratio(name, limit)
            target = targets.get(name)
            note = f"times {limit}" + ("" if target is None else f"; target at most {target:g}")
            results.add(f"{prefix}.{name}.ratio", value, se=se, kind="ratio", note=note)
