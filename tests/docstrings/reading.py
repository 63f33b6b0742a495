"""Public names of the package and what their docstrings say, read from the source: nothing is imported."""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import griffe

TENSORS = re.compile(r"\b(Tensor|ndarray|NDArray)\b")
#: (B, T, H), (N,), "(..., V)", ``()``; or in words. What refers to another docstring says it there.
SHAPE = re.compile(
    r"\((?:\.\.\.|[A-Z]\w*|\d+)(?:\s*[*+/-]\s*\w+)*(?:,[^()]*)?\)|``\(\)``|\bscalar\b|\bshapes?\b",
    re.IGNORECASE,
)
REFERENCE = re.compile(r":(?:meth|func|class|mod):`")
SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|\b(?:19|20)\d\d\b|https?://|doi:")
#: What a function may raise without telling: not a user's mistake but an author's, or part of a protocol.
SILENT = {"NotImplementedError", "AssertionError", "StopIteration", "AttributeError"}
#: A parser's way to end, and a test's way to be left out.
RAISED_ELSEWHERE = {"SystemExit"}


@dataclass(frozen=True)
class Public:
    """A public function, class or method."""

    path: str
    object: griffe.Function | griffe.Class | griffe.Attribute
    owner: griffe.Class | None  # the class of a method

    @property
    def text(self) -> str:
        """Its docstring, or that of the nearest class of ours whose method it overrides; empty without one."""
        if self.object.docstring is not None:
            return self.object.docstring.value
        for above in self.overridden:
            if above.docstring is not None:
                return above.docstring.value
        return ""

    @property
    def overridden(self) -> Iterator[griffe.Object]:
        """Members of that name in the classes above its own, as far as they are ours."""
        if self.owner is not None:
            for base in self.owner.mro():
                if self.object.name in base.members:
                    yield base.members[self.object.name]


@functools.cache
def package() -> griffe.Module:
    """The whole package."""
    return load("hybridgen", Path(__file__).parents[2])


def load(name: str, where: Path) -> griffe.Module:
    """A package or module by its source in a folder."""
    return griffe.load(name, search_paths=[where], resolve_aliases=True, resolve_external=False, allow_inspection=False)


def text_of(found: griffe.Object) -> str:
    """A docstring, empty where there is none."""
    return found.docstring.value if found.docstring is not None else ""


def exported(path: str) -> dict[str, griffe.Object]:
    """Classes and functions that a module gives by ``__all__``, or defines where it has none."""
    module = package()[path.partition(".")[2]]
    names = [str(getattr(name, "name", name)) for name in module.exports or ()]
    if not names:
        names = [name for name, member in module.members.items() if not (member.is_alias or name.startswith("_"))]
    members = {name: module.members[name] for name in names if name in module.members}
    found = {name: member.final_target if member.is_alias else member for name, member in members.items()}
    return {name: each for name, each in found.items() if each.is_function or each.is_class}


def modules() -> Iterator[griffe.Module]:
    """Every module whose path has no leading underscore, sub-packages too."""

    def below(module: griffe.Module) -> Iterator[griffe.Module]:
        yield module
        for name, member in sorted(module.modules.items()):
            if not name.startswith("_") and not member.is_alias:
                yield from below(member)

    return below(package())


def publics() -> Iterator[Public]:
    """Every public function and class where it is defined, and every public method."""
    for module in modules():
        for name, member in module.members.items():
            if name.startswith("_") or member.is_alias or not (member.is_function or member.is_class):
                continue
            yield Public(member.path, member, None)
            if member.is_class:
                for below, method in member.members.items():
                    if not below.startswith("_") and not method.is_alias and _is_method(method):
                        yield Public(method.path, method, member)


def _is_method(member: griffe.Object) -> bool:
    return member.is_function or (member.is_attribute and "property" in member.labels)


@functools.cache
def _tree(path: str) -> dict[int, ast.AST]:
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for line in (node.lineno, *(decorator.lineno for decorator in node.decorator_list)):
                found.setdefault(line, node)
    return found


def node_of(public: Public) -> ast.AST:
    """The syntax tree of a function or class."""
    return _tree(str(public.object.filepath))[public.object.lineno]


def raised(function: ast.AST) -> set[str]:
    """Names of the exceptions that a function's own body makes and raises; functions inside it do not count."""
    names: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                continue
            if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
                called = child.exc.func
                names.add(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
            walk(child)

    walk(function)
    # A call of a private helper makes the exception there; its name is not that of a class.
    return {name for name in names if name[:1].isupper()} - SILENT


def told(text: str) -> set[str]:
    """The exceptions of a docstring's section ``Raises:``."""
    return {str(item.annotation) for item in _items(text, griffe.DocstringSectionKind.raises)}


def described(text: str) -> list[str]:
    """The arguments of a docstring's section ``Args:``; "a, b" is two."""
    names = (str(item.name) for item in _items(text, griffe.DocstringSectionKind.parameters))
    return [each.strip("* ") for name in names for each in name.split(",")]


def _items(text: str, kind: griffe.DocstringSectionKind) -> Iterator[Any]:
    for section in griffe.Docstring(text, parser="google").parse(warnings=False):
        if section.kind is kind:
            yield from section.value


def arguments(function: ast.AST) -> list[ast.arg]:
    """What is passed to a function by name."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def takes_tensors(function: ast.AST) -> bool:
    """Whether an argument, or what is returned, is annotated as a tensor or an array."""
    annotations = [argument.annotation for argument in arguments(function)] + [function.returns]
    return any(TENSORS.search(ast.unparse(each)) for each in annotations if each is not None)
