"""What the slice views show: remembered to be put back, shown alone, or replaced where it is about to go."""

import slicer
import vtk


class Remembered:
    """Layers, opacities and place of every slice view, as they are now."""

    def __init__(self) -> None:
        self._layers = [(node, _layersOf(node)) for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")]
        self._places = [(node, _placeOf(node)) for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")]

    def restore(self) -> None:
        """Put everything back; a volume that is no longer in the scene leaves its layer empty."""
        for node, layers in self._layers:
            background, foreground, label = (_present(identifier) for identifier in layers[:3])
            node.SetBackgroundVolumeID(background)
            node.SetForegroundVolumeID(foreground)
            node.SetLabelVolumeID(label)
            node.SetForegroundOpacity(layers[3])
            node.SetLabelOpacity(layers[4])
            node.SetCompositing(layers[5])
        for node, (matrix, fieldOfView) in self._places:
            node.GetSliceToRAS().DeepCopy(matrix)
            node.SetFieldOfView(*fieldOfView)
            node.UpdateMatrices()


def _layersOf(node) -> tuple:
    identifiers = (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID(), node.GetLabelVolumeID())
    return (*identifiers, node.GetForegroundOpacity(), node.GetLabelOpacity(), node.GetCompositing())


def _placeOf(node) -> tuple:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(node.GetSliceToRAS())
    return matrix, node.GetFieldOfView()


def _present(identifier):
    return identifier if identifier and slicer.mrmlScene.GetNodeByID(identifier) is not None else None


def show(volume) -> None:
    """A volume alone in all slice views, fitted to them."""
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None)
    logics = slicer.app.applicationLogic().GetSliceLogics()
    for index in range(logics.GetNumberOfItems()):
        logic = logics.GetItemAsObject(index)
        logic.FitSliceToBackground()
        logic.SnapSliceOffsetToIJK()


def replace(nodes: list, volume) -> None:
    """Where one of these nodes is the background, `volume` comes in its place (nothing, if None), without overlays."""
    going = {node.GetID() for node in nodes}
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetBackgroundVolumeID() in going:
            composite.SetBackgroundVolumeID(volume.GetID() if volume is not None else None)
            composite.SetForegroundVolumeID(None)
            composite.SetLabelVolumeID(None)
            composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)
