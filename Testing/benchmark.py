"""`make benchmark`: seconds, bytes and ratios, each measured in this run. Not a test: machines differ."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from neuro4d_lib.networks.unet4d import FourDUNet


def seconds(work, repeats=3):
    work()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats


def against(goal, met):
    """A goal, and whether this run met it."""
    return f"(goal {goal}: {'met' if met else 'missed'})"


# One way of attention in a process of its own, as the most memory that a process ever had cannot be set back on every system.
ATTENTION = """
import resource, sys, time, torch
from pathlib import Path
from neuro4d_lib.networks.attention import SpatioTemporalAttention
from torch.nn import functional
def explicit(query, key, value, attn_mask=None, scale=1.0):
    return ((query * scale) @ key.mT).softmax(dim=-1) @ value
def resident(now):
    # Bytes of this process: now, or the most so far. Without /proc both are the most so far, which understates the rise.
    status = Path("/proc/self/status")
    if status.is_file():
        name = "VmRSS:" if now else "VmHWM:"
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
if sys.argv[1] == "explicit":
    functional.scaled_dot_product_attention = explicit
torch.manual_seed(0)
layer, x = SpatioTemporalAttention(256, 8), torch.randn(1, 6, 256, 12, 12, 12)
took = []
with torch.no_grad():
    layer(x[..., :4, :4, :4])
    before = resident(now=True)
    for _ in range(3):
        started = time.perf_counter()
        layer(x)
        took.append(time.perf_counter() - started)
print(min(took), resident(now=False) - before)
"""


def attention():
    """T = 6, 96^3 downsampled by 8, width 256, 8 heads, against softmax over an explicit T*S x T*S matrix; best of 3."""
    found = {}
    for name in ("fused", "explicit"):
        took, rise = subprocess.check_output([sys.executable, "-c", ATTENTION, name], text=True).split()
        found[name] = float(took), float(rise)
        print(f"attention, {name}: {float(took):.2f} s, {float(rise) / 1e9:.3f} GB above the start")
    less, faster = found["explicit"][1] / found["fused"][1], found["explicit"][0] / found["fused"][0]
    print(f"attention, explicit / fused: {less:.1f} times the memory {against('>= 5', less >= 5)}")
    print(f"attention, explicit / fused: {faster:.1f} times the seconds {against('>= 1', faster >= 1)}")


def batched_frames():
    """The 4D U-Net over 6 frames at once against one frame after the other (which then cannot see each other)."""
    unet, x = FourDUNet(8, 3), torch.randn(1, 6, 8, 32, 40, 32)
    t, condition = torch.rand(1, 6), torch.randn(1, 6, 128)
    with torch.no_grad():
        together = seconds(lambda: unet(x, t, condition))
        alone = seconds(lambda: [unet(x[:, i : i + 1], t[:, i : i + 1], condition[:, i : i + 1]) for i in range(6)])
    print(
        f"4D U-Net, 6 frames: together {together:.2f} s, one after the other {alone:.2f} s: {alone / together:.1f} times"
    )


def forecasts():
    """A five-frame forecast of a 182 x 218 x 182 scan at 1 mm by the command line."""
    import nibabel
    import numpy as np
    from nilearn.datasets import load_mni152_template

    template = load_mni152_template(resolution=1)
    array = np.rint(template.get_fdata()[7:189, 8:226, 3:185] * 1000).astype(np.int16)
    affine = template.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [7, 8, 3]
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array, affine), scan)
        for futures in (1, 8):
            output = Path(folder) / f"out{futures}"
            command = [sys.executable, "-m", "neuro4d_lib", "forecast", str(scan), "--age", "74", "--diagnosis", "MCI"]
            command += ["--years", "1", "2", "3", "4", "5", "--futures", str(futures), "--output", str(output)]
            started = time.perf_counter()
            subprocess.run([*command, "--progress", "none"], check=True, stdout=subprocess.DEVNULL)
            took = time.perf_counter() - started
            made = json.loads((output / "forecast.json").read_text(encoding="utf-8"))
            memory, calls = made["peak_memory_bytes"] / 1e9, made["network_calls"]
            failed = made["fold_certificate"]["failed"]
            print(f"forecast, {futures} futures, 5 years:")
            print(f"  {took:.0f} s", against("<= 60", took <= 60) if futures == 1 else "")
            print(f"  {memory:.2f} GB", against("<= 4", memory <= 4) if futures == 1 else "")
            print(f"  {calls} network calls per joint sequence", against("<= 20", calls <= 20))
            print(f"  {failed} voxels fail the fold test", against("0", failed == 0))


if __name__ == "__main__":
    torch.manual_seed(0)
    attention()
    batched_frames()
    forecasts()
