"""How long a forecast takes and how much memory, told before it is started."""

from dataclasses import dataclass

from Neuro4DForecastLib import Machine

# Seconds on two cores of a server processor; after each run corrected by what it took on this machine.
SECONDS_START = 13.0
SECONDS_PER_EARLIER = 12.0  # a guess: an earlier scan is aligned like the scan itself
SECONDS_PER_FRAME_MVOXEL = 0.88
SECONDS_PER_FUTURE_YEAR, SECONDS_PER_FUTURE_YEAR_MVOXEL = 1.1, 0.1
RIDING_ALONG = 0.5  # of a frame, for each further image that is warped
GPU_FACTOR = 0.5  # a guess: the alignment stays on the processor
BYTES_START, BYTES_PER_VOXEL = 1.2e9, 45
MAP_BYTES = 8  # per voxel and frame: volume change and its spread
TRANSFORM_BYTES, TRANSFORM_SPACING_MM = 12, 2.625
GIGABYTE = Machine.GIGABYTE


@dataclass(frozen=True)
class Size:
    """What a forecast's cost depends on."""

    voxels: int
    voxelBytes: int
    voxelMm3: float
    years: int
    futures: int = 8
    earlier: int = 0
    others: int = 0
    segmentation: bool = False
    moving: bool = False


@dataclass(frozen=True)
class Estimate:
    """`workerBytes` are taken while it runs, `slicerBytes` by its images afterwards; `kind` is cpu or cuda."""

    seconds: float
    workerBytes: float
    slicerBytes: float
    freeBytes: float
    kind: str

    def sentence(self) -> str:
        seconds = max(5, round(self.seconds / 5) * 5)
        duration = f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"
        worker, slicer, free = (amount / GIGABYTE for amount in (self.workerBytes, self.slicerBytes, self.freeBytes))
        text = f"About {duration}; {worker:.1f} GB of memory meanwhile, {slicer:.1f} GB for the images"
        text += f" ({free:.1f} GB are free)." if free else "."
        if free and worker + slicer > free:
            text += " That may not fit: close other programs, ask for fewer years or tick “Save memory”."
        return text


def estimate(size: Size, device: Machine.Device, factor: float = 1.0) -> Estimate:
    """What one forecast takes. `factor` is what earlier runs on this machine really took, over what was said."""
    millions, images = size.voxels / 1e6, 1 + RIDING_ALONG * (size.others + size.segmentation)
    seconds = SECONDS_START + SECONDS_PER_EARLIER * size.earlier
    seconds += SECONDS_PER_FRAME_MVOXEL * millions * size.years * images
    seconds += (SECONDS_PER_FUTURE_YEAR + SECONDS_PER_FUTURE_YEAR_MVOXEL * millions) * size.futures * size.years
    kind = device.key.partition(":")[0]
    seconds *= GPU_FACTOR if kind == "cuda" else 1.0
    frames = size.years + 2  # the scan, and the frame that is shown
    if size.moving:  # one copy of the scan, and maps of every second voxel along each axis
        perVoxel = size.voxelBytes + frames * MAP_BYTES / 8
    else:
        perVoxel = frames * (size.voxelBytes * (1 + size.others) + MAP_BYTES + 2 * size.segmentation)
    perVoxel += frames * TRANSFORM_BYTES * size.voxelMm3 / TRANSFORM_SPACING_MM**3
    worker = BYTES_START + BYTES_PER_VOXEL * size.voxels
    return Estimate(seconds * factor, worker, perVoxel * size.voxels, Machine.freeMemoryBytes(), kind)
