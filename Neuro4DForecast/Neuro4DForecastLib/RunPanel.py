"""The Forecast button: estimate before, progress during, Cancel, and what went wrong after."""

import qt
import slicer

from Neuro4DForecastLib import Dependencies, Failures
from Neuro4DForecastLib.Logic import Job, Stage
from Neuro4DForecastLib.Problem import Problem

POLL_MS = 50


class RunPanel:
    def __init__(self, ui, logic, inputs, playback, packages) -> None:
        self.ui, self.logic, self.inputs, self.playback, self.packages = ui, logic, inputs, playback, packages
        self._estimate = None
        self._step = ""
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        ui.forecastButton.clicked.connect(lambda *_: self.press())
        ui.runOnCpuButton.clicked.connect(lambda *_: self.runOnCpu())
        ui.copyLogButton.clicked.connect(lambda *_: qt.QApplication.clipboard().setText(ui.logText.plainText))

    @property
    def running(self) -> bool:
        return self.logic.job is not None and self.logic.job.active

    def update(self) -> None:
        """Button, its tool tip and the estimate, from what is entered."""
        if self.running:
            return
        button, problems = self.ui.forecastButton, self.inputs.problems
        button.text = "Forecast"
        button.enabled = not problems
        button.toolTip = " ".join(problems.values()) if problems else "Forecast the scan through the years"
        self._showEstimate(problems)

    def _showEstimate(self, problems: dict) -> None:
        self._estimate = None
        if problems:
            self.ui.estimateLabel.text = ""
            return
        request, volumes = self.inputs.request(), self.inputs.volumes()
        device = self.inputs.device()
        self._estimate = self.logic.estimate(request, device, **volumes)
        self.ui.estimateLabel.text = f"{self._estimate.sentence()} On {device.name}."

    def press(self) -> None:
        if self.running:
            self.logic.job.cancel()
            return
        self.ui.runOnCpuButton.visible = False
        try:
            if Dependencies.lacking() and not self.packages.install():
                self._say("Nothing was installed, so nothing was started.")
                return
            job = self.logic.start(self.inputs.request(), **self.inputs.volumes())
        except Problem as problem:
            self._fail(problem)
            return
        job.onProgress, job.onEnd = self._progress, self._ended
        self.ui.forecastButton.text = "Cancel"
        self.ui.forecastButton.toolTip = "Stop the forecast; scene and disk stay as they were"
        self.ui.progressBar.visible = True
        self.ui.progressBar.setRange(0, 1000)
        self.ui.progressBar.setValue(0)
        self.ui.logText.setPlainText("")
        self._step = ""
        self._say("Starting")
        self._timer.start()

    def runOnCpu(self) -> None:
        """The offer after the graphics card failed."""
        self.inputs.setDevice("cpu")
        self.press()

    def stop(self) -> None:
        """Scene closing, reload or end of Slicer: nothing may go on."""
        if self.running:
            self.logic.job.cancel()

    def close(self) -> None:
        self.stop()
        self._timer.stop()

    def _poll(self) -> None:
        if self.logic.job is not None:
            stage = self.logic.job.poll()
            # Writing and loading are chains of short steps: go on as soon as the panel has had its turn.
            self._timer.setInterval(0 if stage in (Stage.PREPARING, Stage.LOADING) else POLL_MS)

    def _progress(self, fraction: float, message: str, secondsLeft) -> None:
        self.ui.progressBar.setValue(int(1000 * fraction))
        if message != self._step:
            self._step = message
            self.ui.logText.appendPlainText(message)
        left = f" — {max(1, round(secondsLeft))} s left" if secondsLeft is not None else ""
        self._say(f"{message}{left}")

    def _ended(self, job: Job) -> None:
        self._timer.stop()
        self._timer.setInterval(POLL_MS)
        self.ui.progressBar.visible = False
        self.ui.logText.setPlainText(job.log)
        self.ui.forecastButton.text = "Forecast"
        if job.stage is Stage.DONE:
            self._succeeded(job)
        elif job.stage is Stage.CANCELED:
            self._say("Canceled. Scene and disk are as they were.")
        else:
            self._fail(job.problem)
        self.inputs.update()

    def _succeeded(self, job: Job) -> None:
        device = job.facts.get("device")
        self._say(" ".join([f"Done in {job.seconds:.0f} s{f' on {device}' if device else ''}.", *job.result.warnings]))
        if self._estimate is not None:
            self.logic.learn(self._estimate, job.seconds)
        self.playback.refresh(job.result)
        self.playback.play()

    def _fail(self, problem: Problem) -> None:
        self._say(problem.sentence, wrong=True)
        self.ui.runOnCpuButton.visible = problem.kind in Failures.OFFER_CPU
        self.packages.show(problem)
        self.update()

    def _say(self, text: str, wrong: bool = False) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.styleSheet = "color: #c03020;" if wrong else ""
        if not wrong and slicer.util.mainWindow() is not None:
            slicer.util.showStatusMessage(text, 2000)
