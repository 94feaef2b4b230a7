"""The command lines of waves whose JSON is held still."""

WAVES = [
    (0, "consumer plan examples/switchover.toml", ""),
    (78, "consumer plan wrong.toml", ""),
    (2, "consumer plan absent.toml", ""),
]
