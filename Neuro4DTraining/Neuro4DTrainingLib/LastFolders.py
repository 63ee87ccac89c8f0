"""The folders of the last work, kept in Slicer's settings: after Slicer was closed, the panel opens on them again."""

import slicer

from Neuro4DTrainingLib import Parameters

FOLDERS = ("study", "prepared", "output")
_KEY = "Neuro4DTraining/Last/"


def restore(node) -> None:
    """Into a parameter node that names none; a saved scene keeps its own."""
    if any(getattr(node, field) for field in FOLDERS):
        return
    settings, before = slicer.app.userSettings(), node.source
    for field in (*FOLDERS, "source"):
        value = settings.value(_KEY + field)
        if value:
            setattr(node, field, str(value))
    Parameters.changeDefaults(node, before)


def keep(node) -> None:
    settings = slicer.app.userSettings()
    for field in (*FOLDERS, "source"):
        value = getattr(node, field)
        if value and value != settings.value(_KEY + field):
            settings.setValue(_KEY + field, value)
