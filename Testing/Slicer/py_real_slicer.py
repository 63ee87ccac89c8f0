"""Runs inside a real Slicer: both modules' own tests.

    Slicer --no-splash --testing --additional-module-paths Neuro4DForecast Neuro4DTraining \
        --python-script Testing/Slicer/py_real_slicer.py

With CTest the modules are already on Slicer's path. Not run by `make test`: it needs the application.
"""

import sys
import traceback

import slicer


def run() -> int:
    failed = 0
    for name in ("Neuro4DForecast", "Neuro4DTraining"):
        try:
            slicer.util.selectModule(name)
            slicer.selfTests[name]()
            print(f"{name}: passed")
        except Exception:  # each module has its turn
            traceback.print_exc()
            failed += 1
    return failed


if __name__ == "__main__":
    slicer.util.exit(run() and 1)
    sys.stdout.flush()
