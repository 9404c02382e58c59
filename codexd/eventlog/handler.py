"""codexd's own troubles, in a log that copes with the trouble it tells of."""

from __future__ import annotations

import logging

from codexd.eventlog.appendlog import AppendLog


class AppendLogHandler(logging.Handler):
    """Writes each record to ``log``; one that the disk does not take is dropped."""

    def __init__(self, log: AppendLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        # Another plugin, which is not quite gone, may have written meanwhile.
        self._log.heal()
        self._log.write_line(text.encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        self._log.close()
        super().close()
