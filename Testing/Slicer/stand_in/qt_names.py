"""The module `qt` as PythonQt offers it: every Qt class in one place, Qt properties as plain attributes."""

import types

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

# These are virtual methods too, which Qt calls itself.
KEPT_AS_METHODS = {"sizeHint", "minimumSizeHint", "viewportSizeHint"}


def exposed(name):
    def read(self):
        return QtCore.QObject.property(self, name)

    def write(self, value):
        if not QtCore.QObject.setProperty(self, name, value):
            raise TypeError(f"{type(self).__name__}.{name} cannot be set to {value!r}")

    return property(read, write)


def expose_properties(cls):
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if name not in KEPT_AS_METHODS:
            setattr(cls, name, exposed(name))


def connect(self, signature, slot):
    """`object.connect("clicked()", slot)`, as Slicer's own Python files write it."""
    name, _, arguments = signature.partition("(")
    count = len([a for a in arguments.rstrip(")").split(",") if a])
    signal = getattr(self, name)
    signal.connect(slot if count else lambda *_: slot())


def disconnect(self, signature, slot):
    getattr(self, signature.partition("(")[0]).disconnect(slot)


def guarded_set(self, name, value):
    """PythonQt refuses an attribute that a C++ class does not have; so does this, or a typing error would pass."""
    cls = type(self)
    if cls.__module__.startswith("PySide6") and not hasattr(cls, name):
        raise AttributeError(f"{cls.__name__} has no attribute {name!r}")
    object.__setattr__(self, name, value)


def patch(base):
    find = base.__getattribute__

    def get(self, name):
        if name == "connect":
            return types.MethodType(connect, self)
        if name == "disconnect":
            return types.MethodType(disconnect, self)
        return find(self, name)

    base.__getattribute__ = get
    base.__setattr__ = guarded_set
    base.name = exposed("objectName")
    base.className = lambda self: self.metaObject().className()


def module():
    qt = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):  # not vars(): PySide6 makes its classes when they are asked for
            if not name.startswith("_"):
                setattr(qt, name, getattr(source, name))
    patch(QtCore.QObject)
    for value in list(vars(qt).values()):
        if isinstance(value, type) and issubclass(value, QtCore.QObject):
            expose_properties(value)

    from stand_in import ui_loader

    ui_loader.Base = QtUiTools.QUiLoader
    qt.QUiLoader = ui_loader.UiLoader
    return qt
