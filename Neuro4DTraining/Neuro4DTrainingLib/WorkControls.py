"""Three buttons, a bar and a line around one Work: start or resume, pause or continue, stop."""

from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib.Words import counted, duration
from Neuro4DTrainingLib.Work import ACTIVE, State, Work

WRONG = "color: #c03020;"


class WorkControls:
    """Attributes:
    start: called for a first start; returns the Work.
    resume: called with the Work that was stopped, killed or failed.
    work: what is shown; None before a folder is chosen.
    """

    def __init__(self, startButton, pauseButton, stopButton, bar, label, name: str) -> None:
        self.startButton, self.pauseButton, self.stopButton = startButton, pauseButton, stopButton
        self.bar, self.label, self.name = bar, label, name
        self.work: Work | None = None
        self.start = self.resume = None
        self.onProblem = lambda problem: None
        self.againWhenDone = False
        self._refused, self._problems = "", {}
        startButton.clicked.connect(lambda *_: self._try(self._start))
        pauseButton.clicked.connect(lambda *_: self._try(self._pause))
        stopButton.clicked.connect(lambda *_: self._try(lambda: self.work.stop()))

    @property
    def state(self) -> State:
        return self.work.state if self.work is not None else State.NONE

    def watch(self, work: Work | None) -> None:
        """Show this folder's work from now on."""
        if work is None or self.work is None or work.folder != self.work.folder:
            self._refused = ""
        self.work = work

    def _try(self, action) -> None:
        self._refused = ""
        try:
            action()
        except Problem as problem:
            self._refused = problem.sentence
            self.onProblem(problem)
        except OSError as error:
            self._refused = (
                f"{self.work.folder if self.work else 'The folder'} cannot be written ({error.strerror or error})."
            )
        self.update(self._problems)

    def _start(self) -> None:
        if self.state in (State.STOPPED, State.FAILED):
            self.resume(self.work)
        else:
            self.work = self.start()

    def _pause(self) -> None:
        if self.state is State.PAUSED:
            self.work.goOn()
        else:
            self.work.pause()

    def update(self, problems: dict[str, str]) -> State:
        """Poll the work; buttons, bar and line after it. `problems` keep a first start from being possible."""
        self._problems = problems
        if self.work is not None:
            try:
                self.work.poll()
            except Problem as problem:
                self._say(problem.sentence, wrong=True)
                return State.FAILED
        state = self.state
        again = state in (State.STOPPED, State.FAILED)
        self.startButton.text = "Resume" if again else self.name
        fresh = state is State.NONE or (state is State.DONE and self.againWhenDone)
        self.startButton.enabled = again or (fresh and not problems)
        self.startButton.toolTip = self._tip(state, problems)
        self.pauseButton.enabled = self.stopButton.enabled = state in (State.RUNNING, State.PAUSED)
        self.pauseButton.text = "Continue" if state is State.PAUSED else "Pause"
        self.bar.visible = state in (State.RUNNING, State.PAUSED)
        if self.work is not None:
            self.bar.setValue(int(1000 * self.work.fraction))
        self._say(*self._words(state))
        return state

    def _tip(self, state: State, problems: dict[str, str]) -> str:
        if state in ACTIVE:
            return f"It is {state.value}."
        if state is State.DONE and not self.againWhenDone:
            return "This run is done. Choose another folder for a new one."
        if state in (State.STOPPED, State.FAILED):
            return "Goes on with the settings that it was started with."
        return " ".join(problems.values())

    def _words(self, state: State) -> tuple[str, bool]:
        if self._refused:
            return self._refused, True
        if self.work is None or state is State.NONE:
            return "", False
        said = self.work.message
        if state is State.RUNNING:
            left = f" — {duration(self.work.secondsLeft)} left" if self.work.secondsLeft is not None else ""
            return f"{said or 'Starting'}{left}", False
        if state is State.PAUSED:
            return f"Paused: {said}. It keeps its memory; Continue goes on at the very step.", False
        if state is State.ELSEWHERE:
            return f"At work on the computer {self.work.record.host}: {said}", False
        if state is State.STOPPED:
            return f"Stopped{': ' + said if said else ''}. Resume goes on from its last whole files.", False
        if state is State.FAILED:
            return self.work.problem.sentence, True
        return self._ending(said), False

    def _ending(self, said: str) -> str:
        done = self.work.done or {}
        if "used" in done and "excluded" in done:
            left = f", {len(done['excluded'])} left out with a reason" if done["excluded"] else ""
            return f"Done: {counted(done['used'], 'person', 'people')} prepared{left}."
        return f"Done{': ' + said if said else ''}."

    def _say(self, text: str, wrong: bool = False) -> None:
        if self.label.text != text:
            self.label.text = text
            self.label.styleSheet = WRONG if wrong else ""
