"""Real single scans of many kinds: is each of them forecast, or refused with a reason?

With --pictures, one page: for every forecast the scan, five years later, and the change of volume. Slices run through
the ventricles and the hippocampi; no face is shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tables import arguments, markdown, publish

from neuro4d_lib import Covariates, forecast
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.forecasting.slices import PLANES, Slices

YEARS = (1, 5)
SCANS = (
    "atlas/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "atlas/CerebrA_in_t1.mgz",
    "single_scans/brainchop_T1_conformed_LIA.nii.gz",
    "single_scans/coreg_qa_highres_T1_brain_oblique.nii.gz",
    "single_scans/niivue_norm_T1_brain.mgz",
    "single_scans/openms_p04_T1W_2D_3mm_oblique.nii.gz",
    "single_scans/studyforrest_T1w_dicom.zip",
    "single_scans/ixi_2mm/IXI015-HH-1258-T1_ds.nii.gz",
    "single_scans/ixi_2mm/IXI033-HH-1259-T1_ds.nii.gz",
    "single_scans/ixi_2mm/IXI034-HH-1260-T1_ds.nii.gz",
    "single_scans/ixi_2mm/IXI049-HH-1358-T1_ds.nii.gz",
    "single_scans/ixi_2mm/IXI051-HH-1328-T1_ds.nii.gz",
    "single_scans/nibabel_anatomical_bigendian_int16.nii",
    "single_scans/nibabel_someones_anatomy.nii.gz",
    "single_scans/nibabel_example4d_EPI_4D.nii.gz",
    "single_scans/coreg_qa_example_func_EPI.nii.gz",
    "single_scans/cstar_stroke_FLAIR_brain.nii.gz",
    "single_scans/cstar_stroke_FLAIR_brain.nrrd",
    "ms_longitudinal_bids/sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz",
    "ms_longitudinal_bids/sub-01/ses-02/anat/sub-01_ses-02_T1w.nii.gz",
    "ms_longitudinal_bids/sub-19/ses-02/anat/sub-19_ses-02_T1w.nii.gz",
    "ms_longitudinal_bids/sub-01/ses-01/anat/sub-01_ses-01_FLAIR.nii.gz",
)
ORIENTATIONS = "single_scans/niftispace/*.nii.gz"


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: a forecast, or the reason why there is none."""

    scan: Path
    seconds: float
    made: Forecast | None
    reason: str


def tried(scan: Path) -> Outcome:
    """Forecast one scan of a person of whom nothing is known."""
    started = time.monotonic()
    try:
        made, reason = forecast(scan, Covariates(), YEARS, futures=1), ""
    except InputError as refusal:
        made, reason = None, str(refusal)
    return Outcome(scan, time.monotonic() - started, made, reason)


def row(outcome: Outcome) -> tuple[str, ...]:
    """Of the table."""
    made = outcome.made
    if made is None:
        return (outcome.scan.name, "refused: " + outcome.reason.replace(str(outcome.scan), outcome.scan.name), *"-----")
    volumes = dict(zip(made.volumes.names, made.volumes.baseline_mm3 / 1000, strict=True))
    shape = " x ".join(map(str, made.scan.array.shape))
    spacing = " x ".join(f"{size:.2g}" for size in made.scan.grid.spacing_mm)
    return (
        outcome.scan.name,
        f"forecast; {shape}, {spacing} mm",
        f"{made.registration['agreement']:.2f}",
        f"{volumes.get('whole_brain', np.nan):.0f}",
        f"{volumes.get('hippocampus', np.nan):.1f}",
        f"{volumes.get('lateral_ventricle', np.nan):.1f}",
        f"{made.folds.failed} of {made.folds.voxels:,}",
    )


def draw_page(outcomes: list[Outcome], file: Path) -> None:
    """Scan, last year and change of volume of every forecast, in two planes."""
    from matplotlib.figure import Figure

    shown = [outcome for outcome in outcomes if outcome.made is not None]
    figure = Figure(figsize=(13, 2.3 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 6, squeeze=False)
    for line, outcome in zip(axes, shown, strict=True):
        made = outcome.made
        assert made is not None
        slices = Slices(made.scan, made.aligned.labels)
        slices.add(0, made.scan.array)
        slices.add(YEARS[-1], made.image(len(YEARS) - 1), made.volume_change_percent(len(YEARS) - 1))
        for k, plane in enumerate(PLANES):
            now, then = (cut[plane] for _, cut in slices.frames)
            change = np.where(then.brain, then.change_percent, np.nan)
            for axis, picture, title in zip(
                line[3 * k : 3 * k + 3],
                (now.gray, then.gray, change),
                ("now", f"{YEARS[-1]} years", "change"),
                strict=True,
            ):
                limits = {"cmap": "gray", "vmin": 0, "vmax": 1}
                if title == "change":
                    limits = {"cmap": "RdBu", "vmin": -15, "vmax": 15}
                axis.imshow(picture, aspect=slices.aspect[plane], **limits)
                axis.set_title(title, fontsize=7)
                axis.set_axis_off()
        line[0].set_title(outcome.scan.name[:40], fontsize=7, loc="left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)


def main() -> None:
    chosen = arguments(__doc__)
    scans = [chosen.data / name for name in SCANS] + sorted(chosen.data.glob(ORIENTATIONS))
    outcomes = []
    for scan in scans:
        outcomes.append(tried(scan))
        print(f"{scan.name}: {outcomes[-1].seconds:.0f} s {outcomes[-1].reason or 'forecast'}", flush=True)
    head = ("scan", "outcome", "agreement", "brain, ml", "hippocampi, ml", "lateral ventricles, ml", "fold failures")
    forecast_of = sum(outcome.made is not None for outcome in outcomes)
    publish(
        f"{len(outcomes)} real scans: {forecast_of} forecast, {len(outcomes) - forecast_of} refused with a reason.\n\n"
        + markdown(head, [row(outcome) for outcome in outcomes]),
        chosen.table,
    )
    if chosen.pictures is not None:
        draw_page(outcomes, chosen.pictures / "single_scans.png")


if __name__ == "__main__":
    main()
