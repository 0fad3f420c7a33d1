"""The one error that a wrong stack configuration raises."""

import pulumi


class ConfigError(pulumi.RunError):
    """A key of the stack configuration is wrong; nothing has been created yet.

    The text names the key and the file that holds it, then says what is allowed. The engine shows it as it is:
    a RunError needs no traceback.
    """

    def __init__(self, key: str, source: str, allowed: str) -> None:
        super().__init__(f"{key} in {source}: {allowed}")
        self.key = key
        self.source = source
        self.allowed = allowed
