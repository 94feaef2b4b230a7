"""`completion`: complete commands and names with the tab key."""

from grafctl.commands.declared import Annotated, Argument, Literal

Shell = Annotated[
    Literal["bash", "zsh", "fish"], Argument(metavar="SHELL", help="bash, zsh or fish", show_default=False)
]


def show(shell: Shell) -> None:
    """Print the completion script of a shell

    Changes nothing. Resources, groups and domains of the store in GRAFCTL_STORE are completed too.

    Example: grafctl completion show bash
    """
    from typer.completion import get_completion_script

    from grafctl import render_output

    script = get_completion_script(prog_name="grafctl", complete_var="_GRAFCTL_COMPLETE", shell=shell)

    render_output.write(f"{script}\n".encode())


def install(shell: Shell) -> None:
    """Install completion for a shell

    Writes the script where the shell looks for it and, for bash and zsh, a line in its start-up file.

    Example: HOME=$(mktemp -d) grafctl completion install bash
    """
    from typer.completion import install

    from grafctl import render_output

    name, path = install(shell=shell, prog_name="grafctl", complete_var="_GRAFCTL_COMPLETE")

    render_output.write(f"Completion for {name} is in {path}; it works in the next shell.\n".encode())
