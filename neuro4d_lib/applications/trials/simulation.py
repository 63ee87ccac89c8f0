"""Simulated trials in blocks: a block is the same wherever and whenever it is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from neuro4d_lib.applications.trials.analyses import Measured, analyze
from neuro4d_lib.applications.trials.courses import ArmData, simulate_arm
from neuro4d_lib.applications.trials.law import Law
from neuro4d_lib.config import SettingError
from neuro4d_lib.errors import InputError

BLOCK = 25
"""Trials of one block. Results depend on it, so it is no setting."""
Arrays = dict[str, np.ndarray]


def block_of(law_json: str, sizes: Sequence[Sequence[int]], index: int) -> Arrays:
    """Block `index` of the trials of a law, at K numbers of people in each arm [K, A]; what any worker is asked for."""
    law = Law.from_json(law_json)
    try:
        with one_thread():
            return simulate_block(law, sizes, BLOCK, generator_of(law.design.seed, index))
    except SettingError as error:  # which does not travel between processes
        raise InputError(str(error)) from None


def generator_of(seed: int, index: int) -> torch.Generator:
    """Blocks, pilots (negative) and schedules draw independently of each other."""
    state = np.random.SeedSequence([seed, index + 2**31]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums of floats depend on how they are divided."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def simulate_block(law: Law, sizes: Sequence[Sequence[int]], trials: int, generator: torch.Generator) -> Arrays:
    """Simulate and analyze so many trials.

    Args:
        sizes: [K, A] people in each arm, ascending. The first k people of an arm are an arm of k people.

    Returns:
        effect, standard_error, freedom: [C, L, B, K, Q] of arm C + 1 against the control, by analysis L.
        null_*: the same where nobody is treated, [C, L, B, 1, Q], at the design's own numbers of people.
        true_effect: [C, Q]; courses, squares: [A, V, Q] sums of change and squared change since the first visit, and
        counts [A, V]; screened, enrolled: [1].
    """
    design = law.design
    most = [max(size[a] for size in sizes) for a in range(len(design.arms))]
    arms = [simulate_arm(law, arm, trials, n, generator) for arm, n in zip(design.arms, most, strict=True)]
    ends = [[size[a] for size in sizes] for a in range(len(arms))]
    planned = [[min(n, top)] for n, top in zip(design.people(), most, strict=True)]
    found: dict[str, list[list[np.ndarray]]] = {}
    for c in range(1, len(arms)):
        for prefix, shown in (("", ends), ("null_", planned)):
            control, treated = (_measured(arms[a], shown[a], treated=not prefix) for a in (0, c))
            estimates = [analyze(name, control, treated, design.visits_years) for name in design.analyses]
            for key in ("effect", "standard_error", "freedom"):
                found.setdefault(prefix + key, []).append([getattr(one, key) for one in estimates])
    result = {key: np.array(values) for key, values in found.items()}
    result["true_effect"] = np.stack([(arm.true_effect - arms[0].true_effect).numpy() for arm in arms[1:]])
    weights = [arm.present.double()[..., None] for arm in arms]
    changes = [(arm.treated - arm.treated[:, :, :1]) * w for arm, w in zip(arms, weights, strict=True)]
    result["courses"] = np.stack([change.sum(dim=(0, 1)).numpy() for change in changes])
    result["squares"] = np.stack([change.square().sum(dim=(0, 1)).numpy() for change in changes])
    result["counts"] = np.stack([w.sum(dim=(0, 1))[:, 0].numpy() for w in weights])
    result["screened"] = np.array([float(sum(arm.screened for arm in arms))])
    result["enrolled"] = np.array([float(sum(trials * n for n in most))])
    return result


def _measured(arm: ArmData, ends: list[int], treated: bool) -> Measured:
    values, most = (arm.treated if treated else arm.untreated), max(ends)
    return Measured(values[:, :most].numpy(), arm.present[:, :most].numpy(), ends)


def pilot(law: Law, people: int, index: int = -1) -> Arrays:
    """One large trial, of which only the moments count: `people` in the smallest arm, the others in proportion."""
    planned = law.design.people()
    size = [round(people * n / min(planned)) for n in planned]
    design = replace(law.design, arms=tuple(replace(a, people=n) for a, n in zip(law.design.arms, size, strict=True)))
    with one_thread():
        return simulate_block(replace(law, design=design), [size], 1, generator_of(design.seed, index))
