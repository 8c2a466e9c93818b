"""Measure a Python source file: the work that `make demo` has done, a few thousand times."""

from __future__ import annotations

import ast
import tokenize
import warnings

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
BLOCKS = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.AsyncFor),
    *(ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match),
)


def measure(path: str) -> dict[str, int]:
    """Lines, functions, classes and the deepest nesting of blocks in the file at `path`. Raises
    SyntaxError, UnicodeDecodeError, OSError …: not every .py file in the world is Python 3."""
    with tokenize.open(path) as stream:
        source = stream.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source, path)
    functions = classes = deepest = 0
    open_nodes: list[tuple[ast.AST, int]] = [(tree, 0)]
    while open_nodes:
        node, depth = open_nodes.pop()
        functions += isinstance(node, FUNCTIONS)
        classes += isinstance(node, ast.ClassDef)
        depth += isinstance(node, BLOCKS)
        deepest = max(deepest, depth)
        orelse = node.orelse if isinstance(node, ast.If) and len(node.orelse) == 1 else []
        for child in ast.iter_child_nodes(node):
            beside = child in orelse and isinstance(child, ast.If)  # an elif
            open_nodes.append((child, depth - beside))
    return {
        "lines": source.count("\n") + (not source.endswith("\n") and bool(source)),
        "functions": functions,
        "classes": classes,
        "nesting": deepest,
    }
