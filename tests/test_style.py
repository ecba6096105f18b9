"""Rules of the house that no linter knows: short functions, no hidden arguments, nothing that leaks between runs."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "benchmarks", "scripts")
TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MAX_LINES = 60
"""Of a function, its decorators and its docstring included."""
NO_NAMES = {"asked", "found", "given", "what"}
"""Words that do not say what a parameter holds; `given` is fine as an adjective, as in `given_rows`."""
NO_TUPLES = {"asked", "settings"}
"""Arguments that were passed on as a tuple without names."""
MUTATING = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"),
    *("add", "discard", "update", "setdefault", "popitem", "appendleft"),
}
"""Methods that change a list, a dict or a set."""
MEMORY = {
    ("src/srun/system/distributed.py", "_place"): "which process this one is; `joined` sets it and sets it back",
}
"""Module-level values that functions change, and why that does not leak between runs."""
MAKERS = {"list", "dict", "set", "defaultdict", "Counter", "OrderedDict", "deque"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def long_functions(tree: ast.AST) -> list[str]:
    lengths = {
        node.name: node.end_lineno - min([node.lineno, *(d.lineno for d in node.decorator_list)]) + 1
        for node in functions(tree)
    }
    return [f"{name}: {length} lines" for name, length in lengths.items() if length > MAX_LINES]


def nameless_parameters(tree: ast.AST) -> list[str]:
    wrong = []
    for node in (part for part in ast.walk(tree) if isinstance(part, Function | ast.Lambda)):
        name = node.name if isinstance(node, Function) else "lambda"
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        wrong += [f"{name}({parameter.arg})" for parameter in parameters if parameter.arg in NO_NAMES]
        if node.args.vararg is not None and node.args.vararg.arg in NO_TUPLES:
            wrong.append(f"{name}(*{node.args.vararg.arg})")
    return wrong


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """What a statement assigns or deletes, tuples taken apart."""
    if isinstance(node, ast.Assign | ast.Delete):
        left = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        left = [node.target]
    else:
        return
    while left:
        target = left.pop()
        if isinstance(target, ast.Tuple | ast.List):
            left += target.elts
        else:
            yield target


def changed_params(tree: ast.AST) -> list[str]:
    """Assignments to an attribute named params, or within one, outside of __init__."""
    made = {id(node) for function in functions(tree) if function.name == "__init__" for node in ast.walk(function)}
    return [
        f"line {target.lineno}: {ast.unparse(target)}"
        for node in ast.walk(tree)
        if id(node) not in made
        for target in targets(node)
        if "params" in [part.attr for part in ast.walk(target) if isinstance(part, ast.Attribute)]
    ]


def is_mutable(value: ast.expr | None) -> bool:
    called = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in MAKERS
    return called or isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def leaking_memory(tree: ast.Module) -> set[str]:
    """Module-level lists, dicts and sets that a function changes, and names that one declares global."""
    values = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_mutable(node.value)
        for target in targets(node)
        if isinstance(target, ast.Name)
    }
    changed: set[str] = set()
    for function in functions(tree):
        own = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
        for node in ast.walk(function):
            own |= {target.id for target in targets(node) if isinstance(target, ast.Name)}
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                changed |= set(node.names)
            changed |= {name for name in changed_by(node) if name in values and name not in own}
    return changed


def changed_by(node: ast.AST) -> Iterator[str]:
    """The names of what a node changes in place."""
    for target in targets(node):
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            yield target.value.id
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute) and called.attr in MUTATING and isinstance(called.value, ast.Name):
        yield called.value.id


def breaches(rule: Callable[[ast.Module], list[str]]) -> list[str]:
    return [f"{name}: {breach}" for name, tree in TREES.items() for breach in rule(tree)]


def test_functions_are_short() -> None:
    assert not breaches(long_functions)


def test_parameters_have_names_that_say_what_they_hold() -> None:
    assert not breaches(nameless_parameters)


def test_nothing_changes_params() -> None:
    assert not breaches(changed_params)


def test_no_module_remembers_one_run_in_the_next() -> None:
    leaks = {(name, value) for name, tree in TREES.items() for value in leaking_memory(tree)}
    assert leaks == set(MEMORY)


def test_the_rules_see_what_they_forbid() -> None:
    assert long_functions(ast.parse("def f():\n" + "    x = 1\n" * MAX_LINES)) == ["f: 61 lines"]
    assert not long_functions(ast.parse("def f():\n" + "    x = 1\n" * (MAX_LINES - 1)))
    assert nameless_parameters(ast.parse("def f(a, *asked): ...\ndef g(asked=1): ...")) == ["f(*asked)", "g(asked)"]
    nameless = "def f(what, /, found, *, given=None): ...\nh = lambda found: found[0]"
    assert nameless_parameters(ast.parse(nameless)) == ["f(what)", "f(found)", "f(given)", "lambda(found)"]
    assert not nameless_parameters(ast.parse("def f(given_rows, whatever): ..."))
    changes = "self.params = 1\na.params.x = 2\nb.params['k'] += 3\nname, c.params = d"
    assert len(changed_params(ast.parse(changes))) == 4
    assert not changed_params(ast.parse("class A:\n    def __init__(self, params):\n        self.params = params"))
    assert not changed_params(ast.parse("params = pipeline.params"))
    values = "A = {}\nB: list[int] = []\nC = set()\nD = {}\n"
    leaks = values + "def f():\n    A[1] = 2\n    B.append(1)\n    D = {}\n    D[1] = 2"
    assert leaking_memory(ast.parse(leaks)) == {"A", "B"}
    assert leaking_memory(ast.parse("E = 0\ndef f():\n    global E\n    E = 1")) == {"E"}
