"""The combo box of processors; the graphics cards appear when their driver has answered."""

import qt
from Neuro4DForecastLib import Machine

POLL_MS = 100


class DeviceChoice:
    """`key`: auto, cpu or cuda:N."""

    def __init__(self, combo, onChosen) -> None:
        self.combo, self._onChosen, self.key = combo, onChosen, "auto"
        self._devices = [Machine.Device("auto", "Automatic"), Machine.cpu()]
        self._query = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._ask)
        combo.activated.connect(lambda *_: self._chosen())
        self._show()

    def look(self) -> None:
        """Ask the driver which cards there are; never waits."""
        self.close()
        self._query = Machine.GpuQuery()
        self._timer.start()

    def _ask(self) -> None:
        cards = self._query.answer()
        if cards is not None:
            self._timer.stop()
            self._devices = [Machine.Device("auto", "Automatic"), *cards, Machine.cpu()]
            self._show()

    def setKey(self, key: str) -> None:
        self.key = key
        self._show()

    def _show(self) -> None:
        self.combo.clear()
        for device in self._devices:
            self.combo.addItem(device.label())
        keys = [device.key for device in self._devices]
        self.combo.setCurrentIndex(keys.index(self.key) if self.key in keys else 0)

    def _chosen(self) -> None:
        self.key = self._devices[self.combo.currentIndex].key
        self._onChosen(self.key)

    def close(self) -> None:
        self._timer.stop()
        if self._query is not None:
            self._query.close()
