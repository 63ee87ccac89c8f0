"""Pictures of the slice views, composed by Slicer's own slice logic; needs neither a window nor OpenGL."""

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

LABEL_HEIGHT = 24


def picture(view: str = "Red") -> np.ndarray:
    """[height, width, 3] of what a slice view shows now."""
    node = slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{view}")
    connection = slicer.app.applicationLogic().GetSliceLogic(node).GetImageDataConnection()
    if connection is None:
        return np.zeros((256, 256, 3), np.uint8)
    producer = connection.GetProducer()
    producer.Update()
    image = producer.GetOutputDataObject(connection.GetIndex())
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()


def row(views: list[str]) -> np.ndarray:
    """Several views beside each other, padded to one height."""
    pictures = [picture(view) for view in views]
    height = max(one.shape[0] for one in pictures)
    return np.hstack([np.pad(one, ((0, height - one.shape[0]), (0, 0), (0, 0))) for one in pictures])


def throughTheYears(run, views: list[str]) -> list[tuple[float, np.ndarray]]:
    """(year, picture) of each frame of a run; the browser is put back afterwards."""
    browser = run.browser
    before, found = browser.GetSelectedItemNumber(), []
    try:
        for index, year in enumerate(run.years):
            browser.SetSelectedItemNumber(index)
            slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
            found.append((year, row(views)))
    finally:
        browser.SetSelectedItemNumber(before)
    return found


def labeled(pixels: np.ndarray, text: str):
    """A Pillow image with a line of text above it."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(np.pad(pixels, ((LABEL_HEIGHT, 0), (0, 0), (0, 0))))
    try:
        font = ImageFont.load_default(size=14)
    except TypeError:  # Pillow before 10.1
        font = ImageFont.load_default()
    ImageDraw.Draw(image).text((8, 4), text, fill=(255, 220, 90), font=font)
    return image
