"""The commands: one file a noun, and a command is three paragraphs: check what needs no store, ask the library, render.

Promises
- Nothing here decides, opens an environment or writes to a terminal; a module is imported when one of its commands
  runs.
- A docstring is the help text: an imperative first line without a full stop, what changes, and from `Example:` on
  what a test collects and runs.
"""
