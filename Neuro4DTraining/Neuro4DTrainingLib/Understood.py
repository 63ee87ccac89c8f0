"""What `python -m neuro4d_lib study STUDY --json` says, as words and rows."""

import html

from Neuro4DTrainingLib.Words import counted

MOST_LINES = 500
TITLES = ["Person", "Visits", "Years", "Age", "Sex", "Diagnosis", "Scanner"]
KNOWN = {"age": "age", "sex": "sex", "education_years": "education", "apoe4": "APOE e4", "diagnosis": "diagnosis"}


def summary(answer: dict) -> str:
    """The numbers, as rich text."""
    counts, subjects = answer["counts"], answer["subjects"]
    people, everybody = counts["people"], counts["people"] + counts["unusable_people"]
    visits, years = counts["visits"], counts["years_of_follow_up"]
    lines = [
        f"<b>{people} of {counted(everybody, 'person', 'people')} can be used, with {counted(visits, 'visit')}.</b>"
    ]
    if people:
        lines.append(f"Follow-up {years['least']:.1f} to {years['most']:.1f} years, median {years['median']:.1f}.")
        known = [f"{KNOWN[name]} {_share(number, visits)}" for name, number in counts["visits_with"].items()]
        lines.append(f"Known at visits: {', '.join(known)}.")
        diagnoses = [f"{html.escape(str(name))} {number}" for name, number in counts["diagnoses"].items()]
        lines.append(f"Diagnoses: {', '.join(diagnoses)}.")
    changed = sum(subject["scanner_changed"] for subject in subjects)
    if changed:
        lines.append(f"{counted(changed, 'person', 'people')} changed the scanner.")
    if answer["problems"]:
        lines.append(f"{counted(len(answer['problems']), 'thing')} to look at, below.")
    return "<br>".join(lines)


def _share(number: int, total: int) -> str:
    return "always" if number == total else "never" if number == 0 else f"{number} of {total}"


def problemLines(answer: dict) -> list[str]:
    """Who cannot be used, and what a person should look at, with its file and line."""
    lines = [f"{one['subject']} cannot be used: {one['reason']}." for one in answer["unusable"]]
    for one in answer["problems"]:
        lines.append(f"{one['place'] + ': ' if one['place'] else ''}{one['sentence']}.")
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more} more; `python -m neuro4d_lib study` lists all."] if more > 0 else [])]


def rows(answer: dict) -> list[list[str]]:
    """A row for each person who can be used; see TITLES."""
    return [_row(subject) for subject in answer["subjects"]]


def _row(subject: dict) -> list[str]:
    first, last = subject["visits"][0], subject["visits"][-1]
    person = first["covariates"]
    age, diagnoses = person["age"], dict.fromkeys(visit["covariates"]["diagnosis"] for visit in subject["visits"])
    known = [str(diagnosis) for diagnosis in diagnoses if diagnosis is not None]
    return [
        subject["id"],
        str(len(subject["visits"])),
        f"{last['years']:.1f}",
        "" if age is None else f"{age:.0f}",
        person["sex"] or "",
        " → ".join(known),
        "changed" if subject["scanner_changed"] else first["scanner"] or "",
    ]
