"""How much of the true change of every region comes back through `prepare`: on a simulated study whose truth is known.

    python Testing/recovery.py FOLDER --output docs/benchmark/recovery.md

FOLDER holds prepared/ and true/, the same people in the same format (applications/study_truth_cohort.py). Compared is the
change of log-volume from the first visit to the last as training reads it: through the mean divergence in the region.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.data.prepared import SUBJECTS_FOLDER, read_about, read_subject, subject_path
from neuro4d_lib.data.rate_fields import measure_regions
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import AGGREGATES, REGIONS
from neuro4d_lib.files import write_whole

SHOWN = (*AGGREGATES, *(region.name for region in REGIONS if region.side == "both"))


def recovery_table(folder: Path) -> str:
    """Markdown: for every region true and found change, share that comes back, correlation over people, error."""
    measure, names = measure_regions(Reference.load(SHIPPED))
    true, found = [], []
    for name in sorted(path.stem for path in (folder / "prepared" / SUBJECTS_FOLDER).glob("*.safetensors")):
        paths = [subject_path(folder / kind, name) for kind in ("true", "prepared")]
        if not paths[0].is_file():
            continue
        for path, changes in zip(paths, (true, found), strict=True):
            subject = read_subject(path)
            changes.append(100 * measure @ (subject.motion[-1] - subject.motion[0]).flatten())
    trues, founds = torch.stack(true), torch.stack(found)
    settings = json.dumps(read_about(folder / "prepared")["settings"])
    lines = [
        f"{len(trues)} simulated people, settings {settings}. Change of log-volume from the first visit to the last, %. The share "
        "is the slope of found over true through zero: 1 is perfect, less is too little; the correlation is over people.",
        "",
        "| region | true, mean | found, mean | share | correlation | error (RMS) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in SHOWN:
        a, b = (changes[:, names.index(name)] for changes in (trues, founds))
        share, alike = float(a @ b / (a @ a)), float(torch.corrcoef(torch.stack([a, b]))[0, 1])
        error = float((a - b).square().mean().sqrt())
        lines.append(
            f"| {name.replace('_', ' ')} | {a.mean():.2f} | {b.mean():.2f} | {share:.2f} | {alike:.2f} | {error:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    table = recovery_table(chosen.folder)
    print(table)
    if chosen.output:
        write_whole(chosen.output, f"# What comes back through prepare\n\n{table}")


if __name__ == "__main__":
    main()
