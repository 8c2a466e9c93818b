"""Both bindings keep to one contract, and declare what the header has."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from prefork import options

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / "python" / "prefork"
BINDINGS = ("cffi", "cython")
STUB = ast.parse((PYTHON / "_binding.pyi").read_text())
POOL = {
    "workers": 0, "tasks": 0, "age": 0.0, "memory": 0, "memory_limit": 0, "jitter": 0.0,
    "term_grace": 1.0, "capture_output": False, "ask_to_spawn": False,
}  # fmt: skip


def binding(name):
    return importlib.import_module(f"prefork._{name}")


def functions(node):
    return {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}


def classes(node):
    return {part.name: part for part in node.body if isinstance(part, ast.ClassDef)}


def is_property(function):
    return [ast.unparse(decorator) for decorator in function.decorator_list] == ["property"]


def parameters(function):
    """Their names, in order, that of `*args` with its star."""
    more = [] if function.args.vararg is None else [f"*{function.args.vararg.arg}"]
    return [argument.arg for argument in function.args.args] + more


def parameters_at_run_time(function):
    kinds = inspect.Parameter
    return [
        f"*{found.name}" if found.kind == kinds.VAR_POSITIONAL else found.name
        for found in inspect.signature(function).parameters.values()
        if found.default is kinds.empty
    ]


def public(names):
    return {name for name in names if not name.startswith("_")}


# ---- the contract --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BINDINGS)
def test_a_binding_has_what_the_stub_says_and_nothing_else(name):
    found = binding(name)
    constants = {part.target.id for part in STUB.body if isinstance(part, ast.AnnAssign)}
    expected = constants | set(functions(STUB)) | set(classes(STUB))
    assert set(getattr(found, "__all__", public(vars(found)))) == expected
    for constant in constants:
        assert type(getattr(found, constant)) is int
    for function, node in functions(STUB).items():
        assert parameters_at_run_time(getattr(found, function)) == parameters(node), function


@pytest.mark.parametrize("kind", sorted(classes(STUB)))
@pytest.mark.parametrize("name", BINDINGS)
def test_its_classes_have_the_members_that_the_stub_says(name, kind):
    found, expected = getattr(binding(name), kind), functions(classes(STUB)[kind])
    assert public(dir(found)) == public(expected)
    for member in public(expected):
        value, node = inspect.getattr_static(found, member), expected[member]
        if is_property(node):
            assert inspect.isdatadescriptor(value), member
        elif inspect.ismemberdescriptor(value):  # it holds a function of the core, for the pool
            assert parameters(node) == ["self"], member
        else:
            assert parameters_at_run_time(value) == parameters(node), member


@pytest.mark.parametrize("name", BINDINGS)
def test_a_pool_is_made_of_what_the_stub_says(name):
    made, node = binding(name).CorePool, functions(classes(STUB)["CorePool"])["__init__"]
    assert parameters(node) == ["self", *POOL]
    assert made(**POOL).describe()["target"] == 0
    assert made(*POOL.values()).describe()["target"] == 0
    for less in POOL:
        with pytest.raises(TypeError):
            made(**{option: value for option, value in POOL.items() if option != less})
    with pytest.raises(TypeError):
        made(**POOL, more=1)


def test_both_describe_a_pool_in_the_same_words():
    cffi, cython = (list(binding(name).CorePool(**POOL).describe()) for name in BINDINGS)
    assert cffi == cython
    assert binding("cffi").SOFT_SIGNAL == binding("cython").SOFT_SIGNAL
    assert binding("cffi").STACKS_SIGNAL == binding("cython").STACKS_SIGNAL


def types_of(function):
    return ast.unparse(function.args), ast.unparse(function.returns or ast.Constant(None))


def test_the_twin_has_the_types_of_the_stub():
    """mypy holds it to its own, and everybody else to those of the stub."""
    files = "_cffi", "_cffi_steps", "_cffi_task", "_cffi_worker", "calls"
    texts = [(PYTHON / f"{name}.py").read_text() for name in files]
    own = ast.parse("\n".join(texts))
    for name, node in functions(STUB).items():
        assert types_of(functions(own)[name]) == types_of(node), name
    for name, node in classes(STUB).items():
        methods = functions(classes(own)[name])
        attributes = {
            part.target.id: ast.unparse(part.annotation)
            for part in classes(own)[name].body
            if isinstance(part, ast.AnnAssign)
        }
        for method, expected in functions(node).items():
            if method in attributes:
                returned = types_of(expected)[1]
                assert attributes[method] == f"Callable[[], {returned}]", method
            else:
                assert types_of(methods[method]) == types_of(expected), method


# ---- the header ----------------------------------------------------------------------------------


def without_comments(text):
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    return re.sub(r"#.*", "", text)


HEADER = without_comments((ROOT / "csrc" / "prefork.h").read_text())
PXD = without_comments((PYTHON / "_prefork.pxd").read_text())

#: How the .pxd calls a type of the header.
NAMES = {"pid_t": "int", "pf_event_type": "int"}


def declared(text):
    """`const char *name` as ("const char *", "name")."""
    kind, stars, name, array = re.fullmatch(r"(.+?)\s*(\**)(\w+)(\[\w+\])?", text.strip()).groups()
    kind = NAMES.get(kind.strip(), kind.strip())
    return f"{kind} {stars}{array or ''}".strip(), name


def declared_at_once(text):
    """`int a, b` as that of a and that of b."""
    first, *others = text.split(",")
    kind = declared(first)[0]
    return [declared(first)] + [(kind, other.strip()) for other in others]


def functions_of(text):
    """What each returns, and its parameters."""
    found = re.findall(r"^ *((?:const )?\w+ \**)(pf_\w+)\(([^()]*)\)", text, re.MULTILINE)
    return {
        name: (
            declared(f"{returned}{name}")[0],
            [declared(part) for part in given.split(",") if part.strip() not in ("", "void")],
        )
        for returned, name, given in found
    }


def structs_of_the_header():
    return {
        name: [one for line in body.split(";") if line.strip() for one in declared_at_once(line)]
        for body, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", HEADER, re.DOTALL)
    }


def structs_of_the_pxd():
    found = re.findall(r"ctypedef struct (\w+):\n((?: {8}.*\n)+)", PXD)
    return {
        name: [declared(line) for line in body.splitlines() if line.strip() != "pass"]
        for name, body in found
    }


def test_the_pxd_has_the_functions_of_the_header():
    theirs, ours = functions_of(HEADER), functions_of(PXD)
    assert len(theirs) > 40
    assert ours == theirs
    last = "pf_zygote_run"  # it stands apart: it is called with the GIL
    assert [name for name in ours if name != last] == [name for name in theirs if name != last]


def test_the_pxd_has_the_structs_of_the_header_field_by_field():
    theirs, ours = structs_of_the_header(), structs_of_the_pxd()
    opaque = set(re.findall(r"typedef struct (\w+) \1;", HEADER))
    assert {name for name, fields in ours.items() if not fields} == opaque
    for name, fields in theirs.items():
        assert ours.pop(name) == fields, name
    assert set(ours) == opaque


def test_the_constants_of_the_pxd_are_the_headers():
    (block,) = re.findall(r"    enum:\n((?: {8}\w+\n)+)", PXD)
    theirs = re.findall(r"^ +(PF_\w+)|\{ (PF_\w+) =", HEADER, re.MULTILINE)
    defined = re.findall(r"^#define (PF_\w+)", (ROOT / "csrc/prefork.h").read_text(), re.MULTILINE)
    assert set(block.split()) <= {name for pair in theirs for name in pair} | set(defined)


def test_the_twin_has_all_that_the_header_declares():
    from prefork._cffi_core import ffi, lib

    assert set(functions_of(HEADER)) <= set(dir(lib))
    for name, fields in structs_of_the_header().items():
        assert [field for field, _ in ffi.typeof(name).fields] == [field for _, field in fields]


def test_the_most_workers_are_as_many_in_python():
    header = (ROOT / "csrc" / "prefork.h").read_text()
    found = re.search(r"#define PF_MOST_WORKERS (\d+)", header)
    assert found is not None and int(found[1]) == options.MAX_WORKERS
