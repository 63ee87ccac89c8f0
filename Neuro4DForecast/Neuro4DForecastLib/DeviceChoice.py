"""The combo box of processors; the graphics cards appear when their driver has answered."""

import qt

from Neuro4DForecastLib import Machine

POLL_MS = 100


class DeviceChoice:
    """Attributes:
    key: what is chosen: auto, cpu or cuda:N.
    onChosen: called with the key that a person chose.
    onLooked: called when the driver has answered.
    """

    def __init__(self, combo) -> None:
        self.combo, self.key = combo, "auto"
        self.onChosen, self.onLooked = lambda key: None, lambda: None
        self._devices = [Machine.Device("auto", "Automatic"), Machine.cpu()]
        self._query: Machine.GpuQuery | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._ask)
        combo.activated.connect(lambda *_: self._chosen())
        self._show()

    @property
    def device(self) -> Machine.Device:
        """The processor of an estimate: automatic means the first graphics card, else the CPU."""
        if self.key == "auto":
            return next((device for device in self._devices if device.key.startswith("cuda")), self._devices[-1])
        return next(device for device in self._offered() if device.key == self.key)

    def look(self) -> None:
        """Ask the driver which cards there are; never waits."""
        self.close()
        self._query = Machine.GpuQuery()
        self._timer.start()

    def _ask(self) -> None:
        cards = self._query.answer()
        if cards is None:
            return
        self._timer.stop()
        self._devices = [Machine.Device("auto", "Automatic"), *cards, Machine.cpu()]
        self._show()
        self.onLooked()

    def setKey(self, key: str) -> None:
        self.key = key
        self._show()

    def _offered(self) -> list[Machine.Device]:
        """What was found, and the card that a scene of another computer asks for."""
        if any(device.key == self.key for device in self._devices):
            return self._devices
        return [*self._devices, Machine.Device(self.key, f"GPU {self.key.partition(':')[2]} (not found here)")]

    def _show(self) -> None:
        offered = self._offered()
        self.combo.clear()
        for device in offered:
            self.combo.addItem(device.label())
        self.combo.setCurrentIndex([device.key for device in offered].index(self.key))

    def _chosen(self) -> None:
        self.key = self._offered()[self.combo.currentIndex].key
        self.onChosen(self.key)

    def close(self) -> None:
        self._timer.stop()
        if self._query is not None:
            self._query.close()
