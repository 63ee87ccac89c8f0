"""The worker's files -> nodes: sequences that play together, under one folder, removable as one."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
import vtk

from Neuro4DForecastLib import Colors, FourD, Nodes, Removal, Views, VolumesTable
from Neuro4DForecastLib.Problem import Problem

RUN, ROLE, SCAN = Nodes.RUN, "Neuro4D.Role", "Neuro4D.Scan"
INDEX_NAME, INDEX_UNIT = "time", FourD.YEAR
FRAMES_PER_SECOND = 3
NOTE = "Simulated future. Research use only."
COARSER = 2  # of the overlays, where memory is to be saved
Step = tuple[float, str]


@dataclass
class Run:
    """The nodes of one forecast. Found again by their attributes, so a reopened scene has its runs too."""

    identifier: str
    folderItem: int = 0
    warnings: list[str] = field(default_factory=list)

    def nodes(self) -> list:
        """Nodes of this run; not a copy that a person made of one of its frames to keep it."""
        scene = slicer.mrmlScene
        every = (scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes()))
        marked = [node for node in every if node.GetAttribute(RUN) == self.identifier]
        browsers = [node for node in marked if node.IsA("vtkMRMLSequenceBrowserNode")]
        return [
            node
            for node in marked
            if node.GetAttribute(ROLE) != "proxy" or any(browser.IsProxyNodeID(node.GetID()) for browser in browsers)
        ]

    def node(self, role: str):
        return next((node for node in self.nodes() if node.GetAttribute(ROLE) == role), None)

    def proxy(self, role: str):
        """The node that moves with the browser for the sequence of this role."""
        browser, sequence = self.node("browser"), self.node(role)
        return browser.GetProxyNode(sequence) if browser and sequence else None

    @property
    def browser(self):
        return self.node("browser")

    @property
    def sequence(self):
        return self.node("frames")

    @property
    def years(self) -> list[float]:
        master = self.browser.GetMasterSequenceNode()
        return [float(master.GetNthIndexValue(i)) for i in range(master.GetNumberOfDataNodes())]

    def remove(self, others: tuple = ()) -> None:
        """Take everything of this run, and `others`, out of the scene; views that showed it show the scan again."""
        if self.browser is not None:
            self.browser.SetPlaybackActive(False)  # first: changing a browser may make proxies anew
        nodes = list(dict.fromkeys([*self.nodes(), *others]))
        Views.replace(nodes, self.browser.GetNodeReference(SCAN) if self.browser else None)
        Removal.remove(nodes, RUN, self.identifier)


def runs() -> list[Run]:
    """Runs in the scene, in the order of their making."""
    scene = slicer.mrmlScene
    browsers = [
        scene.GetNthNodeByClass(i, "vtkMRMLSequenceBrowserNode")
        for i in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode"))
    ]
    found = [browser.GetAttribute(RUN) for browser in browsers if browser.GetAttribute(ROLE) == "browser"]
    return [Run(identifier) for identifier in found if identifier]


class Importer:
    """Brings one output folder into the scene, in steps of a few milliseconds.

    Attributes:
        shown: the slice views show the forecast's first frame.
    """

    def __init__(self, folder: Path, scan: Nodes.Snapshot, labels: dict, others: list[str], moving: bool) -> None:
        self.folder, self.scan, self.labels, self.others, self.moving = folder, scan, labels, others, moving
        self.run = Run(uuid.uuid4().hex[:12])
        self.facts = self._facts()
        self.years = [float(year) for year in self.facts["years"]]
        self.run.warnings = [str(warning) for warning in self.facts.get("warnings", [])]
        self.shown = False
        self._kept: list = []

    def _facts(self) -> dict:
        try:
            facts = json.loads((self.folder / "forecast.json").read_text(encoding="utf-8"))
            facts["years"][0]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Problem(
                f"The forecast left no readable forecast.json ({error}). Open the log and try again."
            ) from error
        return facts

    def steps(self) -> Iterator[Step]:
        """Yields (fraction, what is being done). An error or an early close leaves the scene as it was."""
        views = Views.Remembered()
        try:
            yield from self._steps()
        except BaseException:
            self.run.remove(tuple(self._kept))
            views.restore()
            raise

    def _steps(self) -> Iterator[Step]:
        self._makeFolder()
        yield 0.0, "Loading the forecast"
        if self.moving:
            yield from self._movingVolume()
        else:
            yield from self._frames("frames", "forecast.nii.gz", f"{self.scan.name} forecast", 0.05, 0.4)
        yield 0.4, "Loading the volumes"
        VolumesTable.build(self)
        yield 0.4, "Loading the report"
        report = self.folder / "report.html"
        if report.is_file():
            text = slicer.vtkMRMLTextNode()
            text.SetName(f"{self.scan.name} forecast report")
            text.SetText(report.read_text(encoding="utf-8"))
            self.keep(slicer.mrmlScene.AddNode(text), "report")
            yield 0.4, "Loading the report"
        yield from self._frames("change", "volume_change.nii.gz", f"{self.scan.name} volume change (%)", 0.4, 0.55)
        yield from self._frames(
            "uncertainty", "volume_change_spread.nii.gz", f"{self.scan.name} uncertainty (%)", 0.55, 0.7
        )
        label = "vtkMRMLLabelMapVolumeNode"
        yield from self._frames(
            "segmentation", "segmentation.nii.gz", f"{self.scan.name} segmentation", 0.7, 0.8, label
        )
        for index, (name, path) in enumerate(zip(self.others, self._otherFiles(), strict=False)):
            yield from self._frames(f"other{index}", path.name, f"{name} forecast", 0.8, 0.85)
        if not self.moving:
            yield from self._transforms(0.85, 1.0)
        self.browser.SetSelectedItemNumber(0)
        yield 1.0, "Done"

    # the folder, and what every node of the run carries

    def _makeFolder(self) -> None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        parents = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), parents, True)
        gone = parents.IsId(self.scan.parentItem) < 0  # anything may have been removed since Forecast was pressed
        parent = hierarchy.GetSceneItemID() if gone else self.scan.parentItem
        self.run.folderItem = hierarchy.CreateFolderItem(parent, f"{self.scan.name} forecast")
        hierarchy.SetItemAttribute(self.run.folderItem, RUN, self.run.identifier)

    def keep(self, node, role: str):
        """Mark a node as part of the run, with its provenance, and put it into the folder."""
        self._kept.append(node)
        node.SetAttribute(RUN, self.run.identifier)
        node.SetAttribute(ROLE, role)
        for name, value in self.provenance().items():
            node.SetAttribute(f"Neuro4D.{name}", value)
        if not node.IsA("vtkMRMLPlotSeriesNode"):
            hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
            item = hierarchy.GetItemByDataNode(node)
            if item:
                hierarchy.SetItemParent(item, self.run.folderItem)
            else:  # without the application nothing makes items by itself
                hierarchy.CreateItem(self.run.folderItem, node)
        return node

    def provenance(self) -> dict[str, str]:
        model = self.facts.get("model") or {}
        as_text = {
            key: json.dumps(self.facts.get(key), ensure_ascii=False) for key in ("covariates", "fold_certificate")
        }
        return {
            "Note": NOTE,
            "Model": str(model.get("name", "")),
            "ModelSha256": str(model.get("sha256", "")),
            "Seed": str(self.facts.get("seed", "")),
            "Futures": str(self.facts.get("futures", "")),
            "Covariates": as_text["covariates"],
            "FoldCertificate": as_text["fold_certificate"],
            "Scan": self.scan.name,
        }

    # sequences

    def _sequence(self, role: str, name: str):
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", f"{name} sequence")
        sequence.SetIndexName(INDEX_NAME)
        sequence.SetIndexUnit(INDEX_UNIT)
        return self.keep(sequence, role)

    @property
    def browser(self):
        return self.run.browser

    def _add(self, sequence, node, year: float) -> None:
        node.SetAttribute("Neuro4D.Years", f"{year:g}")
        node.SetAttribute("Neuro4D.Kind", "observed" if year == 0 else "forecast")
        node.SetAttribute(RUN, self.run.identifier)
        node.SetAttribute(ROLE, "proxy")
        for name, value in self.provenance().items():
            node.SetAttribute(f"Neuro4D.{name}", value)
        sequence.SetDataNodeAtValue(node, f"{year:g}")

    def _attach(self, sequence) -> None:
        """Let the browser play this sequence; the first one becomes its master."""
        browser = self.browser
        if browser is None and self.shown:
            raise Problem("The forecast was removed from the scene while it was being loaded. Press Forecast again.")
        if browser is None:
            browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{self.scan.name} forecast")
            browser.SetPlaybackRateFps(FRAMES_PER_SECOND)
            browser.SetPlaybackLooped(True)
            self.keep(browser, "browser")
            browser.SetNodeReferenceID(SCAN, self.scan.nodeID or None)
            browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        else:
            browser.AddSynchronizedSequenceNode(sequence)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        proxy = browser.GetProxyNode(sequence)
        proxy.SetName(sequence.GetName().removesuffix(" sequence"))
        self.keep(proxy, "proxy")

    def _frames(self, role, file, name, start, end, kind="vtkMRMLScalarVolumeNode") -> Iterator[Step]:
        """One 4D file as a sequence beside the others. A file of the years ahead gets an empty frame for the scan."""
        path = self.folder / file
        if not path.is_file():
            return
        image = FourD.header(path)
        step = COARSER if self.moving and role in ("change", "uncertainty") else 1
        affine = self._affineOf(image) @ np.diag([step, step, step, 1.0])
        count = image.shape[3] if len(image.shape) > 3 else 1
        years = self._yearsFor(count, path)
        sequence, done, last = self._sequence(role, name), 0, None
        # Slicer measures the brightness of a whole volume when it first shows one, which takes long: show a tiny one.
        tiny = np.zeros((2, 2, 2), image.get_data_dtype())
        self._add(sequence, Nodes.volumeNode(tiny, affine, name, kind), 0.0)
        if role == "frames":
            self._attach(sequence)
            self._display(role, sequence, tiny)
        for frame in FourD.frames(path, image, step):
            if frame is not None:
                last = Nodes.storable(frame)
                node = Nodes.volumeNode(last, affine, name, kind, copy=False)
                yield start + (end - start) * done / count, f"Loading {name}"
                self._add(sequence, node, years[done])
                done += 1
                if role == "frames" and not self.shown:
                    self.show()
                yield start + (end - start) * done / count, f"Loading {name}"
            yield start + (end - start) * done / count, f"Loading {name}"
        if role != "frames":  # playing it only when it is complete saves copying every new frame
            self._attach(sequence)
            yield end, f"Loading {name}"
            self._display(role, sequence, last)
            yield end, f"Loading {name}"
        if years[0] > 0:
            nothing = np.zeros(last.shape, last.dtype, order="F")
            self._add(sequence, Nodes.volumeNode(nothing, affine, name, kind, copy=False), 0.0)
            yield end, f"Loading {name}"

    def _yearsFor(self, count: int, path: Path) -> list[float]:
        if count == len(self.years) + 1:
            return [0.0, *self.years]
        if count == len(self.years):
            return self.years
        raise Problem(f"{path.name} has {count} frames for {len(self.years)} years. Open the log and try again.")

    def _affineOf(self, image) -> np.ndarray:
        """The scan's own matrix where the file is on its grid: a NIfTI header rounds to float32."""
        same = image.shape[:3] == self.scan.array.shape
        corner = np.array([*self.scan.array.shape, 1.0])
        if same and np.abs(image.affine @ corner - self.scan.affine @ corner).max() < 0.01:
            return self.scan.affine
        return np.asarray(image.affine, float)

    def _otherFiles(self) -> list[Path]:
        """Warped other modalities, in the order in which they were handed over as also0.nii, also1.nii, ..."""
        found = (sorted(self.folder.glob(f"*also{index}*.nii.gz")) for index in range(len(self.others)))
        return [files[0] for files in found if files]

    # the transforms behind the frames

    def _displacementFiles(self) -> list[Path]:
        return sorted(self.folder.glob("displacement*.nii.gz"), key=_yearInName)

    def _transforms(self, start: float, end: float) -> Iterator[Step]:
        """A grid transform a year, on the coarse grid of the worker's displacement fields."""
        files = self._displacementFiles()
        if not files:
            return
        sequence, done, total = self._sequence("transform", f"{self.scan.name} forecast transform"), 0, len(self.years)
        for path in files:
            image = FourD.header(path)
            affine = np.asarray(image.affine, float)
            for frame in FourD.frames(path, image):
                if frame is not None:
                    field = np.asarray(frame, np.float32)
                    if done == 0:
                        self._add(sequence, Nodes.gridTransformNode(np.zeros_like(field), affine, "transform"), 0.0)
                    self._add(sequence, Nodes.gridTransformNode(field, affine, "transform"), self.years[done])
                    done += 1
                yield start + (end - start) * done / total, "Loading the transforms"
        self._attach(sequence)

    def _movingVolume(self) -> Iterator[Step]:
        """One copy of the scan that the transform of the current year moves: little memory, same picture."""
        yield from self._transforms(0.05, 0.4)
        if self.browser is None:
            raise Problem("The forecast has no displacement fields, so the memory-saving playback is not possible.")
        volume = Nodes.volumeNode(self.scan.array, self.scan.affine, f"{self.scan.name} forecast")
        display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        display.SetAutoWindowLevel(False)  # before it has a volume to measure, which would take long
        volume = self.keep(slicer.mrmlScene.AddNode(volume), "moving")
        volume.SetAndObserveDisplayNodeID(display.GetID())
        volume.SetAndObserveTransformNodeID(self.run.proxy("transform").GetID())
        self._displayAsScan(volume)
        self.show()

    # how it looks

    def shownVolume(self):
        return self.run.node("moving") or self.run.proxy("frames")

    def _displayAsScan(self, volume) -> None:
        display = volume.GetScalarVolumeDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(self.scan.window, self.scan.level)
        display.SetAndObserveColorNodeID(self.scan.colorNodeID)

    def _display(self, role: str, sequence, frame: np.ndarray) -> None:
        proxy = self.browser.GetProxyNode(sequence)
        proxy.CreateDefaultDisplayNodes()
        if role == "frames":
            self._displayAsScan(proxy)
        elif role in ("change", "uncertainty"):
            Colors.showChange(self, proxy, frame, signed=role == "change")
        elif role == "segmentation" and self.labels:
            Colors.showLabels(self, proxy, self.labels)

    def show(self) -> None:
        """The forecast in the slice views, and its browser in Slicer's own tool bar."""
        Views.show(self.shownVolume())
        self.shown = True
        module = slicer.modules.sequences
        if hasattr(module, "showSequenceBrowser"):
            module.showSequenceBrowser(self.browser)


def _yearInName(path: Path) -> float:
    digits = "".join(c if c.isdigit() or c == "." else " " for c in path.name.removesuffix(".nii.gz")).split()
    return float(digits[-1].strip(".") or 0) if digits else 0.0
