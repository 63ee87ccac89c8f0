"""One person of a study: scans in, motion between them out. What cannot be used is left out, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuro4d_lib.data.alignment import Alignment, align
from neuro4d_lib.data.flow_volumes import FlowVolumes
from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.prepared import PreparedSubject
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.study import StudySubject, Visit
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.errors import InputError
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.measures import measures, picture
from neuro4d_lib.preparation.within_person import Gathered, followed, gathered
from neuro4d_lib.progress import Progress, part, silent


@dataclass(frozen=True, eq=False)
class PreparedPerson:
    """A prepared person and what was noticed.

    Attributes:
        subject: what training reads.
        pictures: one PNG per visit.
        left_out: (session, reason) of visits that were not used.
        warnings: (session, sentence).
    """

    subject: PreparedSubject
    pictures: tuple[bytes, ...]
    left_out: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]


@dataclass
class _Visits:
    """The visits that can still be used."""

    name: str
    used: list[tuple[Visit, Image, Alignment, WorkingVolume]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def leave_out(self, index: int, reason: str) -> None:
        self.left_out.append((self.used[index][0].session, reason))
        del self.used[index]

    def check(self) -> None:
        """An InputError where fewer than two are left."""
        if len(self.used) < 2:
            why = " ".join(f"{session}: {reason}" for session, reason in self.left_out)
            left = "one usable visit" if self.used else "no usable visit"
            raise InputError(f"{self.name} has {left}; a change needs two. {why}".rstrip())


def prepare_person(
    person: StudySubject,
    reference: Reference,
    volumes: FlowVolumes,
    config: PreparationConfig,
    progress: Progress = silent,
) -> PreparedPerson:
    """Align all visits, without favoring one, and follow the motion between them. An InputError says why not.

    Args:
        volumes: of the reference.
    """
    visits = _read(person, reference, part(progress, 0.0, 0.2))
    progress(0.2, "Bringing the visits together")
    gathering = _alike(visits, reference, config, config.match_contrast or person.changes_scanner)
    name = f"The mean of the scans of {person.id}"
    motion = followed(gathering.images, reference, config, name, part(progress, 0.3, 0.9))
    progress(0.9, "Measuring the quality")
    numbers = measures(gathering.images, motion, volumes)
    quality = tuple(
        {"agreement_alone": round(alignment.agreement, 6), "likeness": round(likeness, 6), **found}
        for (_, _, alignment, _), likeness, found in zip(visits.used, gathering.likeness, numbers, strict=True)
    )
    used = [visit for visit, *_ in visits.used]
    subject = PreparedSubject(
        id=person.id,
        sessions=tuple(visit.session for visit in used),
        years=tuple(visit.years - used[0].years for visit in used),
        covariates=tuple(visit.covariates for visit in used),
        motion=motion.motion_mm.float(),
        anatomy=motion.anatomy.float(),
        quality=quality,
    )
    return PreparedPerson(
        subject=subject,
        pictures=tuple(picture(gathering.images, motion, n) for n in range(len(used))),
        left_out=tuple(visits.left_out),
        warnings=tuple((visit.session, text) for visit, _, alignment, _ in visits.used for text in alignment.warnings),
    )


def _read(person: StudySubject, reference: Reference, progress: Progress) -> _Visits:
    """Read every scan and find the reference in it."""
    visits = _Visits(person.id)
    for number, visit in enumerate(person.visits):
        progress(number / len(person.visits), f"Aligning {visit.session} with the reference")
        try:
            image = read_image(visit.scan)
            twin = next((other.session for other, array, *_ in visits.used if _same(image, array)), None)
            if twin is not None:
                raise InputError(
                    f"The scan {visit.scan} is the same image as that of {twin}; one of them is misplaced."
                )
            visits.used.append((visit, image, *align(image, reference)))
        except InputError as problem:
            visits.left_out.append((visit.session, str(problem)))
    visits.check()
    return visits


def _alike(visits: _Visits, reference: Reference, config: PreparationConfig, match_contrast: bool) -> Gathered:
    """Bring the visits together as rigid bodies; those that are not like the others are left out, the worst first."""
    while True:
        volumes, affines = [v for *_, v in visits.used], [a.affine for _, _, a, _ in visits.used]
        found = gathered(volumes, affines, reference, match_contrast)
        worst = int(np.argmin(found.likeness))
        likeness = found.likeness[worst]
        if likeness >= config.least_likeness:
            return found
        why = (
            f"by {likeness:.2f} only, expected at least {config.least_likeness:g}: another person, another kind of "
            "sequence, or a damaged scan."
        )
        if len(visits.used) == 2:
            first, second = (visit.session for visit, *_ in visits.used)
            raise InputError(f"{first} and {second} of {visits.name} agree {why} Look at both.")
        visits.leave_out(worst, f"It agrees with the other visits {why}")


def _same(one: Image, other: Image) -> bool:
    return one.array.shape == other.array.shape and np.array_equal(one.array, other.array)
