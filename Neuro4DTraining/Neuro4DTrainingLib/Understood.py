"""What `python -m neuro4d_lib study STUDY --json` says, as words and rows."""

from Neuro4DTrainingLib.Words import counted


def summary(answer: dict) -> str:
    subjects = answer.get("subjects", [])
    visits = sum(len(subject["visits"]) for subject in subjects)
    return f"{counted(len(subjects), 'subject')} with {counted(visits, 'visit')} can be used."


def problemLines(answer: dict) -> list[str]:
    return [f"{one['subject']}: {one['reason']}" for one in answer.get("unusable", [])]


def table(answer: dict) -> tuple[list[str], list[list[str]]]:
    titles = ["Subject", "Visits", "Years"]
    rows = [
        [subject["id"], str(len(subject["visits"])), f"{subject['visits'][-1]['years']:.1f}"]
        for subject in answer.get("subjects", [])
    ]
    return titles, rows
