"""QUiLoader that makes our ctk and qMRML look-alikes, refuses unknown classes and keeps the .ui file's connections."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets


class UiLoader(QtUiTools.QUiLoader):
    def createWidget(self, class_name, parent=None, name=""):
        from stand_in import ctk_widgets, mrml_widgets

        made = vars(ctk_widgets).get(class_name) or vars(mrml_widgets).get(class_name)
        if made is not None:
            widget = made(parent)
            widget.setObjectName(name)
            return widget
        if not hasattr(QtWidgets, class_name):
            raise RuntimeError(f"The .ui file asks for the widget {class_name}, which the stand-in does not have.")
        return super().createWidget(class_name, parent, name)

    def load(self, device, parent=None):
        text = bytes(device.readAll())
        buffer = QtCore.QBuffer()
        buffer.setData(text)
        buffer.open(QtCore.QIODevice.ReadOnly)
        self.tree = ElementTree.fromstring(text)
        self.without_scene_connections(buffer)
        widget = super().load(buffer, parent)
        for connection in self.tree.iter("connection"):
            self.connect_scene(widget, *(connection.findtext(tag) for tag in ("sender", "signal", "receiver", "slot")))
        return widget

    def without_scene_connections(self, buffer):
        """vtk types cannot travel through Qt's own string connections: take them out and make them by hand."""
        copy = ElementTree.fromstring(ElementTree.tostring(self.tree))
        for connections in copy.iter("connections"):
            connections.clear()
        buffer.close()
        buffer.setData(ElementTree.tostring(copy))
        buffer.open(QtCore.QIODevice.ReadOnly)

    def connect_scene(self, top, sender, signal, receiver, slot):
        def find(name):
            return top if top.objectName == name else top.findChild(QtCore.QObject, name)

        source, target = find(sender), find(receiver)
        if source is None or target is None:
            raise RuntimeError(f"The .ui file connects {sender} to {receiver}; one of them is missing.")
        getattr(source, signal.partition("(")[0]).connect(getattr(target, slot.partition("(")[0]))
