"""`parameterNodeWrapper`: typed class annotations kept in a MRML node and tied to widgets, as far as we use it."""

import json
import sys
import types
import typing
from dataclasses import dataclass

import slicer
from PySide6 import QtWidgets


@dataclass
class WithinRange:
    minimum: float
    maximum: float


@dataclass
class Choice:
    choices: list


@dataclass
class Default:
    value: object


def plain(hint):
    """The type behind Annotated and Optional."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def annotation(hint, kind):
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
    return next((extra for extra in extras if isinstance(extra, kind)), None)


def is_node(kind):
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


EMPTY = {bool: False, int: 0, float: 0.0, str: ""}


class Field:
    """One parameter: a descriptor that reads and writes the MRML node."""

    def __init__(self, name, hint, default):
        self.name, self.hint, self.kind = name, hint, plain(hint)
        self.item = typing.get_args(self.kind)[0] if typing.get_origin(self.kind) is list else None
        extra = annotation(hint, Default)
        choice = annotation(hint, Choice)
        self.default = default if default is not None else extra.value if extra else EMPTY.get(self.kind)
        if choice and self.default not in choice.choices:
            self.default = choice.choices[0]

    def __get__(self, owner, cls=None):
        if owner is None:
            return self
        node = owner.parameterNode
        if is_node(self.kind):
            return node.GetNodeReference(self.name)
        if is_node(self.item):
            found = [node.GetNthNodeReference(self.name, i) for i in range(node.GetNumberOfNodeReferences(self.name))]
            return [one for one in found if one is not None]
        text = node.GetParameter(self.name)
        if text == "":
            return list(self.default or []) if self.item else self.default
        return json.loads(text)

    def __set__(self, owner, value):
        node = owner.parameterNode
        if is_node(self.kind):
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        elif is_node(self.item):
            node.RemoveNodeReferenceIDs(self.name)
            for one in value:
                node.AddNodeReferenceID(self.name, one.GetID())
            node.Modified()
        else:
            self.check(value)
            node.SetParameter(self.name, json.dumps(list(value) if self.item else value))

    def check(self, value):
        limits, choice = annotation(self.hint, WithinRange), annotation(self.hint, Choice)
        if limits and not limits.minimum <= value <= limits.maximum:
            raise ValueError(f"{self.name} is {value}; expected {limits.minimum} to {limits.maximum}")
        if choice and value not in choice.choices:
            raise ValueError(f"{self.name} is {value!r}; expected one of {choice.choices}")
        if self.item is None and not isinstance(value, (int, float) if self.kind is float else self.kind):
            raise ValueError(f"{self.name} is {value!r}; expected {self.kind.__name__}")


def tie(widget, field):
    """(signal, read, write) of a widget for a parameter. Exact widget types, as in Slicer."""
    kind, choice = field.kind, annotation(field.hint, Choice)
    if type(widget) is slicer.qMRMLNodeComboBox and is_node(kind):
        return widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
    if type(widget) is QtWidgets.QLineEdit and kind is str:

        def write(text):
            if widget.text != text:
                widget.text = text

        return widget.textChanged, lambda: widget.text, write
    if type(widget) is QtWidgets.QCheckBox and kind is bool:
        return widget.stateChanged, lambda: widget.checked, widget.setChecked
    if type(widget) is QtWidgets.QSpinBox and kind is int:
        limits = annotation(field.hint, WithinRange)
        if limits:
            widget.setRange(limits.minimum, limits.maximum)
        return widget.valueChanged, lambda: widget.value, widget.setValue
    if type(widget) is QtWidgets.QDoubleSpinBox and kind is float:
        limits = annotation(field.hint, WithinRange)
        if limits:
            widget.setRange(limits.minimum, limits.maximum)
        return widget.valueChanged, lambda: widget.value, widget.setValue
    if type(widget) is QtWidgets.QComboBox and choice and kind in (str, int, float, bool):
        widget.clear()
        for value in choice.choices:
            widget.addItem(str(value))
        return (
            widget.currentIndexChanged,
            lambda: choice.choices[widget.currentIndex],
            lambda value: widget.setCurrentIndex(choice.choices.index(value)),
        )
    raise RuntimeError(f"A {type(widget).__name__} cannot show the parameter {field.name}: {field.hint}")


class Connection:
    def __init__(self, wrapper, gui):
        self.wrapper, self.ties, self.busy = wrapper, [], False
        for widget in [w for w in vars(gui).values() if isinstance(w, QtWidgets.QWidget)]:
            name = widget.property("SlicerParameterName")
            if name:
                if name not in wrapper.allParameters:
                    raise ValueError(f"The .ui file names the parameter {name}, which does not exist.")
                self.add(widget, wrapper.allParameters[name])
        self.tag = wrapper.parameterNode.AddObserver("ModifiedEvent", self.update)
        self.update()

    def add(self, widget, field):
        signal, read, write = tie(widget, field)

        def changed(*_):
            if not self.busy:
                field.__set__(self.wrapper, read())

        signal.connect(changed)
        self.ties.append((signal, changed, field, write))

    def update(self, *_):
        if self.busy:
            return
        self.busy = True
        try:
            for _signal, _changed, field, write in self.ties:
                write(field.__get__(self.wrapper))
        finally:
            self.busy = False

    def close(self):
        self.wrapper.parameterNode.RemoveObserver(self.tag)
        for signal, changed, _field, _write in self.ties:
            signal.disconnect(changed)


def parameterNodeWrapper(cls):
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: Field(name, hint, vars(cls).get(name)) for name, hint in hints.items()}
    for name, field in fields.items():
        setattr(cls, name, field)

    def make(self, parameterNode):
        self.parameterNode, self._connections = parameterNode, []

    def connectGui(self, gui):
        self._connections.append(Connection(self, gui))
        return len(self._connections) - 1

    def disconnectGui(self, tag):
        connection, self._connections[tag] = self._connections[tag], None
        if connection:
            connection.close()

    def forward(self, name):
        if name not in ("AddObserver", "RemoveObserver", "Modified", "StartModify", "EndModify"):
            raise AttributeError(name)
        return getattr(self.parameterNode, name)

    cls.__init__, cls.connectGui, cls.disconnectGui, cls.__getattr__ = make, connectGui, disconnectGui, forward
    cls.allParameters = fields
    return cls


def install():
    module = types.ModuleType("slicer.parameterNodeWrapper")
    for made in (parameterNodeWrapper, WithinRange, Choice, Default):
        setattr(module, made.__name__, made)
    sys.modules[module.__name__] = module
    slicer.parameterNodeWrapper = module
