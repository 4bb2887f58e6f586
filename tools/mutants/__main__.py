"""Mutation testing: which changes of a module do its own unit tests not notice?

mutmut (https://mutmut.readthedocs.io) makes the mutants: copies of a function with one expression changed.
forked_runs.py runs the tests of the module with each. A mutant that makes a test fail is killed; one that does not has
survived: write a test for it, or explain in explained.toml why no test can tell it from the original. Runs in a copy of
the source tree, which is removed at the end.

Usage: tools/mutants [--every N] [MODULE ...], for example `tools/mutants crew/protocol crew/duration.py`; all modules
by default. With --every 3 each third mutant is tested: a first look at a large module.
A mutant that only changes the wording of a sentence counts as explained: errors and log lines are for people.
mutmut changes neither constants of a module nor functions with decorators, like properties; a test of a wire format
names its constants.

The exit status is 1 if fewer than 90 % of a module's mutants are killed (without the explained ones), or if an
explanation matches no survivor.
"""

import argparse
import ast
import contextlib
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
import tomllib
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPIED = ("crew", "docs", "tests", "pyproject.toml", "setup.cfg")
REQUIRED = 0.9  # the share of a module's mutants that its tests have to kill

# pytest without the plugins that no test here needs, and without the timer of each test.
PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "--assert=plain", "-o", "timeout=0"),
    *("-p", "no:cacheprovider", "-p", "no:unraisableexception", "-p", "pytest_tornado.plugin", "-p", "pytest_timeout"),
    *("-p", "_hypothesis_pytestplugin", "-p", "few_examples", "-p", "forked_runs"),
)
ENVIRONMENT = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(HERE)}


class MutatedModule:
    """A module with the mutants of its functions beside them, which run as they are named in the environment."""

    def __init__(self, module: str, every: int) -> None:
        self.module = module
        file = mutate_file_contents(module, (ROOT / module).read_text())
        self.text = file.code
        self.mutants = [get_mutant_name(Path(module), name) for name in file.mutant_names[::every]]
        lines = self.text.splitlines()
        self.sources = {
            node.name: lines[node.lineno - 1 : node.end_lineno]
            for node in ast.walk(ast.parse(self.text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }

    def diff(self, name: str) -> str:
        """The difference that a mutant makes, as a unified diff."""
        mutant = name.rpartition(".")[2]
        function, _, number = mutant.rpartition("__mutmut_")
        original = f"{function}__mutmut_orig"
        plain = function.removeprefix("x_").rpartition("ǁ")[2]
        before, after = ([line.replace(one, plain) for line in self.sources[one]] for one in (original, mutant))
        title = f"mutant {number} of {function.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"
        return "\n".join(difflib.unified_diff(before, after, self.module, title, n=2, lineterm=""))


@dataclass(frozen=True)
class Change:
    """What a mutant changes: the lines of the module before and after, without indentation."""

    before: str
    after: str

    @classmethod
    def of_diff(cls, diff: str) -> "Change":
        """Read a unified diff."""
        lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
        return cls(*("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"))

    @property
    def is_wording(self) -> bool:
        """Whether only the words of a sentence differ: one string with a space, in an error or a log line."""
        before, after = tokens(self.before), tokens(self.after)
        different = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
        return len(before) == len(after) and len(different) == 1 and all(map(is_sentence, different[0]))


@dataclass
class Score:
    """The mutants of one module."""

    module: str
    killed: int = 0
    explained: int = 0
    survivors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mutants(self) -> int:
        """All mutants that were run."""
        return self.killed + self.explained + len(self.survivors)

    @property
    def share(self) -> float:
        """The share of killed ones among those that are not explained, from 0 to 1."""
        return self.killed / max(self.killed + len(self.survivors), 1)

    def __str__(self) -> str:
        return (
            f"{self.module:44} {self.mutants:7} {self.killed:7} {self.explained:10} {len(self.survivors):9}"
            f" {self.share:7.1%} {self.seconds:6.0f} s"
        )


def tokens(text: str) -> list[tuple[int, str]]:
    """The tokens of a piece of a line, as far as it can be read."""
    found: list[tuple[int, str]] = []
    with contextlib.suppress(tokenize.TokenError, IndentationError):  # a line of a longer statement has open brackets
        found.extend((one.type, one.string) for one in tokenize.generate_tokens(StringIO(text).readline))
    return found


def is_sentence(token: tuple[int, str]) -> bool:
    """Whether a token is a string with a space. An f-string is not: a mutant may change the code in it."""
    kind, text = token
    return kind == tokenize.STRING and text[0] in "\"'" and " " in text.strip("\"' ")


def tests_of(module: str, named: list[str]) -> list[str]:
    """The test files of a module: those that modules.toml names, or the one at the same place below tests/unit."""
    path = Path(module)
    return named or [str(Path("tests/unit", *path.parts[1:-1], f"test_{path.name}"))]


def explained_changes() -> dict[str, set[Change]]:
    """The mutants of explained.toml, by module."""
    changes: dict[str, set[Change]] = {}
    for one in tomllib.loads((HERE / "explained.toml").read_text())["mutant"]:
        if not one["reason"]:
            raise SystemExit(f"explained.toml: a mutant of {one['module']} has no reason")
        before, *after = (
            "\n".join(line.strip() for line in text.splitlines()) for text in (one["before"], *one["after"])
        )
        changes.setdefault(one["module"], set()).update(Change(before, line) for line in after)
    return changes


def run(module: str, tests: list[str], copy: Path, explained: set[Change], every: int) -> tuple[Score, set[Change]]:
    """Test the mutants of one module in a copy of the tree; returns the score, and the explanations that were used."""
    started = time.monotonic()
    mutated = MutatedModule(module, every)
    score = Score(module)
    used = set()
    for name, status in statuses(mutated, tests, copy).items():
        if status:
            score.killed += 1
            continue
        diff = mutated.diff(name)
        change = Change.of_diff(diff)
        if change in explained or change.is_wording:
            used.add(change)
            score.explained += 1
        else:
            score.survivors.append(diff)
    score.seconds = time.monotonic() - started
    return score, used


def statuses(mutated: MutatedModule, tests: list[str], copy: Path) -> dict[str, int]:
    """Run the tests with each mutant in a copy of the tree; returns the exit statuses, 0 for a survivor."""
    original = (copy / mutated.module).read_text()
    mutants, results = copy / "mutants.json", copy / "statuses.json"
    mutants.write_text(json.dumps(mutated.mutants))
    (copy / mutated.module).write_text(mutated.text)
    ended = subprocess.run(
        [*PYTEST, "--mutants", mutants, "--statuses", results, *tests],
        cwd=copy,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    (copy / mutated.module).write_text(original)
    if ended.returncode:
        raise SystemExit(f"the tests of {mutated.module} fail without a mutant:\n{ended.stdout}")
    found: dict[str, int] = json.loads(results.read_text())
    return found


def main(chosen: list[str], every: int) -> int:
    """Test the mutants of the chosen modules, or of all; returns the exit status."""
    listed: dict[str, list[str]] = tomllib.loads((HERE / "modules.toml").read_text())
    modules = [one for one in listed if not chosen or any(Path(one).is_relative_to(name) for name in chosen)]
    if not modules:
        raise SystemExit(f"modules.toml lists none of {', '.join(chosen)}")
    os.chdir(ROOT)  # mutmut reads pyproject.toml
    explanations = explained_changes()
    scores, unused = [], []
    with tempfile.TemporaryDirectory(prefix="crew-mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        print(f"{'module':44} {'mutants':>7} {'killed':>7} {'explained':>10} {'survivors':>9} {'killed':>7}")
        for module in modules:
            explained = explanations.get(module, set())
            score, used = run(module, tests_of(module, listed[module]), copy, explained, every)
            print(score, flush=True)
            scores.append(score)
            unused += [f"{module}: {change.after}" for change in explained - used if every == 1]
    for score in scores:
        for diff in score.survivors:
            print(f"\n{diff.strip()}")
    for line in unused:
        print(f"explained.toml explains a mutant that did not survive: {line}", file=sys.stderr)
    low = [score.module for score in scores if score.share < REQUIRED]
    for name in low:
        print(f"fewer than {REQUIRED:.0%} of the mutants are killed: {name}", file=sys.stderr)
    return int(bool(low or unused))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage="tools/mutants [--every N] [MODULE ...]")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("modules", nargs="*")
    arguments = parser.parse_args()
    sys.exit(main(arguments.modules, arguments.every))
