"""Pictures for README and Extensions Index, made from the real panel and real slice views: `make pictures`.

    python Testing/Slicer/make_pictures.py [--scan SCAN.nii.gz] [--output docs/pictures]

Without a model of the library (or with --fake) the stand-in worker draws a shifted scan, and the pictures say so.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VIEW_SIZE, THUMBNAIL_SIZE = (520, 400), (260, 280)
sys.path[:0] = [str(HERE), str(ROOT / "Neuro4DForecast"), str(ROOT)]


def icon(side: int = 128, letter: str = ""):
    """A brain-like outline that shrinks through the years: four nested curves from dark to bright."""
    from PIL import Image, ImageDraw, ImageFont

    scale = 8
    image = Image.new("RGBA", (side * scale, side * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, side * scale - 1, side * scale - 1), side * scale // 6, fill=(22, 32, 62, 255))
    center = side * scale / 2
    for step in range(4):
        radius = side * scale * (0.42 - 0.055 * step)
        points = []
        for degree in range(360):
            angle = math.radians(degree)
            ripple = 1 + 0.035 * math.sin(11 * angle) * (1 - 0.1 * step)
            ripple -= 0.09 * math.exp(-(((degree - 270 + 180) % 360 - 180) ** 2) / 60)
            points.append(
                (center + radius * 0.88 * ripple * math.cos(angle), center + radius * ripple * math.sin(angle))
            )
        color = [(90, 120, 190), (120, 160, 215), (170, 200, 235), (245, 205, 110)][step]
        draw.line([*points, points[0]], fill=(*color, 255), width=int(side * scale * 0.028), joint="curve")
    small = image.resize((side, side), Image.LANCZOS)
    if letter:
        font = ImageFont.load_default(size=side * 0.3)
        ImageDraw.Draw(small).text((side / 2, side / 2), letter, fill=(245, 205, 110), font=font, anchor="mm")
    return small


def thumbnail(scan: Path):
    """The scan's middle from the side, of the size that Slicer's Sample Data module shows."""
    import nibabel
    from PIL import Image, ImageOps

    image = nibabel.as_closest_canonical(nibabel.load(scan))
    middle = np.asarray(image.dataobj[image.shape[0] // 2], np.float32).T[::-1]  # anterior on the right
    bright = np.clip(255 * middle / np.percentile(middle[middle > 0], 99.5), 0, 255).astype(np.uint8)
    return ImageOps.pad(Image.fromarray(bright), THUMBNAIL_SIZE, Image.LANCZOS)


def shipped_scans() -> list[Path]:
    """Reference images of the shipped models, the default model's first."""
    from Neuro4DForecastLib import Models

    return [path for model in Models.shipped() for path in sorted(model.folder.glob("*T1*.nii.gz"))]


def write_icons(output: Path) -> None:
    icon().save(output / "Neuro4D.png")
    icons = ROOT / "Neuro4DForecast" / "Resources" / "Icons"
    icon().save(icons / "Neuro4DForecast.png")
    for sample in shipped_scans()[:1]:
        thumbnail(sample).save(icons / "Neuro4DSampleBrain.png", optimize=True)
    icon(letter="T").save(ROOT / "Neuro4DTraining" / "Resources" / "Icons" / "Neuro4DTraining.png")


def open_forecast(scan: Path, fake: bool):
    """The panel with a finished forecast, all through its widgets."""
    import slicer
    import stand_in
    from stand_in.application import load_module, open_panel, temporary_folder

    app = stand_in.install(temporary_folder())
    module = load_module(ROOT / "Neuro4DForecast" / "Neuro4DForecast.py")
    for logic in slicer_logics():
        logic.ResizeSliceNode(*VIEW_SIZE)
    node = slicer.modules.volumes.logic().AddArchetypeVolume(str(scan), "T1", 0)
    panel = open_panel(module)
    panel.ui.scanSelector.setCurrentNode(node)
    for edit, text in (("ageEdit", "74"), ("educationEdit", "16"), ("yearsEdit", "1-6")):
        getattr(panel.ui, edit).text = text
    panel.ui.diagnosisCombo.setCurrentIndex(2)
    if fake:
        panel.logic.worker = [sys.executable, str(HERE / "fake_worker.py")]
        folder = Path(app.temporaryPath) / "stand-in"
        folder.mkdir()
        (folder / "card.json").write_text('{"name": "stand-in", "limits": "a shifted scan, no forecast"}')
        (folder / "weights.safetensors").write_bytes(b"")
        panel.logic.getParameterNode().model = str(folder)
    panel.ui.forecastButton.click()
    if not panel.run.running:
        raise SystemExit(panel.ui.statusLabel.text or panel.ui.forecastButton.toolTip)
    deadline = time.monotonic() + 1800
    while panel.run.running and time.monotonic() < deadline:
        app.processEvents()
        time.sleep(0.002)
    if panel.playback.run is None:
        raise SystemExit(panel.ui.statusLabel.text)
    panel.ui.playButton.checked = False
    return app, panel


def slicer_logics():
    import slicer

    logics = slicer.app.applicationLogic().GetSliceLogics()
    return [logics.GetItemAsObject(index) for index in range(logics.GetNumberOfItems())]


def panel_picture(app, panel):
    """The panel as a Pillow image."""
    from PIL import Image

    app.processEvents()
    panel.parent.adjustSize()
    panel.parent.resize(440, panel.parent.minimumSizeHint().height())
    app.processEvents()
    file = Path(app.temporaryPath) / "panel.png"
    panel.parent.grab().save(str(file))
    with Image.open(file) as image:
        return image.convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--icons-only", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    write_icons(options.output)
    if options.icons_only:
        return
    from Neuro4DForecastLib import Models

    shipped = Models.shipped()
    fake = options.fake or not shipped
    references = shipped_scans()
    if options.scan is None and not references:
        raise SystemExit("Name a scan with --scan: no model with a reference image is shipped.")
    app, panel = open_forecast(options.scan or references[0], fake)
    draw(app, panel, options.output)


def draw(app, panel, output: Path) -> None:
    from Neuro4DForecastLib import Export, SlicePictures
    from PIL import Image

    run = panel.playback.run
    panel.ui.overlayCombo.setCurrentText("Volume change (%)")
    panel.ui.overlayCombo.activated.emit(panel.ui.overlayCombo.currentIndex)
    frames = []
    for index, year in enumerate(run.years):
        panel.ui.yearSlider.value = index
        side = panel_picture(app, panel)
        views = np.vstack([SlicePictures.picture(view) for view in Export.VIEWS])
        title = "scan" if year == 0 else f"+{year:g} years"
        views = SlicePictures.labeled(views, f"{title}   simulated, research use only")
        page = Image.new("RGB", (side.width + views.width, max(side.height, views.height)), (0, 0, 0))
        page.paste(side, (0, 0))
        page.paste(views, (side.width, (page.height - views.height) // 2))
        frames.append(page)
    frames[0].save(output / "panel.png", optimize=True)
    frames[-1].save(output / "forecast.png", optimize=True)
    small = [frame.resize((frame.width * 2 // 3, frame.height * 2 // 3)).quantize(128) for frame in frames]
    small[0].save(output / "forecast.gif", save_all=True, append_images=small[1:], duration=500, loop=0)
    print(*(f"{path.name}: {path.stat().st_size / 1000:.0f} kB" for path in sorted(output.iterdir())), sep="\n")


if __name__ == "__main__":
    main()
