"""Look-alikes of the qMRML widgets that our panels use, over the real scene."""

import slicer
import vtk
from PySide6 import QtCore, QtWidgets


class SceneWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class qMRMLWidget(SceneWidget):
    """Top of a .ui file; a module's parent also knows whether it is entered."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.isEntered = False


class NodeFilter:
    """What qMRMLSortFilterProxyModel hides beside what the node types leave out."""

    def __init__(self, changed):
        self._hidden, self._changed = [], changed

    def _set_hidden(self, identifiers):
        self._hidden = list(identifiers)
        self._changed()

    hiddenNodeIDs = property(lambda self: list(self._hidden), _set_hidden)


class NodeList(SceneWidget):
    """Keeps a list of the scene's nodes of some classes; subclasses show it."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._types = []
        self._none = False
        self._observations = []
        self._hidden_children = False
        self._flags = {}
        self._filter = NodeFilter(self.refresh)

    def sortFilterProxyModel(self):
        return self._filter

    def setMRMLScene(self, scene):
        for observed, tag in self._observations:
            observed.RemoveObserver(tag)
        self._observations = []
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent, scene.EndCloseEvent)
            self._observations = [(scene, scene.AddObserver(event, self._scene_changed)) for event in events]
        super().setMRMLScene(scene)
        self.refresh()

    def _scene_changed(self, caller, event):
        self.refresh()

    def nodes(self):
        if self._scene is None:
            return []
        found = []
        for index in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(index)
            if node.GetHideFromEditors() or not any(node.IsA(name) for name in self._types):
                continue
            if node.GetID() in self._filter.hiddenNodeIDs:
                continue
            if self._hidden_children and node.GetClassName() not in self._types:
                continue
            found.append(node)
        return found

    def refresh(self):
        raise NotImplementedError

    def _set_types(self, types):
        self._types = list(types)
        self.refresh()

    def _set_none(self, allowed):
        self._none = allowed
        self.refresh()

    def _set_children(self, shown):
        self._hidden_children = not shown
        self.refresh()

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _set_types)
    noneEnabled = QtCore.Property(bool, lambda self: self._none, _set_none)
    showChildNodeTypes = QtCore.Property(bool, lambda self: not self._hidden_children, _set_children)


def flag(name):
    def write(self, value):
        self._flags[name] = value

    return QtCore.Property(bool, lambda self: self._flags.get(name, False), write)


class qMRMLNodeComboBox(NodeList):
    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._box = QtWidgets.QComboBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._current = ""
        self._box.activated.connect(lambda index: self._select(self._box.itemData(index) or ""))

    def refresh(self):
        box = self._box
        box.blockSignals(True)
        box.clear()
        if self._none:
            box.addItem("None", "")
        for node in self.nodes():
            box.addItem(node.GetName(), node.GetID())
        box.setCurrentIndex(box.findData(self._current))
        box.blockSignals(False)
        if self._current and box.findData(self._current) < 0:
            self._select("")

    def _select(self, node_id):
        changed = node_id != self._current
        self._current = node_id
        self._box.setCurrentIndex(self._box.findData(node_id))
        if changed:
            self.currentNodeChanged.emit(self.currentNode())

    def currentNode(self):
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node):
        self.refresh()
        node_id = node.GetID() if isinstance(node, vtk.vtkObject) and node.GetID() else ""
        self._select(node_id if self._box.findData(node_id) >= 0 else "")

    def setCurrentNodeID(self, node_id):
        self.setCurrentNode(self._scene.GetNodeByID(node_id) if node_id and self._scene else None)

    def nodeCount(self):
        return len(self.nodes())

    currentNodeID = QtCore.Property(str, lambda self: self._current, setCurrentNodeID)
    addEnabled, removeEnabled, renameEnabled = flag("add"), flag("remove"), flag("rename")
    editEnabled, showHidden, selectNodeUponCreation = flag("edit"), flag("hidden"), flag("select")


class qMRMLCheckableNodeComboBox(NodeList):
    checkedNodesChanged = QtCore.Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._checked = set()
        self._box = QtWidgets.QListWidget()
        self._box.setMaximumHeight(60)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.itemChanged.connect(self._item_changed)

    def refresh(self):
        nodes = self.nodes()
        before = set(self._checked)
        self._checked &= {node.GetID() for node in nodes}
        self._box.blockSignals(True)
        self._box.clear()
        for node in nodes:
            item = QtWidgets.QListWidgetItem(node.GetName(), self._box)
            item.setData(QtCore.Qt.UserRole, node.GetID())
            item.setCheckState(QtCore.Qt.Checked if node.GetID() in self._checked else QtCore.Qt.Unchecked)
        self._box.blockSignals(False)
        if before != self._checked:
            self.checkedNodesChanged.emit()

    def _item_changed(self, item):
        node_id = item.data(QtCore.Qt.UserRole)
        (self._checked.add if item.checkState() == QtCore.Qt.Checked else self._checked.discard)(node_id)
        self.checkedNodesChanged.emit()

    def checkedNodes(self):
        return [node for node in self.nodes() if node.GetID() in self._checked]

    def uncheckedNodes(self):
        return [node for node in self.nodes() if node.GetID() not in self._checked]

    def setCheckState(self, node, state):
        (self._checked.add if state == QtCore.Qt.Checked else self._checked.discard)(node.GetID())
        self.refresh()
        self.checkedNodesChanged.emit()

    def checkState(self, node):
        return QtCore.Qt.Checked if node.GetID() in self._checked else QtCore.Qt.Unchecked


def install():
    for cls in (qMRMLWidget, qMRMLNodeComboBox, qMRMLCheckableNodeComboBox):
        setattr(slicer, cls.__name__, cls)
