"""What a person is told when something cannot be done."""


class Problem(Exception):
    """A sentence for the person at the panel: what was found, what was expected, what to do.

    `field` names the entry of the panel that it belongs to, where there is one; `kind` names a known failure.
    """

    def __init__(self, sentence: str, field: str = "", kind: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.field, self.kind = sentence, field, kind
