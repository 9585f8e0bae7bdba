"""Public names follow numpydoc: the parameters are those of the signature, and there is an example."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mtl_classic

SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "See Also", "Notes", "References", "Examples")


def public_objects() -> Iterator[tuple[str, Any]]:
    names = [f"mtl_classic.{m.name}" for m in pkgutil.iter_modules(mtl_classic.__path__) if not m.name.startswith("_")]
    for module in map(importlib.import_module, names):
        for name in getattr(module, "__all__", ()):
            yield f"{module.__name__}.{name}", getattr(module, name)
    for name, home in mtl_classic._HOME.items():
        if "._" in home:  # public names of private homes, such as Task
            yield f"mtl_classic.{name}", getattr(mtl_classic, name)


def public_methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, thing in public_objects():
        if inspect.isclass(thing):
            for attribute, method in vars(thing).items():
                if inspect.isfunction(method) and not attribute.startswith("_"):
                    yield f"{name}.{attribute}", method


def sections(doc: str) -> dict[str, str]:
    """Split a docstring at its underlined headings."""
    parts = re.split(rf"^({'|'.join(SECTIONS)})\n-+\n", doc, flags=re.MULTILINE)
    return {"Summary": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented_parameters(section: str) -> list[str]:
    heads = [line.split(":")[0] for line in section.splitlines() if line and not line[0].isspace()]
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def documented_defaults(section: str) -> dict[str, str]:
    """Parameter -> what follows ``default=``; ``default=1 and 2`` are those of two parameters in one line."""
    defaults: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", "", section).splitlines():
        names, _, told = line.partition(" : ")
        if line[:1].strip() and (found := re.search(r"default=(.+)", told)):
            each, texts = names.split(", "), re.split(r", | and ", found[1])
            defaults |= dict(zip(each, texts if len(texts) == len(each) > 1 else [found[1]] * len(each), strict=True))
    return defaults


def parameters(thing: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(thing).parameters if name not in {"self", "cls"}]


def is_exception(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, BaseException)


OBJECTS = dict(public_objects())
METHODS = dict(public_methods())


@pytest.mark.parametrize("name", OBJECTS)
def test_a_public_name_is_described(name: str) -> None:
    thing = OBJECTS[name]
    if not callable(thing):
        return  # constants are described where they are defined
    doc = sections(inspect.getdoc(thing) or "")
    assert doc["Summary"].strip(), "no docstring"
    assert doc["Summary"].strip().splitlines()[0].endswith((".", ":")), "the first line is a sentence"
    if is_exception(thing):
        return
    documented = documented_parameters(doc.get("Parameters", ""))
    if not documented and dataclasses.is_dataclass(thing):  # results, which users read rather than make
        documented = documented_parameters(doc.get("Attributes", ""))[: len(parameters(thing))]
    assert documented == parameters(thing)
    assert ">>> " in doc.get("Examples", ""), "no example"


@pytest.mark.parametrize("name", METHODS)
def test_a_public_method_is_described(name: str) -> None:
    doc = sections(inspect.getdoc(METHODS[name]) or "")
    assert doc["Summary"].strip(), "no docstring"
    if "Parameters" in doc:
        assert documented_parameters(doc["Parameters"]) == parameters(METHODS[name])


@pytest.mark.parametrize("name", [name for name, thing in (OBJECTS | METHODS).items() if callable(thing)])
def test_defaults_are_those_of_the_signature(name: str) -> None:
    thing = (OBJECTS | METHODS)[name]
    told = documented_defaults(sections(inspect.getdoc(thing) or "").get("Parameters", ""))
    for parameter, text in told.items():
        default = inspect.signature(thing).parameters[parameter].default
        expected = float("nan") if text == "NaN" else eval(text)
        assert repr(default) == repr(expected) or default == expected, parameter
