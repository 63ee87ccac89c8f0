"""What the two Slicer modules need of the Slicer application, over slicer-core (real MRML) and PySide6 (real Qt).

Scene, volumes, sequences, playback, slice pixels and files are Slicer's own. Widgets are Qt's own behind PythonQt's
manners; the handful of ctk and qMRML widgets are look-alikes. Not here: main window, layouts, 3D views, Extensions
Manager, pip dialogs. Set NEURO4D_SLICER_PYTHON to the folder Base/Python/slicer of a Slicer source tree and the same
tests run over Slicer's own base classes and parameter nodes instead of `bases.py` and `parameters.py`.
"""

import os
import sys
from pathlib import Path


def install(temporary_path: str):
    """Make `slicer`, `qt` and `ctk` importable as inside Slicer; returns the application. Once per process."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from stand_in import ctk_widgets, qt_names

    sys.modules["qt"] = qt_names.module()
    sys.modules["ctk"] = ctk_widgets.module()
    from stand_in import application

    app = application.install(temporary_path)
    real = os.environ.get("NEURO4D_SLICER_PYTHON")
    if real:
        use_real_bases(Path(real))
    else:
        from stand_in import bases, parameters

        bases.install()
        parameters.install()
    return app


def use_real_bases(folder: Path) -> None:
    """Slicer's own Python files behind slicer-core's; both are the package `slicer`."""
    import slicer

    if not (folder / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(f"NEURO4D_SLICER_PYTHON is {folder}: expected the folder Base/Python/slicer of Slicer.")
    slicer.__path__.append(str(folder))
