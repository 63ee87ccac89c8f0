"""Colors of volume change, uncertainty and labels."""

import numpy as np
import slicer

SIZE = 256  # an even number: the table then has an entry for exactly no change
LOSS, GROWTH = (1.0, 0.1, 0.0), (0.0, 0.35, 1.0)
LEAST_RANGE_PERCENT = 2.0


def table(name: str, colors: np.ndarray):
    """A color table node of RGBA rows, each 0 to 1."""
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetNumberOfColors(len(colors))
    for index, (red, green, blue, opacity) in enumerate(colors.tolist()):
        node.SetColor(index, f"{index}", red, green, blue, opacity)
    node.SetHideFromEditors(True)
    return slicer.mrmlScene.AddNode(node)


# Slice views ignore the opacity in a color table. Overlays are therefore added to the scan, and black adds nothing.
def changeColors() -> np.ndarray:
    """From loss (red) over nothing (black) to growth (blue)."""
    position = np.linspace(-1, 1, SIZE + 1)[:, None]
    colors = np.where(position < 0, LOSS, GROWTH) * np.abs(position)
    return np.column_stack([colors, np.ones(SIZE + 1)])


def spreadColors() -> np.ndarray:
    """From certain (black) to uncertain (yellow)."""
    position = np.linspace(0, 1, SIZE + 1)
    return np.column_stack([position, 0.8 * position**1.5, np.zeros(SIZE + 1), np.ones(SIZE + 1)])


def showChange(importer, proxy, frame: np.ndarray, signed: bool) -> None:
    """One color scale for all years, wide enough for the last one."""
    role = "changeColors" if signed else "uncertaintyColors"
    colors = importer.run.node(role)
    if colors is None:
        name = "Neuro4D volume change" if signed else "Neuro4D uncertainty"
        colors = table(name, changeColors() if signed else spreadColors())
        colors.SetAttribute("Neuro4D.Run", importer.run.identifier)
        colors.SetAttribute("Neuro4D.Role", role)
    sample = frame[::3, ::3, ::3][inHead(importer.scan.array, frame.shape)[::3, ::3, ::3]]
    sample = sample[np.isfinite(sample) & (sample != 0)]
    # Fluid spaces grow by far more than tissue shrinks, and loss is what one looks for: it sets the scale.
    sample = -sample[sample < 0] if signed and (sample < 0).any() else np.abs(sample)
    largest = float(np.percentile(sample, 95)) if sample.size else 0.0
    largest = float(np.ceil(max(largest, LEAST_RANGE_PERCENT)))
    display = proxy.GetScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(False)
    low = -largest if signed else 0.0
    display.SetWindowLevel(largest - low, (largest + low) / 2)
    display.SetAndObserveColorNodeID(colors.GetID())


def inHead(scan: np.ndarray, shape: tuple) -> np.ndarray:
    """Voxels of a map, on the scan's grid or every so many voxels of it, at which the scan is no dark background."""
    steps = (-(-whole // kept) for whole, kept in zip(scan.shape, shape, strict=True))
    seen = scan[tuple(slice(None, None, step) for step in steps)]
    few = seen[::3, ::3, ::3]
    return seen > few.min() + 0.1 * (np.percentile(few, 99) - few.min())


def showLabels(importer, proxy, labels: dict) -> None:
    """Names and colors of the segments on the label map."""
    colors = importer.run.node("labelColors")
    if colors is None:
        rows = np.zeros((max(labels) + 1, 4))
        for value, (_name, color) in labels.items():
            rows[value] = [*color, 1.0]
        colors = table(f"{importer.scan.name} segments", rows)
        for value, (name, _color) in labels.items():
            colors.SetColorName(value, name)
        colors.SetAttribute("Neuro4D.Run", importer.run.identifier)
        colors.SetAttribute("Neuro4D.Role", "labelColors")
    proxy.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
