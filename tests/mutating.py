"""Plant known bugs in the trading process, one at a time, and see that the simulator catches each.

A mutant is a few lines of the product exchanged for wrong ones, as tests/mutants.toml has them. The files
stay as they are: an import hook gives the changed text to the one process that plays the mutant, so that
nothing is compiled anew and nobody else sees it. Each mutant is played in a fork of a process that has loaded
everything; there the changed modules, and all that import them, are imported again.

    python tests/mutating.py                     each with the seed that caught it last, first
    python tests/mutating.py --seeds 1..200      look for a seed that catches it
    python tests/mutating.py --seeds 1..200 --only NAME --write
"""

import argparse
import ast
import contextlib
import importlib
import json
import multiprocessing
import os
import re
import sys
import tomllib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

MUTANTS = Path(__file__).with_name("mutants.toml")
SOURCES = Path(__file__).parent.parent / "src" / "market_maker"
_PACKAGE = "market_maker"
_SIMULATION = "market_maker.faultsim.simulation"
_OTHERS = range(1, 11)
_SEED = re.compile(r"^(seed|invariant) = .*$", re.MULTILINE)


class MutantStale(Exception):
    """A mutant does not fit the code any more."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines of one file, and the wrong ones that take their place."""

    file: str
    before: str
    after: str

    @property
    def module(self) -> str:
        """Dotted name of the module."""
        return ".".join([_PACKAGE, *Path(self.file).with_suffix("").parts])

    def source(self) -> str:
        """Text of the file with the bug in it."""
        text = (SOURCES / self.file).read_text()
        count = text.count(self.before)
        if count != 1:
            msg = f"{self.file}: expected once, was there {count} times: {self.before!r}"
            raise MutantStale(msg)
        return text.replace(self.before, self.after)


@dataclass(frozen=True, slots=True)
class Game:
    """What is simulated."""

    hours: float
    faults: tuple[str, ...]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug: which lesson it is, where it sits, and what caught it last."""

    name: str
    lesson: int
    says: str
    edits: tuple[Edit, ...]
    game: Game
    seed: int
    invariant: str


@dataclass(frozen=True, slots=True)
class Caught:
    """What came of a mutant: the first seed that violated something; 0 where none did. CPU seconds."""

    name: str
    seed: int = 0
    invariant: str = ""
    detail: str = ""
    seeds: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Task:
    """Seeds of a game; without edits it is played as it is."""

    name: str
    edits: tuple[Edit, ...]
    game: Game
    seeds: Sequence[int]


def read_mutants(path: Path = MUTANTS) -> list[Mutant]:
    """All planted bugs, in the order of the file."""
    tables = tomllib.loads(path.read_text())["mutant"]
    return [
        Mutant(
            table["name"],
            table["lesson"],
            table["says"],
            tuple(Edit(**edit) for edit in table["edit"]),
            Game(table["hours"], tuple(table["faults"].split()), tuple(table.get("settings", ()))),
            table["seed"],
            table["invariant"],
        )
        for table in tables
    ]


class _Loader(SourceFileLoader):
    """Loads a module from the text that it is given; nothing is cached on the disk."""

    def __init__(self, edit: Edit) -> None:
        super().__init__(edit.module, str(SOURCES / edit.file))
        self._text = edit.source()

    def get_code(self, fullname: str) -> Any:
        """Compile the text with the bug."""
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the modules with bugs before anybody else does."""

    def __init__(self, edits: Iterable[Edit]) -> None:
        self._loaders = {edit.module: _Loader(edit) for edit in edits}

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Spec of a module with a bug."""
        loader = self._loaders.get(fullname)
        return None if loader is None else spec_from_file_location(fullname, loader.path, loader=loader)


def imported_by(module: str) -> set[str]:
    """Modules of ours that a loaded module's source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(str(sys.modules[module].__file__)).read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith(f"{_PACKAGE}.")}


def dependents(modules: Iterable[str]) -> set[str]:
    """These modules, and all loaded ones that import one of them, however indirectly."""
    imports = {name: imported_by(name) for name in sys.modules if name.startswith(f"{_PACKAGE}.")}
    found: set[str] = set()
    new = set(modules)
    while new:
        found |= new
        new = {name for name, needs in imports.items() if needs & found} - found
    return found


def plant(edits: Sequence[Edit]) -> None:
    """Put bugs into this process."""
    if not edits:
        return
    for name in dependents(edit.module for edit in edits):
        parent, _, child = name.rpartition(".")
        if sys.modules.pop(name, None) is not None:
            with contextlib.suppress(AttributeError):
                delattr(sys.modules[parent], child)
    sys.meta_path.insert(0, _Finder(edits))
    importlib.invalidate_caches()


def play(task: _Task) -> Caught:
    """Play the seeds until something is violated."""
    plant(task.edits)
    simulation, game = importlib.import_module(_SIMULATION), task.game
    settings = simulation.SimulationSettings(game.hours, game.faults, overrides=game.settings)
    cpu_s = 0.0
    for count, seed in enumerate(task.seeds, 1):
        result = simulation.simulate(seed, settings)
        cpu_s += result.cpu_s
        if result.violations:
            first = result.violations[0]
            return Caught(task.name, seed, first.invariant, first.detail, count, cpu_s)
    return Caught(task.name, seeds=len(task.seeds), cpu_s=cpu_s)


def _play_and_tell(task: _Task, pipe: Connection) -> None:
    pipe.send(play(task))


def play_all(tasks: Sequence[_Task], jobs: int, told: Any) -> list[Caught]:
    """Play tasks in forks of this process, so many at a time.

    Raises
    ------
    RuntimeError
        If a process ended without a result.
    """
    context = multiprocessing.get_context("fork")
    left, running, results = deque(tasks), {}, []
    while left or running:
        while left and len(running) < jobs:
            here, there = context.Pipe(duplex=False)
            task = left.popleft()
            process = context.Process(target=_play_and_tell, args=(task, there))
            process.start()
            there.close()
            running[here] = (task.name, process)
        for pipe in wait(list(running)):
            name, process = running.pop(pipe)
            try:
                results.append(pipe.recv())
            except EOFError as error:
                msg = f"{name}: the simulation itself failed, see above"
                raise RuntimeError(msg) from error
            process.join()
            told(results[-1])
    return results


def find(mutants: Sequence[Mutant], seeds: Sequence[int], jobs: int, told: Any) -> dict[str, Caught]:
    """What catches each mutant; without seeds the one that did last is played, then a few others.

    Any change of the product gives a seed another course, so that the last one may catch nothing any more.
    """
    tasks = [_Task(m.name, m.edits, m.game, seeds or (m.seed, *_OTHERS)) for m in mutants]
    return {caught.name: caught for caught in play_all(tasks, jobs, told)}


def check_without(mutants: Sequence[Mutant], found: dict[str, Caught], jobs: int, told: Any) -> list[Caught]:
    """Play the seeds that caught something without any bug; what is violated all the same."""
    games = {(m.game, found[m.name].seed): m.name for m in mutants if found[m.name].seed}
    tasks = [_Task(f"no bug, as {name}", (), game, (seed,)) for (game, seed), name in games.items()]
    return [caught for caught in play_all(tasks, jobs, told) if caught.seed]


def load() -> None:
    """Load the simulator and every kernel, so that forks have them."""
    simulation = importlib.import_module(_SIMULATION)
    simulation.simulate(1, simulation.SimulationSettings(0.02))


def renew(path: Path, found: dict[str, Caught]) -> None:
    """Write the seeds that caught something into the file."""
    head, *parts = path.read_text().split("[[mutant]]\n")
    renewed = [head]
    for part in parts:
        # The name of a mutant is the first line of its part.
        caught = found.get(tomllib.loads(part.partition("\n")[0])["name"])
        if caught is None or not caught.seed:
            renewed.append(part)
            continue
        values = {"seed": str(caught.seed), "invariant": f'"{caught.invariant}"'}
        renewed.append(_SEED.sub(lambda line, new=values: f"{line[1]} = {new[line[1]]}", part))
    path.write_text("[[mutant]]\n".join(renewed))


def _range(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Plant known bugs and see that the simulator catches each.")
    parser.add_argument(
        "--seeds", type=_range, default=range(0), metavar="A..B", help="seeds to try [the last one]"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="this mutant; may be given again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--write", action="store_true", help="write the seeds into tests/mutants.toml")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser.parse_args()


def main() -> int:
    """Play, print, and say whether every bug was caught and nothing else."""
    given = _arguments()
    mutants = [m for m in read_mutants() if not given.only or m.name in given.only]
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=given.json) as bar:
        row = bar.add_task("planting", total=2 * len(mutants))

        def told(caught: Caught) -> None:
            bar.update(row, advance=1, description=caught.name)
            what = f"seed {caught.seed}, {caught.invariant}" if caught.seed else "nothing"
            bar.console.print(f"{caught.name}: {what} {caught.detail}", highlight=False, soft_wrap=True)

        load()
        found = find(mutants, given.seeds, given.jobs, told)
        wrong = check_without(mutants, found, given.jobs, told)
    if given.write:
        renew(MUTANTS, found)
    results = [found[mutant.name] for mutant in mutants]
    if given.json:
        told_wrong = [asdict(caught) for caught in wrong]
        shown = {"mutants": [asdict(caught) for caught in results], "without_a_bug": told_wrong}
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        _print(mutants, found, wrong)
    return int(bool(wrong) or not all(caught.seed for caught in results))


def _print(mutants: Sequence[Mutant], found: dict[str, Caught], wrong: Sequence[Caught]) -> None:
    console, table = Console(), Table(title="Planted bugs", title_justify="left")
    for name in ("bug", "lesson", "seed", "invariant", "played", "CPU s"):
        table.add_column(name, overflow="fold")
    for mutant in mutants:
        caught = found[mutant.name]
        seed = str(caught.seed) if caught.seed else "[red]SURVIVED[/]"
        row = (seed, caught.invariant, str(caught.seeds), f"{caught.cpu_s:.1f}")
        table.add_row(mutant.name, str(mutant.lesson), *row)
    console.print(table)
    for caught in wrong:
        console.print(f"[red]{caught.name}, seed {caught.seed}: {caught.invariant}: {caught.detail}[/]")
    survived = sum(not caught.seed for caught in found.values())
    console.print(f"{len(mutants) - survived} of {len(mutants)} planted bugs were caught.")


if __name__ == "__main__":
    sys.exit(main())
