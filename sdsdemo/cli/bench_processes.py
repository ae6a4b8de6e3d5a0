"""Whether two processes score twice as much as one, with one thread each, as `torchrun` starts them.

two_processes = evaluations a second of two / of one

Both groups are started once and load their model; then each scores the same examples in turn, into a folder of its own.
Run as a module, this file is one of those processes: it scores once for every line that it is sent.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

CARD, BENCHMARK = "mini-diffusion", "mini-validation"
EXAMPLES = 24
"""Of two pictures and two captions: some seconds on one core."""
WARM_UP = 2
READY = "ready"


class Group:
    """Processes that share each run, on this machine."""

    def __init__(self, count: int, examples: int = EXAMPLES) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared |= {"WORLD_SIZE": str(count), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "sdsdemo.cli.bench_processes", str(examples)]
        self.processes = [
            subprocess.Popen(
                command,
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]

    def __enter__(self) -> Group:
        self._heard()
        return self

    def run(self) -> float:
        """Seconds that the processes took for all examples together."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return max(map(float, self._heard()))

    def _heard(self) -> list[str]:
        """A line of each."""
        said = [process.stdout.readline().strip() for process in self.processes if process.stdout is not None]
        if not all(said):
            raise RuntimeError("a process of the bench ended early: what it printed above says why")
        return said

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.processes:
            if kind is not None:
                process.kill()
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            process.wait()


def rates(
    repeats: int, examples: int = EXAMPLES, progress: Callable[[str], None] = lambda line: None
) -> dict[int, list[float]]:
    """Evaluations a second, by the number of processes; the groups run in turn."""
    from sdsdemo.settings import budget

    evaluations = 4 * budget().evaluations * examples
    found: dict[int, list[float]] = {1: [], 2: []}
    with Group(1, examples) as alone, Group(2, examples) as both:
        for turn in range(repeats):
            progress(f"one and two processes, turn {turn + 1} of {repeats}")
            for count, group in ((1, alone), (2, both)):
                found[count].append(evaluations / group.run())
    return found


def serve(examples: int) -> None:
    """One of the processes: scores at each line of its input and answers with the seconds."""
    import time

    from sdsdemo.app.workbench import Workbench
    from sdsdemo.evaluation.run import evaluate
    from sdsdemo.runtime import distributed
    from sdsdemo.settings import budget

    workbench, processes = Workbench(), distributed.find()

    def score(limit: int) -> float:
        with tempfile.TemporaryDirectory() as own:
            (place,) = processes.gather([own] if processes.is_main else [])
            start = time.perf_counter()
            evaluate(BENCHMARK, [CARD], workbench=workbench, budget=budget(), limit=limit, out=Path(place) / "run")
            seconds = time.perf_counter() - start
            processes.wait()
        return seconds

    score(WARM_UP)
    _say(READY)
    for _ in sys.stdin:
        _say(str(score(examples)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
