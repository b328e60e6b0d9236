"""Breaks the formulas one at a time and lists what no test notices.

    python benchmarks/mutation.py keras_finegrain/losses/arc_face_loss.py

Each mutant is a module with one change: an operator, a comparison, a bound, a
number, a reduction or a mask. The module's tests run on it until the first
failure. A mutant that passes them is printed: a test is missing, or the change
changes nothing (say so beside the figure). It takes about as long as one run
of the tests for each mutant; the checkout is not written to.

The tests run on the backend of KERAS_BACKEND; PyTorch compiles nothing and is
the fastest. Linux and macOS only: the packages are imported once, and every
mutant runs in a fork.
"""

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import random
import signal
import sys
import time
import types
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras_finegrain"
ROOMS = ("losses", "layers", "_ops", "metrics", "regularizers.py")
# What stands in the place of an operator, and of a function of arrays.
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
FUNCTIONS = {
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
    "argmax": "argmin",
    "amax": "amin",
    "sum": "mean",
    "mean": "sum",
    "logical_and": "logical_or",
    "logical_or": "logical_and",
    "equal": "not_equal",
    "not_equal": "equal",
}
# Calls that are left out: what remains is their first argument.
DROPPED = ("clip", "stop_gradient", "abs", "logical_not", "square", "sqrt")
COMMON = [
    "tests/robustness/constructors_test.py",
    "tests/robustness/derivatives_test.py",
]
ON_CLASSES = [
    "tests/losses/class_losses_test.py",
    "tests/losses/margins_test.py",
    "tests/losses/soft_triple_loss_test.py",
    "tests/labels/sampling_test.py",
    "tests/labels/masks_test.py",
    "tests/losses/peers_test.py",
]
TESTS = {
    "losses": COMMON,
    "layers": ["tests/layers", "tests/models/model_test.py", *COMMON],
    "_ops": ["tests/_ops", "tests/layers", "tests/losses", *COMMON],
    "metrics": ["tests/metrics"],
    "regularizers.py": [
        "tests/regularizers_test.py",
        "tests/layers/soft_triple_test.py",
        *COMMON,
    ],
}
ON_PAIRS = [
    "embedding_pairs",
    "batch_loss",
    "contrastive_loss",
    "multi_similarity_loss",
    "n_pairs_loss",
    "triplet_all_loss",
    "triplet_hard_loss",
    "triplet_semi_hard_loss",
    "triplet_loss",
]


def tests_of(path: pathlib.Path) -> list[str]:
    """The tests that are to notice a change of a module, its own first."""
    room = path.relative_to(PACKAGE).parts[0]
    files = list(TESTS[room])
    if room == "losses":
        of_pairs = [
            "tests/losses/pair_losses_test.py",
            "tests/losses/peers_test.py",
            "tests/_ops/numerics_test.py",
            # With a reference beside the batch.
            "tests/layers/cross_batch_memory_test.py",
        ]
        files = (of_pairs if path.stem in ON_PAIRS else ON_CLASSES) + files
    else:
        own = f"tests/{path.relative_to(PACKAGE).with_suffix('')}_test.py"
        if (ROOT / own).exists():
            files.insert(0, own)
    return list(dict.fromkeys(files))


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in the place of one."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        operator = OPERATORS[type(node.op)]()
        yield ast.BinOp(node.left, operator, node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(OPERATORS[type(node.op)](), node.values)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        operator = OPERATORS[type(node.ops[0])]()
        yield ast.Compare(
            node.left, [operator, *node.ops[1:]], node.comparators
        )
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, (ast.USub, ast.Not)):
            yield node.operand
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, (int, float)):
            changed = (
                not node.value
                if isinstance(node.value, bool)
                else node.value + 1
            )
            yield ast.Constant(changed)
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "attr", None)
        if name in FUNCTIONS:
            function = ast.Attribute(
                node.func.value, FUNCTIONS[name], ast.Load()
            )
            yield ast.Call(function, node.args, node.keywords)
        elif name in DROPPED and node.args:
            yield node.args[0]
        elif name == "where" and len(node.args) == 3:
            condition, yes, no = node.args
            yield ast.Call(node.func, [condition, no, yes], node.keywords)


def _formula_nodes(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Where an expression stands: parent, field and place in a list.

    Errors, annotations and what stands outside of functions are left out.
    """
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        items = value if isinstance(value, list) else [value]
        for place, item in enumerate(items):
            if not isinstance(item, ast.AST) or isinstance(item, ast.Raise):
                continue
            if isinstance(item, ast.expr):
                yield node, field, place if isinstance(value, list) else None
            yield from _formula_nodes(item)


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Each change of a module: its line, what was done, the new source."""
    tree = ast.parse(source)
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name != "__repr__"
    ]
    seen = set()
    for function in functions:
        for parent, field, place in _formula_nodes(function):
            if (id(parent), field, place) in seen:
                continue
            seen.add((id(parent), field, place))
            holder = getattr(parent, field)
            before = holder if place is None else holder[place]
            for after in _changes(before):
                _put(parent, field, place, after)
                yield (
                    before.lineno,
                    f"{ast.unparse(before)}  ->  {ast.unparse(after)}",
                    ast.unparse(ast.fix_missing_locations(tree)),
                )
                _put(parent, field, place, before)


def _put(parent: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[place] = node


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another source than its file's."""

    def __init__(self, path: pathlib.Path, source: str) -> None:
        self.path, self.source = path, source
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts)

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's, with this as its loader."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name, self.path, loader=self
        )

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs the other source."""
        exec(compile(self.source, self.path, "exec"), module.__dict__)


def survives(
    path: pathlib.Path, source: str, tests: list[str], seconds: float
) -> bool:
    """Whether all tests pass with a module in another form."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.setsid()
        sys.meta_path.insert(0, Mutated(path, source))
        import pytest

        arguments = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
        code: int = 1
        try:
            code = int(pytest.main([*arguments, *tests]))
        finally:
            os._exit(code)
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main() -> None:
    """Breaks the modules that are named, or those of all rooms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", type=pathlib.Path)
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the mutants to try"
    )
    parser.add_argument("--seed", type=int, default=0, help="of that draw")
    parser.add_argument(
        "--seconds", type=float, default=300.0, help="the most for a mutant"
    )
    parser.add_argument(
        "--again",
        type=pathlib.Path,
        help="what an earlier run printed: only those mutants",
    )
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Everything that is slow to import, and nothing of ours.
    import keras  # noqa: F401
    import pytest  # noqa: F401
    import sklearn.cluster
    import torch  # noqa: F401

    del sklearn
    modules = [path.resolve() for path in arguments.modules] or [
        path
        for room in ROOMS
        for path in (
            [PACKAGE / room]
            if room.endswith(".py")
            else sorted((PACKAGE / room).glob("[!_]*.py"))
        )
    ]
    draw = random.Random(arguments.seed)
    tried = survived = 0
    again = arguments.again and arguments.again.read_text().splitlines()
    for path in modules:
        name = path.relative_to(ROOT)
        source, tests = path.read_text(), tests_of(path)
        chosen = [
            (f"{name}:{line}: {change}", changed)
            for line, change, changed in mutants(source)
            if draw.random() < arguments.share
        ]
        if again:
            chosen = [mutant for mutant in chosen if mutant[0] in again]
        if not chosen:
            continue
        if not survives(path, source, tests, arguments.seconds):
            sys.exit(f"{name}: its tests fail unchanged.")
        for shown, changed in chosen:
            tried += 1
            if survives(path, changed, tests, arguments.seconds):
                survived += 1
                print(shown, flush=True)
        print(
            f"{name}: {tried - survived} of {tried} so far were noticed",
            flush=True,
        )


if __name__ == "__main__":
    main()
