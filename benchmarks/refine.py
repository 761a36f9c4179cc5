"""What a tiled upscale of a large picture takes: 4000 x 6000 pixels in tiles of 1024, by a tiny base.

    python -m benchmarks.refine
    python -m benchmarks.refine --sizes 1000x1500 4000x6000

The base computes next to nothing, so that what is measured is the tiling: time for each tile, and the most memory that
the process ever held, beside that of a picture of a single tile. Each size is a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TILE = 1024


def measured(width: int, height: int) -> None:
    """Upscale once, in this process, and print its seconds, tiles and peak in MB."""
    import os
    import resource

    from tests import tiny
    from tests.paintings import clouds
    from velatura import api
    from velatura.generation.enlarge import Enlarge

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["VELATURA_HOME"] = str(folder / "home")
        base = tiny.sd15(folder / "base")
        clouds(1, (width // 4, height // 4)).save(folder / "a.png")
        changes = api.Changes({"base": str(base), "prompt": "a boat", "steps": 2, "cfg": 1.0})
        work = Enlarge(4, tile=(TILE, TILE), denoising=0.4)
        begun = time.monotonic()
        *_, done = api.refine(api.RefineRequest((folder / "a.png",), work, changes=changes))
        seconds = time.monotonic() - begun
        assert done.summary["files"] == ["a-upscale.png"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tiles = -(-width // TILE) * -(-height // TILE)
    print(f"{width} {height} {tiles} {seconds:.1f} {peak:.0f}")


def main() -> None:
    """Measure each size in a process of its own."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--sizes", nargs="+", default=["1024x1024", "2000x3000", "4000x6000"])
    told.add_argument("--one", nargs=2, type=int)
    given = told.parse_args()
    if given.one:
        measured(*given.one)
        return
    print("pixels        tiles   seconds   seconds a tile   peak")
    for size in given.sizes:
        width, _, height = size.partition("x")
        found = subprocess.run(
            [sys.executable, "-m", "benchmarks.refine", "--one", width, height],
            capture_output=True,
            text=True,
            check=True,
        )
        _, _, tiles, seconds, peak = found.stdout.split()[-5:]
        print(f"{size:12}  {tiles:>5}   {seconds:>7}   {float(seconds) / int(tiles):14.1f}   {peak} MB")


if __name__ == "__main__":
    main()
