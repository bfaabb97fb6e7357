"""`wsn` on the command line: the runs of a chapter without its notebook.

    wsn run params/sparse_mlp.cpu.yml        make what is missing, with a live table
    wsn status                               what is there, what failed, what can be resumed
    wsn gc                                   remove what no sweep needs any more
    wsn records export TARGET                copy records, checked
    wsn pack photos/ --name photos           make a data set of your own images
    wsn bundle FILE… --to FOLDER             all that a machine without a network lacks to make the runs
    wsn records import made/records.tar.*    and their records, back from there

It reads the files of parameters that papermill reads, and makes the runs that the notebooks read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsnlib.addresses import import_beside, located

if TYPE_CHECKING:
    from distributed import Client

    import wsnlib as wsn

app = typer.Typer(
    help="The runs of a chapter without its notebook.", no_args_is_help=True, add_completion=False
)
records = typer.Typer(help="Records of the store.", no_args_is_help=True)
app.add_typer(records, name="records")

SHOWN = 8
"""Runs under way that the live table lists at most."""

ParameterFiles = Annotated[
    list[Path], typer.Argument(exists=True, dir_okay=False, help="Files <chapter>.<profile>.yml")
]
Place = Annotated[
    str | None, typer.Option("--store", help="A folder or an address; by default $WSN_STORE, else the cache")
]


@app.command()
def run(
    parameters: ParameterFiles,
    store: Place = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; by default the file's")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes here, by default as many as pay")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, or its file, instead of processes here")
    ] = None,
    resource: Annotated[
        list[str] | None, typer.Option(help="What a run takes of a Dask worker, such as GPU=1")
    ] = None,
    download: Annotated[bool, typer.Option(help="Fetch data sets that are missing")] = False,
) -> None:
    """Make the records of chapters that are missing; what was interrupted goes on where it was."""
    from wsnlib import book, sweeps

    console, failed = Console(), False
    with _sentences():
        chosen, needs = _store(store), _resources(resource)
        if needs and scheduler is None:
            raise ValueError(f"--resource must be left out without --scheduler, got {needs}")
    with _sentences(), _client(scheduler) as executor:
        for file in parameters:
            p = book.read_parameters(file)
            for runs in book.chapter_stages(p, store=chosen):
                with Live(console=console, refresh_per_second=2) as live:
                    try:
                        sweeps.run_missing(
                            runs,
                            store=chosen,
                            device=device or p.device,
                            workers=workers,
                            executor=executor,
                            resources=needs,
                            download=download or p.download,
                            progress=partial(_show, live, file),
                        )
                    except sweeps.SweepError as error:
                        failed = True
                        live.update(_failures(error))
                        break  # later stages read what this one lacks
    if failed:
        raise typer.Exit(1)


@app.command()
def status(
    parameters: Annotated[
        list[Path] | None, typer.Argument(exists=True, help="By default all of params/")
    ] = None,
    store: Place = None,
) -> None:
    """What the store has of each chapter: runs done, failed, interrupted, missing.

    Runs that depend on others, such as on the learning rate that was best, are counted once these are done.
    A damaged record is as none.
    """
    from wsnlib import book, specs

    with _sentences():
        chosen = _store(store)
        finished, failures, under_way = chosen.keys(), chosen.failures(), chosen.under_way()
        table = Table("chapter", "runs", "done", "failed", "resumable", "missing", box=None)
        for file in parameters or sorted(Path("params").glob("*.yml")):
            p = book.read_parameters(file)
            runs = {specs.spec_key(run): run for stage in _known_stages(p, chosen) for run in stage}
            done = finished & runs.keys() - chosen.damaged(runs.values()).keys()
            counts = (len(runs), *(len(runs.keys() & set(of)) for of in (done, failures, under_way)))
            table.add_row(file.stem, *map(str, counts), str(counts[0] - counts[1]))
        console = Console()
        console.print(table)
        console.print(f"{len(finished)} records in {', '.join(map(str, (chosen.path, *chosen.also)))}")
        for key, failure in failures.items():
            console.print(Text(f"{key} failed: {failure.error}"))


@app.command()
def gc(
    store: Place = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also files being written and damaged ones; only when no sweep runs")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be removed")] = False,
) -> None:
    """Remove checkpoints and notes of failures of runs that have a record; records are never removed."""
    with _sentences():
        chosen = _store(store)
        found = chosen.remains()
        names = [*found.checkpoints, *found.failures]
        if everything:
            names += [*found.temporary, *found.damaged]
        if not dry_run:
            chosen.remove(names)
        for name in names:
            typer.echo(name)
        kept = 0 if everything else len(found.temporary) + len(found.damaged)
        typer.echo(f"{len(names)} files {'would be ' if dry_run else ''}removed, {kept} left for --all")


@records.command()
def export(
    target: Annotated[str, typer.Argument(help="A folder or an address")],
    parameters: Annotated[
        list[Path] | None, typer.Argument(exists=True, help="Files <chapter>.<profile>.yml; by default all")
    ] = None,
    store: Place = None,
) -> None:
    """Copy records to another store, whole and checked: those of chapters, or all."""
    from wsnlib import book
    from wsnlib.store import Store

    with _sentences():
        chosen = _store(store)
        runs = [
            run
            for file in parameters or []
            for stage in _known_stages(book.read_parameters(file), chosen)
            for run in stage
            if run in chosen
        ]
        if not parameters:
            runs = [record.experiment for record in chosen]
        copied = chosen.export(runs, Store(target))
        typer.echo(f"{copied} records copied to {target}, {len(set(runs)) - copied} were there")


@records.command("import")
def import_(
    places: Annotated[list[Path], typer.Argument(help="A folder of records, or the parts of an archive")],
    store: Place = None,
) -> None:
    """Take records from elsewhere, whole and checked."""
    from wsnlib.book.engine import bundles

    with _sentences():
        count, new = bundles.import_records(places, _store(store))
        typer.echo(f"{new} records taken, {count - new} were there")


@app.command()
def bundle(
    parameters: ParameterFiles,
    to: Annotated[Path, typer.Option(help="The folder in which the bundle is written")],
    store: Place = None,
    python: Annotated[
        str | None, typer.Option(help="Of that machine, as in 3.12; by default this one's")
    ] = None,
    platform: Annotated[list[str] | None, typer.Option(help="Tags of wheels that it takes")] = None,
    there: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="What `pip freeze` prints on it")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Modules of your own")
    ] = None,
    part_mb: Annotated[float, typer.Option(help="Size of the parts at most")] = 64.0,
) -> None:
    """Put what a machine without a network lacks into files: code, wheels, data; run.py runs it there."""
    from wsnlib import book
    from wsnlib.book.engine import bundles

    with _sentences():
        chosen = _store(store)
        known = {"python": python, "platforms": platform and tuple(platform)}
        machine = bundles.Machine(
            **{name: value for name, value in known.items() if value},  # type: ignore[arg-type]
            packages=tuple(there.read_text().splitlines()) if there else (),
        )
        stages = [runs for file in parameters for runs in _known_stages(book.read_parameters(file), chosen)]
        sizes = bundles.bundle(
            parameters,
            to,
            stages=stages,
            store=chosen,
            machine=machine,
            beside=beside or (),
            part_bytes=int(part_mb * 2**20),
        )
        for name, size in sizes.items():
            typer.echo(f"{size / 2**20:8.1f} MiB  {name}")
        parts = sorted(to.glob("bundle.tar.*"))
        packed = sum(part.stat().st_size for part in parts) / 2**20
        typer.echo(f"{packed:8.1f} MiB  in {len(parts)} parts; copy {to} there, and run python run.py")


@app.command()
def pack(
    source: Annotated[Path, typer.Argument(help="A folder of images, or an .npz of arrays")],
    name: Annotated[str, typer.Option(help="What it is called from now on")],
    size: Annotated[
        tuple[int, int] | None, typer.Option(help="Height and width that the images of a folder get")
    ] = None,
    test_fraction: Annotated[float, typer.Option(help="Part set aside if there are no test images")] = 0.2,
) -> None:
    """Pack your own images once, say what they were taken for, and give the parameters that name them."""
    from wsnlib import data

    with _sentences():
        spec = data.pack_data(source, name=name, size=size, test_fraction=test_fraction)
        typer.echo(f"data: {spec.name}\ndata_sha256: {spec.sha256}")


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors that say what is wrong and what is allowed are shown without the library's insides."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        Console(stderr=True).print(Text(f"{error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error


def _store(place: str | None) -> wsn.Store:
    from wsnlib.store import Store, default_store

    default = default_store()
    return default if place is None else Store(place, also=default.also)


@contextmanager
def _client(scheduler: str | None) -> Iterator[Client | None]:
    if scheduler is None:
        yield None
        return
    from distributed import Client

    file = located(scheduler)
    is_file = isinstance(file, Path) and file.is_file()
    if isinstance(file, Path) and file.suffix == ".json" and not is_file:
        raise ValueError(f"scheduler must be an address or a file that is there, got {file}; start one first")
    options: dict[str, Any] = {"scheduler_file": str(file)} if is_file else {"address": scheduler}
    with Client(**options) as client:
        yield client


def _resources(given: list[str] | None) -> dict[str, float] | None:
    found = {}
    for text in given or []:
        name, _, amount = text.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise ValueError(f"resource must be a name and a number, got {text!r}; write GPU=1") from None
    return found or None


def _known_stages(p: Any, store: wsn.Store) -> Iterator[list[wsn.specs.Run]]:
    """Stages up to the first that depends on a run without a record."""
    from wsnlib import book

    with suppress(KeyError):
        yield from book.chapter_stages(p, store=store)


def _show(live: Live, file: Path, progress: wsn.Progress) -> None:
    left = progress.seconds_left
    table = Table(title=str(file), box=None, title_justify="left")
    for column in ("missing at first", "done", "failed", "under way", "left"):
        table.add_column(column, justify="right")
    table.add_row(
        str(progress.total),
        str(progress.done),
        str(len(progress.failures)),
        str(len(progress.under_way)),
        "" if left is None else str(timedelta(seconds=round(left))),
    )
    for run in progress.under_way[:SHOWN]:
        table.add_row(*[""] * 3, Text(_name(run), style="dim"), "")
    live.update(table)


def _failures(error: wsn.SweepError) -> Group:
    shown = [Text(str(error), style="red")]
    for failure in error.failures:
        shown.append(Text(f"\n{_name(failure.experiment)}\n{failure.experiment}\n{failure.traceback}"))
    return Group(*shown)


def _name(run: wsn.specs.Run) -> str:
    from wsnlib import specs

    what = type(getattr(run, "model", run)).__name__
    seed = getattr(run, "seed", None)
    return f"{specs.spec_key(run)} {what}" + ("" if seed is None else f", seed {seed}")


def main() -> None:
    """The command `wsn`, which finds networks in modules beside it."""
    import_beside(os.getcwd())
    app()


if __name__ == "__main__":
    main()
