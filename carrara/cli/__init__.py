"""The command line: it parses, calls, prints and chooses an exit code. What it can do, Python can do.

Exit codes: 0 all well, 1 the run or some of its records failed, 2 a wrong call or a bad file, 130 interrupted.
Results go to standard output, progress and errors to standard error.
"""


def main() -> None:
    """Run the command line and exit."""
    from carrara.cli.outcome import code_of, leave

    leave(code_of(_command))


def _command() -> None:
    from carrara.cli.app import app

    app()
