"""Regional volumes: the whole table, one chart of a chosen region, and a marker at the current year."""

import csv
import re

import slicer
import vtk

CHART = {  # series of the chart: (title, color, line style, width)
    "median": ("Median of the futures", (0.1, 0.3, 0.8), "solid", 3),
    "low_90": ("90 % of futures, lower", (0.45, 0.6, 0.95), "dash", 1),
    "high_90": ("90 % of futures, upper", (0.45, 0.6, 0.95), "dash", 1),
    "copy_last": ("No change", (0.5, 0.5, 0.5), "dot", 2),
    "group_rate": ("Group rate", (0.9, 0.55, 0.1), "dash-dot", 2),
}


def read(path) -> tuple[list[str], list[dict]]:
    """Columns and rows of volumes.csv; column names in small letters with underscores."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{tidy(key): value for key, value in row.items()} for row in csv.DictReader(file)]
    return (list(rows[0]) if rows else []), rows


def tidy(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower()).removesuffix("_mm3")


def build(importer) -> None:
    """Table, plot table, marker and chart of the run; nothing where the forecast has no volumes.csv."""
    path = importer.folder / "volumes.csv"
    if not path.is_file():
        return
    columns, rows = read(path)
    if not rows:
        return
    table = importer.keep(tableNode(columns, rows, f"{importer.scan.name} forecast volumes"), "volumes")
    plot = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"{importer.scan.name} forecast plot")
    marker = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"{importer.scan.name} forecast current year")
    importer.keep(plot, "plotTable")
    importer.keep(marker, "markerTable")
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", f"{importer.scan.name} forecast")
    importer.keep(chart, "chart")
    shown = [(name, *look) for name, look in CHART.items() if name in columns]
    for name, title, color, style, width in shown:
        importer.keep(seriesNode(chart, plot, name, title, color, style, width), "series")
    importer.keep(seriesNode(chart, marker, "volume", "Current year", (0.8, 0.1, 0.1), "solid", 1), "series")
    chart.SetXAxisTitle("Years from the scan")
    chart.SetYAxisTitle("Volume (mm³)")
    showRegion(importer.run, regions(table)[0])


def tableNode(columns: list[str], rows: list[dict], name: str):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    table = node.GetTable()
    for column in columns:
        values = [row[column] for row in rows]
        numeric = all(isNumber(value) for value in values)
        array = vtk.vtkDoubleArray() if numeric else vtk.vtkStringArray()
        array.SetName(column)
        for value in values:
            array.InsertNextValue(float(value or "nan") if numeric else value)
        table.AddColumn(array)
    node.SetLocked(True)
    return node


def isNumber(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def seriesNode(chart, table, column, title, color, style, width, x="year"):
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", title)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(x)
    series.SetYColumnName(column)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)  # a scatter plot has numbers on its x axis
    series.SetColor(*color)
    series.SetLineStyle(series.GetLineStyleFromString(style))
    series.SetMarkerStyle(series.MarkerStyleNone)
    series.SetLineWidth(width)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return series


def regions(table) -> list[str]:
    names = column(table, "region")
    return list(dict.fromkeys(names))


def column(tableNodeOrNone, name: str) -> list:
    if tableNodeOrNone is None:
        return []
    array = tableNodeOrNone.GetTable().GetColumnByName(name)
    return [array.GetValue(i) for i in range(array.GetNumberOfValues())] if array is not None else []


def showRegion(run, region: str) -> None:
    """Fill the chart's table with one region; the scan's own volume opens every curve."""
    table, plot, chart = run.node("volumes"), run.node("plotTable"), run.node("chart")
    if table is None or plot is None:
        return
    names = [name for name in CHART if table.GetTable().GetColumnByName(name)]
    keep = [index for index, name in enumerate(column(table, "region")) if name == region]
    years = [column(table, "year")[index] for index in keep]
    baseline = column(table, "baseline")
    values = {name: [column(table, name)[index] for index in keep] for name in names}
    if years and years[0] > 0 and baseline:
        years = [0.0, *years]
        values = {name: [baseline[keep[0]], *series] for name, series in values.items()}
    fill(plot, {"year": years, **values})
    plot.SetAttribute("Neuro4D.Region", region)
    chart.SetTitle(f"{region.replace('_', ' ')}: simulated, research use only")
    moveMarker(run)


def moveMarker(run) -> None:
    """Put the upright line of the chart at the browser's year."""
    marker, plot, browser = run.node("markerTable"), run.node("plotTable"), run.browser
    if marker is None or plot is None or browser is None or browser.GetSelectedItemNumber() < 0:
        return
    year = run.years[browser.GetSelectedItemNumber()]
    if column(marker, "year")[:1] == [year] and marker.GetAttribute("Neuro4D.Region") == plot.GetAttribute(
        "Neuro4D.Region"
    ):
        return
    values = [value for name in CHART for value in column(plot, name) if value == value]
    if values:
        marker.SetAttribute("Neuro4D.Region", plot.GetAttribute("Neuro4D.Region"))
        fill(marker, {"year": [year, year], "volume": [min(values), max(values)]})


def fill(node, columns: dict[str, list[float]]) -> None:
    """Numbers of equal count in place of what a table node held."""
    modifying = node.StartModify()
    node.RemoveAllColumns()
    for name, values in columns.items():
        array = vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(value)
        node.AddColumn(array)
    node.EndModify(modifying)
