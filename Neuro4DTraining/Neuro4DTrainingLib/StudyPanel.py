"""Choosing a study, and what was understood of it, before anything runs."""

import qt
from Neuro4DForecastLib.BackgroundRun import State
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Entries, Parameters
from Neuro4DTrainingLib.Question import Question
from Neuro4DTrainingLib.Understood import TITLES, problemLines, rows, summary

POLL_MS = 50
ROWS_AT_A_TIME = 50
SETTLE_MS = 700  # a path being typed is not read at each key


class StudyPanel:
    """Attributes:
    answer: what the command said of the study; {} before it was read, or where it cannot be.
    """

    def __init__(self, ui, logic) -> None:
        self.ui, self.logic = ui, logic
        self.answer: dict = {}
        self.problem = ""
        self._node = None
        self._question: Question | None = None
        self._asked = None
        self._rows: list[list[str]] = []
        self._timer = _timer(POLL_MS, self._poll)
        self._settle = _timer(SETTLE_MS, self.read, once=True)
        ui.studyFolderButton.clicked.connect(lambda *_: self._choose("study", folder=True))
        ui.studyTableButton.clicked.connect(lambda *_: self._choose("study", "Tables (*.csv *.tsv)"))
        ui.columnsFileButton.clicked.connect(lambda *_: self._choose("columnsFile", "Names of columns (*.json *.toml)"))
        ui.readStudyButton.clicked.connect(lambda *_: self.read(again=True))

    @property
    def busy(self) -> bool:
        return self._question is not None

    def setParameterNode(self, node) -> None:
        self._node = node

    def _choose(self, field: str, kinds: str = "", folder: bool = False) -> None:
        path = choosePath(getattr(self._node, field), kinds, folder)
        if path:
            setattr(self._node, field, path)

    def update(self) -> None:
        """What was chosen may have changed: show the fields that belong to it, and read it when it has settled."""
        own = self._node.source == Entries.OWN_STUDY
        for widget in (self.ui.studyEdit, self.ui.studyFolderButton, self.ui.studyTableButton):
            widget.enabled = own
        table = own and self._node.study.strip().lower().endswith((".csv", ".tsv"))
        self.ui.columnsCombo.enabled = self.ui.filesEdit.enabled = table
        self.ui.columnsFileArea.visible = table and self._node.columns == Entries.COLUMNS_FILE
        wanted = self._wanted()
        self.ui.readStudyButton.enabled = wanted is not None
        if wanted != self._asked:
            self.forget()
            if wanted is not None:
                self._settle.start()

    def _wanted(self) -> Entries.Study | None:
        if self._node is None or self._node.source != Entries.OWN_STUDY:
            return None
        try:
            return Parameters.study(self._node)
        except Problem:
            return None

    def forget(self) -> None:
        self._timer.stop()
        self._settle.stop()
        if self._question is not None:
            self._question.close()
            self._question = None
        self.answer, self.problem, self._asked, self._rows = {}, "", None, []
        self.ui.studySummary.text = ""
        self.ui.studyTable.visible = self.ui.studyProblems.visible = False
        self.ui.studyTable.setRowCount(0)

    close = forget

    def read(self, again: bool = False) -> None:
        """Ask the command line what it understands of the study."""
        wanted = self._wanted()
        if wanted is None or (wanted == self._asked and not again):
            return
        self.forget()
        self._asked = wanted
        try:
            self._question = self.logic.readStudy(wanted)
        except Problem as problem:
            self._fail(problem)
            return
        self.ui.studySummary.styleSheet = ""
        self.ui.studySummary.text = "Reading the study…"
        self._timer.start()

    def _poll(self) -> None:
        if self._question is None:
            self._fillTable()
            return
        state = self._question.poll()
        if state is State.RUNNING:
            return
        question, self._question = self._question, None
        question.close()
        if state is State.FAILED:
            self._timer.stop()
            self._fail(question.problem)
        elif "counts" not in question.answer:
            self._timer.stop()
            self._fail(Problem("The command line said nothing of the study. Open Packages below and install again."))
        else:
            self._show(question.answer)

    def _fail(self, problem: Problem) -> None:
        self.problem = problem.sentence
        self.ui.studySummary.text = problem.sentence
        self.ui.studySummary.styleSheet = "color: #c03020;"

    def _show(self, answer: dict) -> None:
        self.answer = answer
        self.ui.studySummary.text = summary(answer)
        problems = problemLines(answer)
        self.ui.studyProblems.setPlainText("\n".join(problems))
        self.ui.studyProblems.visible = bool(problems)
        self._rows = rows(answer)
        widget = self.ui.studyTable
        widget.clear()
        widget.setRowCount(0)
        widget.setColumnCount(len(TITLES))
        widget.setHorizontalHeaderLabels(TITLES)
        widget.verticalHeader().hide()
        widget.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        widget.visible = bool(self._rows)

    def _fillTable(self) -> None:
        """A few rows at a time, so that a large study does not hold up the panel."""
        widget = self.ui.studyTable
        start = widget.rowCount
        more = self._rows[start : start + ROWS_AT_A_TIME]
        if not more:
            self._timer.stop()
            widget.resizeColumnsToContents()
            return
        widget.setRowCount(start + len(more))
        for row, cells in enumerate(more, start):
            for column, text in enumerate(cells):
                widget.setItem(row, column, qt.QTableWidgetItem(text))


def _timer(milliseconds: int, slot, once: bool = False):
    timer = qt.QTimer()
    timer.setInterval(milliseconds)
    timer.setSingleShot(once)
    timer.timeout.connect(slot)
    return timer


def choosePath(now: str, kinds: str = "", folder: bool = False) -> str:
    """A file or folder by Qt's dialog; empty when it was canceled."""
    if folder:
        return str(qt.QFileDialog.getExistingDirectory(None, "Choose a folder", now))
    path = qt.QFileDialog.getOpenFileName(None, "Choose a file", now, kinds)
    return str(path[0] if isinstance(path, tuple) else path)
