"""Play, step and compare a run; the panel's buttons and any script call the same functions."""

import slicer

from Neuro4DForecastLib import VolumesTable

OVERLAYS = {"None": "", "Volume change (%)": "change", "Uncertainty (%)": "uncertainty", "Segmentation": "segmentation"}


def play(run, active: bool) -> None:
    run.browser.SetPlaybackActive(active)


def step(run, frames: int) -> None:
    play(run, False)
    run.browser.SelectNextItem(frames)


def showItem(run, index: int) -> None:
    run.browser.SetSelectedItemNumber(index)


def setSpeed(run, framesPerSecond: float) -> None:
    run.browser.SetPlaybackRateFps(framesPerSecond)


def overlays(run) -> list[str]:
    """Overlays that this run has."""
    return [title for title, role in OVERLAYS.items() if not role or run.node(role) is not None]


def showOverlay(run, title: str, opacity: float = 0.6) -> None:
    """Lay volume change, uncertainty or the segmentation over the forecast."""
    role = OVERLAYS[title]
    proxy = run.proxy(role) if role else None
    foreground = proxy if role in ("change", "uncertainty") else None
    label = proxy if role == "segmentation" else None
    background = run.node("moving") or run.proxy("frames")
    slicer.util.setSliceViewerLayers(
        background=background, foreground=foreground, label=label, foregroundOpacity=opacity, labelOpacity=0.5
    )
    adding = slicer.vtkMRMLSliceCompositeNode.Add if foreground is not None else slicer.vtkMRMLSliceCompositeNode.Alpha
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetCompositing(adding)


def legend(run, title: str) -> str:
    """What the colors of an overlay mean, as rich text; empty for overlays that need no scale."""
    role = OVERLAYS[title]
    proxy = run.proxy(role) if role in ("change", "uncertainty") else None
    if proxy is None:
        return ""
    display = proxy.GetScalarVolumeDisplayNode()
    most = f"{display.GetWindowLevelMax():g} % or more"
    if role == "uncertainty":
        return f'<font color="#b89000">■</font> {most}'
    return f'<font color="#d02000">■</font> loss of {most} &nbsp; <font color="#0060ff">■</font> growth of {most}'


def sideBySide(run) -> tuple:
    """The scan on the left, the year of the slider on the right; both views move together. Returns both volumes."""
    now = scanNode(run)
    then = run.node("moving") or run.proxy("frames")
    layout = slicer.app.layoutManager()
    if layout is not None:
        layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    for view, volume in (("Red", now), ("Yellow", then)):
        logic = slicer.app.applicationLogic().GetSliceLogic(slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{view}"))
        composite = logic.GetSliceCompositeNode()
        composite.SetLinkedControl(True)
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(None)
        composite.SetLabelVolumeID(None)
        logic.GetSliceNode().SetOrientation("Axial")
        composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)
        logic.FitSliceToBackground()
        logic.SnapSliceOffsetToIJK()
    return now, then


def scanNode(run):
    """Frame 0 as a volume that does not move: a second browser over the same sequence, resting at the scan."""
    if run.node("moving") is not None:
        return _stillVolume(run)
    browser = run.node("nowBrowser")
    if browser is None:
        scene, sequence = slicer.mrmlScene, run.sequence
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{run.browser.GetName()}: scan")
        mark(browser, run, "nowBrowser")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        browser.SetPlayback(sequence, False)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        browser.SetSelectedItemNumber(0)
        proxy = browser.GetProxyNode(sequence)
        proxy.SetName(f"{sequence.GetName().removesuffix(' sequence')}: scan")
        copyLook(run.proxy("frames"), proxy)
    return browser.GetProxyNode(run.sequence)


def _stillVolume(run):
    still = run.node("still")
    if still is None:
        moving = run.node("moving")
        still = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{moving.GetName()} scan")
        still.CopyOrientation(moving)
        still.SetAndObserveImageData(moving.GetImageData())  # shared: no second copy of the voxels
        mark(still, run, "still")
        copyLook(moving, still)
    return still


def mark(node, run, role: str) -> None:
    node.SetAttribute("Neuro4D.Run", run.identifier)
    node.SetAttribute("Neuro4D.Role", role)


def copyLook(source, target) -> None:
    target.CreateDefaultDisplayNodes()
    shown, copy = source.GetScalarVolumeDisplayNode(), target.GetScalarVolumeDisplayNode()
    copy.SetAutoWindowLevel(False)
    copy.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
    copy.SetAndObserveColorNodeID(shown.GetColorNodeID())


class Follower:
    """Calls back whenever the year of a run changes, and keeps the chart's marker there."""

    def __init__(self, run, changed=lambda item, year: None) -> None:
        self.run, self.changed, self._item = run, changed, -1
        self._browser = run.browser
        self._tag = self._browser.AddObserver("ModifiedEvent", self._modified)
        self._modified()

    def _modified(self, *_) -> None:
        item = self._browser.GetSelectedItemNumber()
        years = self.run.years if slicer.mrmlScene.IsNodePresent(self._browser) else []
        if item == self._item or not 0 <= item < len(years):
            return
        self._item = item
        VolumesTable.moveMarker(self.run)
        self.changed(item, years[item])

    def close(self) -> None:
        self._browser.RemoveObserver(self._tag)
