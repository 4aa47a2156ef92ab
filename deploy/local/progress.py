"""What is being done right now, for whoever waits for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress as Display
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Progress(Protocol):
    """Called with the thing that is worked on (a service, the jar) and what is done to it now."""

    def __call__(self, what: str, message: str, *, done: bool = False) -> None: ...


def silent(what: str, message: str, *, done: bool = False) -> None:
    """Tell nobody."""


@contextmanager
def shown(console: Console | None = None) -> Iterator[Progress]:
    """Show one line for each thing: live on a terminal, one line for each change elsewhere (standard error)."""
    console = console or Console(stderr=True)
    if not console.is_terminal:

        def printed(what: str, message: str, *, done: bool = False) -> None:
            console.print(f"{what}: {message}", highlight=False, markup=False)

        yield printed
        return

    display = Display(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.fields[what]:<12}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
    )
    tasks: dict[str, TaskID] = {}
    with display:

        def drawn(what: str, message: str, *, done: bool = False) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(message, total=1, what=what)
            display.update(tasks[what], description=message, completed=1 if done else 0)

        yield drawn
