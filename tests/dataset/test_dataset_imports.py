"""The dataset layer stays light: a tool that only looks at pictures does not wait for torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import velatura.dataset


def test_no_dataset_module_imports_torch() -> None:
    modules = [f"velatura.dataset.{module.name}" for module in pkgutil.iter_modules(velatura.dataset.__path__)]
    assert "velatura.dataset.prepared" in modules
    program = (
        f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'diffusers', 'transformers'}} & set(sys.modules)))"
    )

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "[]"


def test_the_package_itself_imports_nothing_heavy() -> None:
    program = "import sys, velatura.dataset; print(sorted({'numpy', 'PIL'} & set(sys.modules)))"

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "[]"
