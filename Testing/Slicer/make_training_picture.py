"""The picture of the training panel: a real run on simulated people, some minutes old, with a real example forecast.

    python Testing/Slicer/make_training_picture.py [--run DIR] [--output docs/pictures]       (part of `make pictures`)

The network is a small one, so that its curves move in minutes. The stand-in has no plot views: the curves are drawn by
matplotlib from the nodes of the chart that Slicer would show.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "Neuro4DForecast"), str(ROOT)]
VIEW_SIZE = (430, 400)
LINE = 16
STEPS, SHOWN_AT = 400, 100
SETTINGS = {
    "training": {"prior_steps": 20, "validation_people": 18, "gate_people": 0},
    "model": {"widths": [8, 16], "condition": 32},
}


def open_run(run: Path):
    """The panel, with the training begun through its widgets."""
    import stand_in
    from make_pictures import slicer_logics
    from stand_in.application import load_module, open_panel, temporary_folder

    app = stand_in.install(temporary_folder())
    load_module(ROOT / "Neuro4DForecast" / "Neuro4DForecast.py")
    module = load_module(ROOT / "Neuro4DTraining" / "Neuro4DTraining.py")
    for logic in slicer_logics():
        logic.ResizeSliceNode(*VIEW_SIZE)
    panel = open_panel(module)
    settings = Path(app.temporaryPath) / "settings.json"
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    ui = panel.ui
    ui.sourceCombo.setCurrentIndex(1)
    ui.startCombo.setCurrentIndex(1)
    ui.settingsFileEdit.text = str(settings)
    ui.stepsSpin.value, ui.peopleSpin.value, ui.validateSpin.value, ui.saveSpin.value = STEPS, 4, 10, 10
    ui.outputEdit.text = str(run)
    ui.trainButton.click()
    return app, panel


def wait(app, panel, condition, seconds: float = 1800) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        state = panel.run.controls.state.value
        if state in ("failed", "not started") or time.monotonic() > deadline:
            raise SystemExit(f"{state}: {panel.ui.statusLabel.text}\n{panel.log()[-2000:]}")
        app.processEvents()
        time.sleep(0.005)


def curves(chart, size: tuple[int, int]):
    """A plot chart's series as a Pillow image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from Neuro4DForecastLib import VolumesTable
    from PIL import Image

    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    styles = {1: "none", 2: "-", 3: "--", 4: ":", 5: "-."}
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        table = series.GetTableNode()
        axes.plot(
            VolumesTable.column(table, series.GetXColumnName()),
            VolumesTable.column(table, series.GetYColumnName()),
            color=series.GetColor(),
            linewidth=series.GetLineWidth() / 2,
            linestyle=styles[series.GetLineStyle() + 1],
            label=series.GetName(),
        )
    axes.set_title(chart.GetTitle(), fontsize=10)
    axes.set_xlabel(chart.GetXAxisTitle(), fontsize=9)
    axes.set_ylabel(chart.GetYAxisTitle(), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def page(app, panel):
    """Panel, three slice views and curves as Slicer's layout “Four-Up Plot” has them."""
    from make_pictures import panel_picture
    from Neuro4DForecastLib import Export, SlicePictures
    from PIL import Image

    panel_picture(app, panel)
    panel.parent.resize(440, panel.parent.height + 3 * LINE)  # what wraps is not part of the least height
    app.processEvents()
    panel.parent.grab().save(f"{app.temporaryPath}/panel.png")
    side = Image.open(f"{app.temporaryPath}/panel.png").convert("RGB")
    width, height = VIEW_SIZE
    views = [Image.fromarray(SlicePictures.picture(view)) for view in Export.VIEWS]
    corner = SlicePictures.labeled(
        np.zeros((1, 2 * width, 3), np.uint8), "example forecast, +5 years   simulated, research use only"
    )
    whole = Image.new("RGB", (side.width + 2 * width, max(side.height, corner.height + 2 * height)), (0, 0, 0))
    whole.paste(side, (0, 0))
    whole.paste(corner, (side.width, 0))
    for index, image in enumerate([*views, curves(panel.run.curves.chart, VIEW_SIZE)]):
        place = (side.width + width * (index % 2), corner.height + height * (index // 2))
        whole.paste(image, place)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of a run to go on with")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    run = options.run or Path(tempfile.mkdtemp()) / "cohort-run"
    app, panel = open_run(run.resolve())
    try:
        wait(app, panel, lambda: panel.run.log.last.get("step", 0) >= SHOWN_AT and panel.ui.exampleButton.enabled)
        panel.ui.exampleButton.click()
        wait(app, panel, lambda: panel.run.example is not None and not panel.run.example.active)
        if panel.run.example.result is None:
            raise SystemExit(panel.ui.exampleLabel.text)
        browser = panel.run.example.result.browser
        browser.SetSelectedItemNumber(browser.GetNumberOfItems() - 1)
        panel.run.showCurves()
        panel.poll()
        panel.ui.outputEdit.blockSignals(True)
        panel.ui.outputEdit.text = f"/data/{run.name}"  # no path of this machine in the picture
        page(app, panel).save(options.output / "training_panel.png", optimize=True)
    finally:
        panel.run.controls.work.stop()
    path = options.output / "training_panel.png"
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
