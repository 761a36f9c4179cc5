"""How fast pictures are resized and checked, against ImageMagick's mogrify and vipsthumbnail on the same pictures.

    .venv/bin/python benchmarks/dataset.py --pictures 96

Writes JPEG photographs of 12 megapixels into a temporary folder and makes JPEG of 1024 pixels and quality 90 of
them, with every program in turn, round after round. Seconds are the clock's and the processors', with those of the
processes that a program starts: on a shared machine only the latter compare. Peers that are not installed are said to
be absent.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from velatura.dataset import pool
from velatura.dataset.framing import Target
from velatura.dataset.reframing import Options, reframe
from velatura.dataset.survey import survey
from velatura.files import write_text
from velatura.settings import cache_folder

SIZE = (4000, 3000)
SIDE = 1024
QUALITY = 90


def photograph(seed: int, source: Path | None) -> Image.Image:
    """A picture of 12 megapixels: a given photograph enlarged, or clouds and edges, with a sensor's grain."""
    stream = np.random.default_rng(seed)
    if source is None:
        spots = Image.fromarray(stream.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        picture = spots.resize(SIZE, Image.Resampling.BICUBIC)
    else:
        with Image.open(source) as opened:
            picture = opened.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).filter(ImageFilter.SHARPEN)
    grain = stream.normal(0, 3, (SIZE[1], SIZE[0], 1)).astype(np.float32)
    return Image.fromarray((np.asarray(picture, dtype=np.float32) + grain).clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, count: int, sources: list[Path]) -> int:
    """Write them; their bytes in all. Eight are painted, the rest are copies of these."""
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if number < 8:
            source = sources[number % len(sources)] if sources else None
            photograph(number, source).save(path, quality=92, exif=Image.Exif())
        else:
            shutil.copyfile(folder / f"{number % 8:05d}.jpg", path)
    return sum(path.stat().st_size for path in folder.glob("*.jpg"))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processors that the work takes, its processes' among them."""
    begun, used = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - begun, sum(os.times()[:4]) - used


def run_mogrify(pictures: Path, out: Path, *, hinted: bool) -> None:
    """mogrify, one process for each core, as its users run it on many files."""
    hint = ["-define", f"jpeg:size={SIDE}x{SIDE}"] if hinted else []
    names = sorted(str(path) for path in pictures.glob("*.jpg"))
    cores = pool.cores()
    environment = os.environ | {"MAGICK_THREAD_LIMIT": "1"}
    parts = [
        subprocess.Popen(
            [
                "mogrify",
                *hint,
                "-path",
                str(out),
                "-resize",
                f"{SIDE}x{SIDE}",
                "-quality",
                str(QUALITY),
                *names[core::cores],
            ],
            env=environment,
        )
        for core in range(cores)
        if names[core::cores]
    ]
    if any(part.wait() for part in parts):
        raise SystemExit("mogrify failed")


def run_vips(pictures: Path, out: Path) -> None:
    """vipsthumbnail, one process for each core."""
    names = sorted(str(path) for path in pictures.glob("*.jpg"))
    cores = pool.cores()
    environment = os.environ | {"VIPS_CONCURRENCY": "1"}
    target = f"{out}/%s.jpg[Q={QUALITY}]"
    parts = [
        subprocess.Popen(
            ["vipsthumbnail", "--size", f"{SIDE}x{SIDE}", "-o", target, *names[core::cores]], env=environment
        )
        for core in range(cores)
        if names[core::cores]
    ]
    if any(part.wait() for part in parts):
        raise SystemExit("vipsthumbnail failed")


def run_velatura(pictures: Path, out: Path) -> None:
    """What `velatura dataset resize` does: originals kept, every change in the journal, each file synced."""
    copy = out / "set"
    copy.mkdir()
    for path in pictures.glob("*.jpg"):
        os.link(path, copy / path.name)
    options = Options(Target(long_side=SIDE), quality=QUALITY)
    for _ in reframe(copy, options, told="benchmark", workers=None):
        pass


def run_checks(pictures: Path, out: Path) -> None:
    """Resize, then every measure that `velatura dataset check` takes."""
    run_velatura(pictures, out)
    survey(out / "set", workers=None)


def likeness(ours: Path, others: Path) -> float:
    """PSNR in dB between two programs' first picture."""
    one, other = (np.asarray(Image.open(path), dtype=np.float64) for path in (ours, others))
    return float(10 * np.log10(255**2 / max(((one - other) ** 2).mean(), 1e-9)))


def main() -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photographs", type=Path, help="folder of photographs to make the pictures from")
    parser.add_argument("--out", type=Path, default=cache_folder() / "benchmarks")
    told = parser.parse_args()
    sources = sorted(told.photographs.glob("*.jpg")) if told.photographs else []
    programs: dict[str, Callable[[Path, Path], None]] = {
        "velatura resize": run_velatura,
        "velatura resize and all measures": run_checks,
    }
    if shutil.which("vipsthumbnail"):
        programs["vipsthumbnail"] = run_vips
    if shutil.which("mogrify"):
        programs["mogrify"] = lambda pictures, out: run_mogrify(pictures, out, hinted=False)
        programs["mogrify, told the size"] = lambda pictures, out: run_mogrify(pictures, out, hinted=True)
    for name in ("vipsthumbnail", "mogrify"):
        if name not in programs:
            print(f"{name} is absent; nothing is compared with it")

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    psnr = None
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "pictures"
        pictures.mkdir()
        size = write_pictures(pictures, told.pictures, sources)
        print(f"{told.pictures} pictures of {SIZE[0]} x {SIZE[1]}, {size / 1e6:.0f} MB, {pool.cores()} cores")
        for _ in range(told.rounds):
            firsts = {}
            for name, program in programs.items():
                out = Path(temporary) / "out"
                out.mkdir()
                seconds[name].append(timed(lambda program=program, out=out: program(pictures, out)))  # type: ignore[misc]
                first = next(path for path in (out / "set" / "00000.jpg", out / "00000.jpg") if path.exists())
                firsts[name] = Path(temporary) / f"{name}.jpg"
                shutil.copyfile(first, firsts[name])
                shutil.rmtree(out)
            if "mogrify" in firsts:
                psnr = {name: likeness(path, firsts["mogrify"]) for name, path in firsts.items() if name != "mogrify"}
    rates = {name: told.pictures / statistics.median(clock for clock, _ in all_) for name, all_ in seconds.items()}
    used = {name: statistics.median(cpu for _, cpu in all_) / told.pictures for name, all_ in seconds.items()}
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{'program':36s} {'pictures/s':>10s} {'CPU ms each':>12s}  rate against vipsthumbnail: clock, CPU")
    for name, rate in rates.items():
        against = "-"
        if "vipsthumbnail" in rates:
            against = f"{rate / rates['vipsthumbnail']:.2f}, {used['vipsthumbnail'] / used[name]:.2f}"
        print(f"{name:36s} {rate:10.2f} {1000 * used[name]:12.0f}  {against}")
    if psnr:
        print("against mogrify's picture, in dB: " + ", ".join(f"{name} {value:.1f}" for name, value in psnr.items()))
    print(f"most memory of one process: {memory / 1024:.0f} MB")
    told.out.mkdir(parents=True, exist_ok=True)
    figures = {
        "rates": rates,
        "processor": used,
        "psnr": psnr,
        "seconds": seconds,
        "megabytes": memory / 1024,
        "cores": pool.cores(),
    }
    write_text(told.out / "dataset.json", json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
