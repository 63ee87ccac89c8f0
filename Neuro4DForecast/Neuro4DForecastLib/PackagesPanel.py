"""Which Python packages are there, and the buttons that get the rest."""

import slicer

from Neuro4DForecastLib import Dependencies
from Neuro4DForecastLib.Problem import Problem

WORDS = {"present": "installed", "missing": "not installed", "half": "only half installed"}


class PackagesPanel:
    def __init__(self, ui, listFile=None) -> None:
        self.ui, self.listFile = ui, listFile
        ui.installButton.clicked.connect(lambda *_: self.tryInstall())
        ui.repairButton.clicked.connect(lambda *_: self.tryInstall())
        ui.pyTorchExtensionButton.clicked.connect(lambda *_: self.getExtension())

    def update(self) -> None:
        """Look on disk again. Nothing is imported and nothing installed."""
        found = Dependencies.packages(self.listFile)
        lines = [f"{package.name} {package.version}: {WORDS[package.state]}" for package in found]
        self.ui.packagesLabel.text = "\n".join(lines)
        states = {package.name: package.state for package in found}
        self.ui.installButton.enabled = any(state != "present" for state in states.values())
        self.ui.repairButton.visible = states["torch"] == "half"
        if self.ui.installButton.enabled:
            self.ui.packagesButton.collapsed = False

    def install(self) -> bool:
        """Ask once and install; True when everything is there. Raises the Problem."""
        try:
            return Dependencies.install(slicer.util.confirmOkCancelDisplay, self.listFile)
        finally:
            self.update()

    def tryInstall(self) -> None:
        try:
            done = self.install()
            self.ui.statusLabel.text = "All packages are installed." if done else "Nothing was installed."
        except Problem as problem:
            self.ui.statusLabel.text = problem.sentence
            self.show(problem)

    def show(self, problem: Problem) -> None:
        """Open this section and its fitting button when a problem belongs here."""
        if problem.kind in ("noTorch", "halfTorch", "noPackage", "install", "needsPyTorchExtension"):
            self.ui.packagesButton.collapsed = False
            self.update()
        self.ui.pyTorchExtensionButton.visible = problem.kind == "needsPyTorchExtension"

    def getExtension(self) -> None:
        try:
            Dependencies.getPyTorchExtension()
        except Problem as problem:
            self.ui.statusLabel.text = problem.sentence
