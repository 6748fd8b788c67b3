"""Checks a pickle of tensors, without unpickling it: what it names, and that every tensor lies inside of its record.

libtorch believes a TorchScript file's pickle: a tensor of more numbers than its record holds is read from whatever lies
behind it in memory, or ends the process. Here the pickle is followed opcode by opcode, with marks in the place of
objects: nothing is imported, called or hashed.
"""

import pickletools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

STORAGE_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}  # fmt: skip
REBUILD = "torch._utils _rebuild_tensor_v2"
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
TEXTS = {"BINUNICODE", "SHORT_BINSTRING", "SHORT_BINUNICODE"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
FILLED = {"APPEND": 1, "APPENDS": None, "SETITEM": 2, "SETITEMS": None, "BUILD": 1}  # how many values go into the last


class Global(str):
    """ "module name" of a class or function."""


class Storage(NamedTuple):
    """Numbers of one record."""

    numel: int


class Holder(list[Any]):
    """A list, a dictionary or an object that torch would make: what it holds, keys and arguments too."""


DEEPEST = 64
MOST_VALUES = 10_000_000
_MARK = object()


def check(content: bytes, known: str, records: Mapping[str, int]) -> None:
    """Checks what a pickle would import and call, and its tensors.

    Args:
        known: A regular expression for "module name".
        records: The bytes of each tensor's record, by the key that the pickle has for it.

    Raises:
        ValueError: It names something else, a tensor reaches beyond its record, or torch writes no such pickle.
    """
    try:
        _follow(content, known, records)
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeError, OverflowError) as error:
        raise ValueError(f"it holds a broken pickle ({error})") from None


def _follow(content: bytes, known: str, records: Mapping[str, int]) -> None:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                stack.append(_MARK)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case name if name in NUMBERS | TEXTS:
                stack.append(argument)
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append(Holder())
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(_marked(stack)))
            case name if name in TUPLES:
                stack.append(tuple(_last(stack, TUPLES[name])))
            case "BINPUT" | "LONG_BINPUT":
                memo[_place(argument, content)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                if not re.fullmatch(known, str(argument), re.ASCII):
                    raise ValueError(f"it holds a pickled {str(argument)[:80]!r}")
                stack.append(Global(argument))
            case "BINPERSID":
                stack.append(_storage(stack.pop(), records))
            case "REDUCE" | "NEWOBJ":
                function, arguments = _last(stack, 2)
                if function == REBUILD:
                    _check_tensor(*arguments)
                stack.append(Holder([arguments]))
            case name if name in FILLED:
                number = FILLED[name]
                values = _marked(stack) if number is None else _last(stack, number)
                if not isinstance(stack[-1], Holder):
                    raise TypeError("nothing to fill")
                if name.startswith("SETITEM") and not all(isinstance(key, (str, int)) for key in values[::2]):
                    raise TypeError("a key that is no text")  # to hash tuples of tuples may take for ever
                stack[-1].extend(values)
            case name:
                raise ValueError(f"it holds a pickle as torch writes none ({name})")
    if len(stack) != 1:
        raise ValueError("it holds a broken pickle")
    _check_nesting(stack[0])


def _check_nesting(root: Any) -> None:
    """Checks that readers which follow every value, and know none again, come to an end soon.

    Raises:
        ValueError: Values hold each other too deep, in a circle, or so often that there are too many.
    """
    sizes: dict[int, int] = {}  # by identity: the root holds all, so none is given twice
    waiting: list[tuple[Any, int, bool]] = [(root, 0, False)]
    under_way: set[int] = set()
    while waiting:
        value, depth, seen = waiting.pop()
        inner = value if type(value) in (tuple, Holder) else ()
        if seen:
            sizes[id(value)] = 1 + sum(sizes.get(id(one), 1) for one in inner)
            under_way.discard(id(value))
            if sizes[id(value)] > MOST_VALUES:
                raise ValueError("it holds a pickle whose values hold each other too often")
        elif id(value) in under_way or depth > DEEPEST:
            raise ValueError("it holds a pickle whose values hold each other too deep")
        elif inner and id(value) not in sizes:
            under_way.add(id(value))
            waiting.append((value, depth, True))
            waiting += [(one, depth + 1, False) for one in inner]


def _place(argument: int, content: bytes) -> int:
    """A place in the memo, for which the readers in C make room."""
    if argument > len(content):
        raise ValueError("it holds a pickle as torch writes none (a far place)")
    return argument


def _marked(stack: list[Any]) -> list[Any]:
    """Takes what lies above the last mark, and the mark."""
    at = next((i for i in range(len(stack) - 1, -1, -1) if stack[i] is _MARK), None)
    if at is None:
        raise IndexError("no mark")
    taken = stack[at + 1 :]
    del stack[at:]
    return taken


def _last(stack: list[Any], number: int) -> list[Any]:
    taken = stack[-number:]
    if len(taken) < number or any(value is _MARK for value in taken):
        raise IndexError("too few values")
    del stack[-number:]
    return taken


def _storage(identity: Any, records: Mapping[str, int]) -> Storage:
    """The numbers that a persistent identity means; its record has all of them."""
    kind, name, key, _, numel = identity
    size = STORAGE_BYTES[name.removeprefix("torch ")]
    if kind != "storage" or not isinstance(name, Global) or type(key) is not str or type(numel) is not int:
        raise TypeError("no storage")
    if numel < 0 or records[key] < numel * size:
        raise ValueError(f"it holds a tensor of {numel} numbers in {records[key]} bytes")
    return Storage(numel)


def _check_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> None:
    """Raises:
    ValueError: A number of the tensor lies outside of its storage.
    """
    whole = [offset, *shape, *strides]
    if not isinstance(storage, Storage) or len(shape) != len(strides) or any(type(value) is not int for value in whole):
        raise TypeError("no tensor")
    if min(whole) < 0:
        raise ValueError("it holds a tensor that lies outside of its record")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.numel:
        raise ValueError("it holds a tensor that lies outside of its record")
