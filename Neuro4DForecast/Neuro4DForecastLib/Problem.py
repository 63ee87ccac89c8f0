"""What a person is told when something cannot be done."""

import re


class Problem(Exception):
    """A sentence for the person at the panel: what was found, what was expected, what to do.

    `field` names the entry of the panel that it belongs to, where there is one; `kind` names a known failure.
    """

    def __init__(self, sentence: str, field: str = "", kind: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.field, self.kind = sentence, field, kind


def withNames(text: str, names: dict[str, str]) -> str:
    """The worker's words with the nodes' names in place of the files' names that only this panel knows."""
    if not names:
        return text
    files = "|".join(re.escape(file) for file in names)
    return re.sub(rf"(?<![\w.])(?:{files})(?!\w)", lambda match: f"“{names[match[0]]}”", text)
