"""The README's first command, measured as its user meets it: wall and CPU seconds, peak memory, what it chose.

python benchmarks/demo.py [--style watercolour]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", default="watercolour")
    style = parser.parse_args().style
    with tempfile.TemporaryDirectory() as folder:
        project, start = Path(folder) / "demo", time.perf_counter()
        command = [sys.executable, "-m", "velatura", "demo", str(project), "--style", style, "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        last = json.loads(done.stdout.splitlines()[-1])
    memory = used.ru_maxrss / (1 << 20 if sys.platform != "darwin" else 1 << 30)
    print(f"{style}: {wall:.0f} s wall, {used.ru_utime + used.ru_stime:.0f} s CPU, {memory:.2f} GB at most")
    print(f"{last['summary']['verdict']} {' '.join(last['summary']['reasons'])}")


if __name__ == "__main__":
    main()
