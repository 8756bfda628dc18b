"""A terminal for tests of what is shown on one."""

import io


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
