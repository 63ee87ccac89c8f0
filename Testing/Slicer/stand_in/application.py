"""slicer.app, slicer.mrmlScene and slicer.modules over slicer-core; a timer plays sequences as the application does."""

import contextlib
import importlib.util
import sys
import tempfile
import types
from pathlib import Path

import slicer
import slicer.util
import vtk
from PySide6 import QtCore, QtWidgets

LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
}


class ModuleManager(QtCore.QObject):
    moduleAboutToBeUnloaded = QtCore.Signal(str)

    def module(self, name):
        return getattr(slicer.modules, name.lower(), None)


class Application(QtWidgets.QApplication):
    startupCompleted = QtCore.Signal()
    applicationName = "Slicer"

    def __init__(self, temporary_path):
        super().__init__(["Slicer"])
        self.temporaryPath = temporary_path
        self.cachePath = tempfile.mkdtemp(prefix="neuro4d-cache-")
        self._testing = True
        self._manager = ModuleManager()
        self._restarts = 0
        self._settings = QtCore.QSettings(str(Path(temporary_path) / "Slicer.ini"), QtCore.QSettings.IniFormat)

    def moduleManager(self):
        return self._manager

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def layoutManager(self):
        return None

    def testingEnabled(self):
        return self._testing

    def translate(self, context, text):
        return text

    def userSettings(self):
        return self._settings

    def settings(self):
        return self._settings

    def startupEnvironment(self):
        """The environment in which Slicer was started, before it put its own libraries first."""
        return QtCore.QProcessEnvironment.systemEnvironment()

    def extensionsManagerModel(self):
        return None

    def restart(self):
        self._restarts += 1


def new_scene(app) -> None:
    """A fresh, empty scene with the logics that the modules use."""
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(app.temporaryPath)
    colors = logic.GetColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    logic.SetModuleLogic("Colors", colors)
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    cache, files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(app.cachePath)
    cache.SetMRMLScene(scene)
    files.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(files)
    scene.SetRootDirectory(app.temporaryPath)
    slicer.modules = getattr(slicer, "modules", None) or types.SimpleNamespace()
    for name, cls in LOGICS.items():
        module_logic = getattr(slicer, cls)()
        module_logic.SetMRMLApplicationLogic(logic)
        module_logic.SetMRMLScene(scene)
        logic.SetModuleLogic(name, module_logic)
        setattr(slicer.modules, name.lower(), types.SimpleNamespace(logic=lambda kept=module_logic: kept))
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    app._logic, app._caches = logic, (cache, files)
    slicer.mrmlScene = scene
    for name in ("Red", "Yellow", "Green"):
        add_slice_view(name, {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}[name])


def add_slice_view(name: str, orientation: str):
    """A slice view without a window: Slicer's own slice logic, which composes the pixels on the CPU."""
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    slicer.app.applicationLogic().GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(slicer.mrmlScene)
    node = logic.AddSliceNode(name)
    node.SetOrientation(orientation)
    logic.ResizeSliceNode(256, 256)
    return logic


def start_playback_timer(app) -> None:
    def tick():
        slicer.modules.sequences.logic().UpdateAllProxyNodes()

    app._playback = QtCore.QTimer()
    app._playback.setInterval(20)
    app._playback.timeout.connect(tick)
    app._playback.start()


def install(temporary_path: str):
    from stand_in import ctk_widgets, mrml_widgets

    for name in [name for name in vars(slicer) if hasattr(slicer.util, name) and not name.startswith("_")]:
        if name not in ("util", "vtk") and getattr(slicer, name) is getattr(slicer.util, name):
            delattr(slicer, name)  # slicer-core spills slicer.util into slicer; Slicer does not
    app = Application(temporary_path)
    slicer.app = app
    slicer.__getattr__ = ctk_widgets.unavailable("qMRML")
    mrml_widgets.install()
    slicer.util.mainWindow = lambda *_, **__: None
    new_scene(app)
    start_playback_timer(app)
    return app


@contextlib.contextmanager
def answering(answer: bool):
    """Answer every question of slicer.util's dialogs; yields the list of what was asked."""
    asked = []
    names = ("confirmOkCancelDisplay", "confirmYesNoDisplay", "confirmRetryCloseDisplay")
    before = {name: getattr(slicer.util, name) for name in names}

    def reply(text, *_, **__):
        asked.append(text)
        return answer

    for name in names:
        setattr(slicer.util, name, reply)
    try:
        yield asked
    finally:
        for name, function in before.items():
            setattr(slicer.util, name, function)


def load_module(path: Path):
    """Import a scripted module file as Slicer does and make its module object; returns the Python module."""
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent = types.SimpleNamespace(path=str(path), icon=None)
    module.instance = getattr(module, name)(parent)
    slicer.modules.__dict__[name.lower()] = types.SimpleNamespace(path=str(path), parent=parent)
    return module


def open_panel(module):
    """The widget of a module, entered, as after choosing it in the module list."""
    name = module.__name__
    parent = slicer.qMRMLWidget()
    parent.setLayout(QtWidgets.QVBoxLayout())
    parent.setMRMLScene(slicer.mrmlScene)
    parent.resize(420, 1200)

    def make():
        widget = getattr(sys.modules[name], f"{name}Widget")(parent)
        widget.setup()
        setattr(slicer.modules, f"{name}Widget", widget)
        return widget

    parent.reload = make
    getattr(slicer.modules, name.lower()).widgetRepresentation = lambda: parent
    widget = make()
    parent.isEntered = True
    if hasattr(widget, "enter"):
        widget.enter()
    parent.show()
    return widget


def close_panel(widget) -> None:
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(widget.moduleName)
    widget.parent.hide()
    widget.parent.deleteLater()
    slicer.app.processEvents()


def temporary_folder() -> str:
    return tempfile.mkdtemp(prefix="neuro4d-slicer-")
