"""Slicer nodes <-> arrays with an affine. Slicer stores voxels as k, j, i; all else here is i, j, k and RAS mm."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from Neuro4DForecastLib.Problem import Problem

RUN = "Neuro4D.Run"  # on every node of a forecast: which one
OTHER_LABELS = "Choose another segmentation, or none."


@dataclass(frozen=True)
class Snapshot:
    """A volume as it was when Forecast was pressed: what happens to the node afterwards does not matter.

    `array` is i, j, k; `affine` takes i, j, k to RAS mm of the world, transforms included.
    """

    name: str
    nodeID: str
    array: np.ndarray
    affine: np.ndarray
    window: float
    level: float
    colorNodeID: str
    parentItem: int = 0


def matrixOf(node) -> np.ndarray:
    """i, j, k -> RAS of the node itself, without its transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def worldMatrixOf(node, field: str = "scan") -> np.ndarray:
    """i, j, k -> world; a linear transform is taken along, a bending one is a Problem."""
    transform = node.GetParentTransformNode()
    if transform is None:
        return matrixOf(node)
    if not transform.IsTransformToWorldLinear():
        raise Problem(
            f"“{node.GetName()}” is under the non-linear transform “{transform.GetName()}”. Harden it first "
            "(Data module, "
            "right click on the volume, Harden transform), or take the volume out of the transform.",
            field,
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    world = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    return world @ matrixOf(node)


def arrayOf(node) -> np.ndarray:
    """[I, J, K] view of a volume node's voxels."""
    image = node.GetImageData()
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    return scalars.reshape(image.GetDimensions(), order="F")


def problemWith(node, field: str = "scan") -> str | None:
    """Why this node cannot be used as a scan; None when it can."""
    if node is None:
        return "Choose a scan: a T1-weighted brain volume." if field == "scan" else "A volume is missing."
    name = f"“{node.GetName()}”"
    if node.GetAttribute(RUN):
        return f"{name} is part of a forecast. Choose the scan that the forecast was made from, or another one."
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        return f"{name} is not a volume."
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return f"{name} is a label map. Choose the scan itself; the label map can ride along as segmentation."
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        return f"{name} is empty. Load its file again."
    components = image.GetNumberOfScalarComponents()
    if node.IsA("vtkMRMLVectorVolumeNode") or components != 1:
        return f"{name} has {components} values in each voxel (a color or vector volume). Choose a scalar volume."
    if min(image.GetDimensions()) < 8:
        size = " × ".join(map(str, image.GetDimensions()))
        return f"{name} has {size} voxels. A brain scan with at least 8 along each axis is needed."
    try:
        affine = worldMatrixOf(node, field)
    except Problem as problem:
        return problem.sentence
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() < 1e-6:
        return (
            f"{name} has a geometry that cannot be inverted. Correct its spacing and directions in the Volumes module."
        )
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        return (
            f"{name} has a geometry that cannot be inverted. Correct its spacing and directions in the Volumes module."
        )
    low, high = image.GetPointData().GetScalars().GetRange()
    if low == high:
        return f"Every voxel of {name} has the same value, {low:g}. Choose a scan with an image in it."
    if not np.isfinite([low, high]).all():
        return f"{name} contains values that are not numbers. Replace them first, for example in Simple Filters."
    return None


def forecastVolumes() -> list[str]:
    """IDs of the volumes and label maps that belong to forecasts: nothing to forecast from."""
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    volumes = (scene.GetNthNodeByClass(index, "vtkMRMLScalarVolumeNode") for index in range(count))
    return [volume.GetID() for volume in volumes if volume.GetAttribute(RUN)]


def snapshot(node, field: str = "scan") -> Snapshot:
    """A copy of the voxels and of how they are shown; raises a Problem if the node cannot be used."""
    sentence = problemWith(node, field)
    if sentence:
        raise Problem(sentence, field)
    display = node.GetScalarVolumeDisplayNode()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    low, high = node.GetImageData().GetScalarRange()
    return Snapshot(
        name=node.GetName(),
        nodeID=node.GetID() or "",
        array=arrayOf(node).copy(order="F"),
        affine=worldMatrixOf(node, field),
        window=display.GetWindow() if display else high - low,
        level=display.GetLevel() if display else (high + low) / 2,
        colorNodeID=(display.GetColorNodeID() if display else None) or "vtkMRMLColorTableNodeGrey",
        parentItem=hierarchy.GetItemParent(item) if item else 0,
    )


def problemWithLabels(node) -> str | None:
    """Why this segmentation or label map cannot ride along; None when it can, or when there is none."""
    if node is None:
        return None
    name, other = f"“{node.GetName()}”", OTHER_LABELS
    if node.GetAttribute(RUN):
        return f"{name} is part of a forecast. {other}"
    if not node.IsA("vtkMRMLLabelMapVolumeNode"):
        return None if node.GetSegmentation().GetNumberOfSegments() else f"{name} has no segments. {other}"
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return f"{name} is empty. {other}"
    try:
        affine = worldMatrixOf(node, "segmentation")
    except Problem as problem:
        return problem.sentence
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return f"{name} has a geometry that cannot be inverted. {other}"
    return None if image.GetScalarRange()[1] > 0 else f"{name} has no label in it. {other}"


def labelSnapshot(node, scan: Snapshot) -> tuple[np.ndarray, dict[int, tuple[str, tuple]]]:
    """A segmentation or label map on the scan's voxels: (labels i, j, k; label -> (name, color))."""
    sentence = problemWithLabels(node)
    if sentence:
        raise Problem(sentence, "segmentation")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        colors, names = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() else None, {}
        array = onGridOf(scan, node)
        for value in np.unique(array[array > 0]).tolist():
            color = [0.0] * 4
            if colors is not None:
                colors.GetColor(int(value), color)
            names[int(value)] = (colors.GetColorName(int(value)) if colors else str(value), tuple(color[:3]))
        return array, names
    return segmentsOn(scan, node)


def segmentsOn(scan: Snapshot, node) -> tuple[np.ndarray, dict[int, tuple[str, tuple]]]:
    """The segments of a segmentation node as one label map on the scan's voxels; of two that overlap, the later."""
    scene, segmentation, identifiers = slicer.mrmlScene, node.GetSegmentation(), vtk.vtkStringArray()
    segmentation.GetSegmentIDs(identifiers)
    reference = scene.AddNode(volumeNode(scan.array, scan.affine, scan.name))
    exported = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    try:
        export = slicer.modules.segmentations.logic().ExportSegmentsToLabelmapNode
        if not export(node, identifiers, exported, reference):
            raise Problem(f"“{node.GetName()}” could not be made a label map. {OTHER_LABELS}", "segmentation")
        labels = arrayOf(exported).copy(order="F")
    finally:
        display = exported.GetDisplayNode()
        colors = display.GetColorNode() if display is not None else None
        for temporary in (exported, reference, display, colors):
            if temporary is not None:
                scene.RemoveNode(temporary)
    segments = [segmentation.GetSegment(identifiers.GetValue(i)) for i in range(identifiers.GetNumberOfValues())]
    return labels, {index: (segment.GetName(), tuple(segment.GetColor())) for index, segment in enumerate(segments, 1)}


def onGridOf(scan: Snapshot, labelmap) -> np.ndarray:
    """A label map's nearest label at each voxel of the scan; a copy."""
    way = np.linalg.inv(worldMatrixOf(labelmap, "segmentation")) @ scan.affine
    array = arrayOf(labelmap)
    if array.shape == scan.array.shape and np.abs(way - np.eye(4)).max() < 1e-4:
        return array.copy(order="F")
    transform, matrix = vtk.vtkTransform(), vtk.vtkMatrix4x4()
    matrix.DeepCopy(way.ravel().tolist())
    transform.SetMatrix(matrix)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(imageData(array))
    reslice.SetResliceTransform(transform)
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputExtent(*(bound for size in scan.array.shape for bound in (0, size - 1)))
    reslice.Update()
    scalars = vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars())
    return scalars.reshape(scan.array.shape, order="F").copy(order="F")


def imageData(array: np.ndarray, copy: bool = True) -> vtk.vtkImageData:
    """vtkImageData of an [I, J, K] (or [I, J, K, 3]) array; without `copy` the array must outlive it."""
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[:3])
    flat = array.reshape(-1, *array.shape[3:], order="F") if array.ndim == 3 else _components(array)
    scalars = numpy_to_vtk(np.ascontiguousarray(flat), deep=int(copy), array_type=get_vtk_array_type(flat.dtype))
    image.GetPointData().SetScalars(scalars)
    return image


def _components(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 1, 0, 3).reshape(-1, array.shape[3])


def setMatrix(node, affine: np.ndarray) -> None:
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(affine[row, column]))
    node.SetIJKToRASMatrix(matrix)


def storable(array: np.ndarray) -> np.ndarray:
    """Voxel types that every part of Slicer shows and saves."""
    kinds = {"bool": np.uint8, "float16": np.float32, "int64": np.int32, "uint64": np.uint32}
    return array.astype(kinds[array.dtype.name]) if array.dtype.name in kinds else array


def volumeNode(array, affine: np.ndarray, name: str, kind: str = "vtkMRMLScalarVolumeNode", copy: bool = True):
    """A volume node that is not in any scene; without `copy` the array must outlive it."""
    node = getattr(slicer, kind)()
    node.SetName(name)
    node.SetAndObserveImageData(imageData(storable(array), copy))
    setMatrix(node, affine)
    return node


def gridTransformNode(displacement: np.ndarray, affine: np.ndarray, name: str):
    """A grid transform node from u [I, J, K, 3] in RAS mm, where out(x) = image(x + u(x)): from parent."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = imageData(displacement)
    image.SetSpacing(*spacing)
    image.SetOrigin(*affine[:3, 3])
    directions = vtk.vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            directions.SetElement(row, column, affine[row, column] / spacing[column])
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(directions)
    grid.SetInterpolationModeToCubic()  # as Slicer reads grid transforms from files, so a saved scene plays the same
    # Not the class vtkMRMLGridTransformNode: a saved sequence of transforms comes back as plain transform nodes, and a
    # browser whose sequence has nodes of another class makes a new proxy, so that what rode along would stay behind.
    node = slicer.vtkMRMLTransformNode()
    node.SetName(name)
    node.SetAndObserveTransformFromParent(grid)
    return node


def writeNifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Uncompressed, for the worker: compressing takes longer than writing."""
    import nibabel

    image = nibabel.Nifti1Image(storable(array), affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
