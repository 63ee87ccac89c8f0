"""Look-alikes of the ctk widgets that our panels use. Any other ctk name exists but cannot be constructed."""

import types

from PySide6 import QtCore, QtWidgets


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A title with an arrow; its contents are hidden while collapsed."""

    contentsCollapsed = QtCore.Signal(bool)
    TITLE_HEIGHT = 26

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed = False
        self._title = QtWidgets.QToolButton(self)
        self._title.setToolButtonStyle(QtCore.Qt.ToolButtonTextBesideIcon)
        self._title.setAutoRaise(True)
        self._title.setArrowType(QtCore.Qt.DownArrow)
        self._title.clicked.connect(lambda: self._set_collapsed(not self._collapsed))
        self.setContentsMargins(0, self.TITLE_HEIGHT, 0, 0)

    def resizeEvent(self, event):
        self._title.setGeometry(0, 0, self.size.width(), self.TITLE_HEIGHT)
        super().resizeEvent(event)

    def _set_collapsed(self, collapsed):
        self._collapsed = collapsed
        self._title.setArrowType(QtCore.Qt.RightArrow if collapsed else QtCore.Qt.DownArrow)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and child is not self._title:
                child.setVisible(not collapsed)
        self.setMaximumHeight(self.TITLE_HEIGHT if collapsed else 16777215)
        self.contentsCollapsed.emit(collapsed)

    def _set_text(self, text):
        self._title.setText(text)

    text = QtCore.Property(str, lambda self: self._title.text, _set_text)
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path in an editable combo box and a browse button."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        browse = QtWidgets.QToolButton()
        browse.setText("…")
        layout.addWidget(browse)
        self._filters = 0
        self._setting = ""
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path):
        self._edit.setText(path)

    currentPath = QtCore.Property(str, lambda self: self._edit.text, setCurrentPath)
    filters = QtCore.Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))
    settingKey = QtCore.Property(str, lambda self: self._setting, lambda self, value: setattr(self, "_setting", value))


class ctkMessageBox(QtWidgets.QMessageBox):
    pass


def module():
    ctk = types.ModuleType("ctk")
    for cls in (ctkCollapsibleButton, ctkPathLineEdit, ctkMessageBox):
        setattr(ctk, cls.__name__, cls)
    ctk.__getattr__ = unavailable("ctk")
    return ctk


def unavailable(prefix):
    """A module `__getattr__`: names can be compared and listed, but not constructed."""
    known = {}

    def missing(name):
        if not name.startswith(prefix):
            raise AttributeError(name)

        def refuse(self, *_):
            raise NotImplementedError(f"{name} is not part of the stand-in")

        return known.setdefault(name, type(name, (), {"__init__": refuse}))

    return missing
