"""Rows of earlier scans: a volume and how many years before the scan it was taken, from DICOM or BIDS where known."""

import qt
import slicer

from Neuro4DForecastLib import ScanDates

MOST = 7


class Row:
    def __init__(self, parent, changed, remove) -> None:
        self.widget = qt.QWidget(parent)
        layout = qt.QHBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.selector = slicer.qMRMLNodeComboBox()
        self.selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.selector.showChildNodeTypes = False
        self.selector.noneEnabled = True
        self.selector.addEnabled = False
        self.selector.removeEnabled = False
        self.selector.setMRMLScene(slicer.mrmlScene)
        self.years = qt.QLineEdit()
        self.years.setPlaceholderText("years before")
        self.years.setMaximumWidth(90)
        self.source = qt.QLabel()
        self.removeButton = qt.QToolButton()
        self.removeButton.setText("✕")
        self.removeButton.setToolTip("Leave this scan out")
        for widget in (self.selector, self.years, self.source, self.removeButton):
            layout.addWidget(widget)
        self.selector.currentNodeChanged.connect(lambda *_: changed(self))
        self.years.textChanged.connect(lambda *_: changed(None))
        self.years.textEdited.connect(lambda *_: self.source.setText(""))
        self.removeButton.clicked.connect(lambda *_: remove(self))


class EarlierScans:
    """Fills an empty widget of the panel. Calls `changed()` whenever a person changes something."""

    def __init__(self, area, changed) -> None:
        self._changed, self._scan, self._quiet = changed, None, False
        self.rows: list[Row] = []
        self._area = area
        self._layout = qt.QVBoxLayout(area)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.addButton = qt.QPushButton("Add an earlier scan")
        self.addButton.clicked.connect(lambda *_: self.add())
        self._layout.addWidget(self.addButton)

    def add(self) -> Row:
        row = Row(self._area, self._rowChanged, self._remove)
        self.rows.append(row)
        self._layout.insertWidget(len(self.rows) - 1, row.widget)
        self.addButton.setEnabled(len(self.rows) < MOST)
        return row

    def setScan(self, scan) -> bool:
        """The scan that the years count from; whether that filled in dates."""
        if scan is self._scan:
            return False
        self._scan, before = scan, self.texts()
        for row in self.rows:
            self._date(row)
        return self.texts() != before

    def setVolumes(self, volumes: list, texts: list[str], scan=None) -> None:
        """Rows as they were saved, with the years as they were entered."""
        self._quiet, self._scan = True, scan
        for row in list(self.rows):
            self._remove(row)
        for volume, text in zip(volumes, texts, strict=False):
            row = self.add()
            row.selector.setCurrentNode(volume)
            row.years.setText(text)
        self._quiet = False

    def volumes(self) -> list:
        return [row.selector.currentNode() for row in self.rows if row.selector.currentNode() is not None]

    def texts(self) -> list[str]:
        return [row.years.text for row in self.rows if row.selector.currentNode() is not None]

    def selectors(self) -> list:
        return [row.selector for row in self.rows]

    def _rowChanged(self, row) -> None:
        if row is not None and not self._quiet:
            self._date(row)
        if not self._quiet:
            self._changed()

    def _date(self, row) -> None:
        volume = row.selector.currentNode()
        known = ScanDates.yearsBetween(volume, self._scan) if volume is not None and self._scan is not None else None
        filledIn = bool(row.source.text)
        row.source.setText(f"from {known[1]}" if known else "")
        if known or filledIn:  # the years of another volume are not those of this one
            row.years.setText(f"{known[0]:g}" if known else "")

    def _remove(self, row) -> None:
        self.rows.remove(row)
        self._layout.removeWidget(row.widget)
        row.selector.setMRMLScene(None)
        row.widget.deleteLater()
        self.addButton.setEnabled(True)
        if not self._quiet:
            self._changed()
