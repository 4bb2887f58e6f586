"""Signatures bind what a call sends to the parameters of a function, and convert it by the annotations."""

import dataclasses
import datetime
import decimal
import enum
import functools
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.errors import InvalidArguments, SerializationError, SettingsError
from crew.protocol.encoding import codec
from crew.protocol.encoding.call_arguments import Arguments
from crew.signatures.signature import Signature, signature_of


class Format(enum.Enum):
    PNG = "png"
    JPEG = "jpeg"


@dataclasses.dataclass
class Image:
    path: str
    width: int = 640
    tags: list[str] = dataclasses.field(default_factory=list)


class Box(msgspec.Struct):
    width: int
    taken: datetime.datetime | None = None


class Size(TypedDict):
    width: int


class Point(NamedTuple):
    x: int
    y: int


class User(pydantic.BaseModel):
    name: str
    age: Annotated[int, pydantic.Field(ge=0)] = 0


def called(function: Callable[..., Any], sent: Any) -> Any:
    """What a worker does with `sent`: it binds it and calls the function."""
    args, kwargs = signature_of("t", function).bind_payload(sent)
    return function(*args, **kwargs)


def travelled(payload: Any) -> Any:
    """`payload` as its receiver decodes it."""
    return codec.decode(codec.encode(payload))


def over_the_wire(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The value of a typed call, as its caller gets it."""
    signature = signature_of("t", function)
    args, kwargs = signature.bind_payload(travelled(signature.arguments(args, kwargs)))  # type: ignore[assignment]
    return signature.read_result(travelled(signature.encode_result(function(*args, **kwargs))))


def refusal(function: Callable[..., Any], sent: Any) -> str:
    """The text of the InvalidArguments for `sent`, without the name of the task."""
    with pytest.raises(InvalidArguments) as raised:
        signature_of("t", function).bind_payload(sent)
    assert raised.value.task == "t"
    return str(raised.value).removeprefix("task 't': ")


# --- a payload ------------------------------------------------------------------------------------------------------


def one(payload):  # type: ignore[no-untyped-def]  # as many will write it
    return payload


def two(path: str, width: int = 640) -> Any:
    return path, width


def old(payload, retries=3):  # type: ignore[no-untyped-def]
    return payload, retries


@pytest.mark.parametrize("payload", [None, 7, "a", [1, 2], {"payload": 1}, {}, b"x"])
def test_a_function_with_one_parameter_gets_the_payload_itself(payload: Any) -> None:
    signature = signature_of("t", one)
    assert signature.is_untyped
    assert signature.bind_payload(payload) == ((payload,), {})
    assert called(one, payload) is payload


def test_the_payload_of_one_annotated_parameter_is_converted() -> None:
    def resize(image: Image) -> Any:
        return image

    assert called(resize, {"path": "a"}) == Image("a")
    assert refusal(resize, {"path": "a", "width": "b"}) == "argument `image.width`: expected `int`, got `str`"


def test_a_payload_object_is_bound_to_several_parameters_by_their_names() -> None:
    assert called(two, {"path": "a"}) == ("a", 640)
    assert called(two, {"width": 3, "path": "a"}) == ("a", 3)


def test_a_function_without_annotations_that_needs_one_argument_gets_the_payload_itself() -> None:
    assert called(old, {"payload": 1, "retries": 2}) == ({"payload": 1, "retries": 2}, 3)
    assert called(lambda *args, sep="": args, 7) == (7,)


def test_null_binds_no_arguments() -> None:
    assert called(lambda: 7, None) == 7
    assert called(lambda a=1, *, b=2: (a, b), Arguments()) == (1, 2)
    assert "`path`: it is missing" in refusal(two, None)


@pytest.mark.parametrize(
    ("function", "sent", "sentence"),
    [
        (two, {}, "argument `path`: it is missing"),
        (two, {"path": "a", "widht": 3}, "argument `widht`: there is no such parameter (did you mean `width`?)"),
        (two, {"path": "a", "x": 3}, "argument `x`: there is no such parameter (it takes `path`, `width`)"),
        (two, {"path": 3}, "argument `path`: expected `str`, got `int`"),
        (two, "a", ("it has several parameters, so that its payload must be an object with the members `path`, "
         "`width`, not text")),
        (lambda: 1, [1], "it takes no arguments, so that its payload must be null, not an array"),
        (lambda: 1, {"x": 1}, "argument `x`: there is no such parameter (it takes none)"),
        (two, Arguments(["a", 1, 2]), "it takes at most 2 positional arguments, not 3"),
        (two, Arguments(["a"], {"path": "b"}), "argument `path`: it is given twice, by position and by name"),
        (two, Arguments([], {"width": 1}), "argument `path`: it is missing"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_sentence_with_the_path(function: Callable[..., Any], sent: Any, sentence: str) -> None:
    assert refusal(function, sent) == sentence


def test_the_refusal_has_the_path_for_programs() -> None:
    def resize(images: list[Image]) -> None: ...

    with pytest.raises(InvalidArguments) as raised:
        signature_of("t", resize).bind_payload([{"path": "a"}, {"path": "b", "tags": ["x", 3]}])
    assert raised.value.path == "images[1].tags[1]"


def test_a_long_value_does_not_make_a_long_refusal() -> None:
    def choose(of: Literal["a", "b"]) -> None: ...

    assert len(refusal(choose, "x" * 100_000)) < 1000


# --- arguments ------------------------------------------------------------------------------------------------------


def test_arguments_are_bound_as_python_binds_them() -> None:
    def everything(a: Any, b: Any = 2, *rest: Any, c: Any, d: Any = 4, **more: Any) -> Any:
        return a, b, rest, c, d, more

    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((1,), {"c": 3}),
        ((1, 5, 6, 7), {"c": 3, "x": 9}),
        ((), {"a": 1, "c": 3, "d": 5}),
        ((1,), {"b": 7, "c": 3, "y": None}),
    ]
    for args, kwargs in cases:
        assert called(everything, travelled(Arguments(args, kwargs))) == everything(*args, **kwargs)


@given(
    args=st.lists(st.integers(0, 9), max_size=4),
    kwargs=st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e"]), st.integers(0, 9)),
    kind=st.integers(0, 3),
)
def test_arguments_are_accepted_where_python_accepts_them(args: list[int], kwargs: dict[str, int], kind: int) -> None:
    def plain(a: int, b: int = 2, *, c: int, d: int = 4) -> Any:
        return a, b, c, d

    def rest(a: int, *b: int, c: int = 3) -> Any:
        return a, b, c

    def more(a: int = 1, **b: int) -> Any:
        return a, b

    def none() -> Any:
        return ()

    function: Any = [plain, rest, more, none][kind]
    try:
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(InvalidArguments):
            called(function, Arguments(args, kwargs))
        with pytest.raises(InvalidArguments):
            signature_of("t", function).arguments(args, kwargs)
    else:
        assert called(function, Arguments(args, kwargs)) == expected
        assert over_the_wire(function, *args, **kwargs) == travelled(expected)


def test_the_rest_and_the_names_are_converted_and_checked() -> None:
    def dates(*days: datetime.date, **prices: decimal.Decimal) -> Any:
        return days, prices

    signature = signature_of("t", dates)
    sent = signature.arguments((datetime.date(2026, 1, 2),), {"a": decimal.Decimal("1.50")})
    assert sent == Arguments(["2026-01-02"], {"a": "1.50"})
    assert called(dates, travelled(sent)) == ((datetime.date(2026, 1, 2),), {"a": decimal.Decimal("1.50")})
    assert refusal(dates, Arguments(["soon"])).startswith("argument `days[0]`: invalid")
    assert refusal(dates, Arguments([], {"a": "x"})).startswith("argument `a`: invalid decimal")


def test_arguments_set_by_a_partial_are_not_the_callers() -> None:
    assert called(functools.partial(two, "a"), Arguments([3])) == ("a", 3)
    assert called(functools.partial(two, width=3), "a") == ("a", 3)
    assert "there is no such parameter" in refusal(functools.partial(two, width=3), Arguments(["a"], {"width": 4}))


def test_a_wrapper_that_passes_everything_on_has_the_parameters_of_what_it_wraps() -> None:
    @functools.wraps(two)
    def passes_on(*args: Any, **kwargs: Any) -> Any:
        return two(*args, **kwargs)

    @functools.wraps(two)
    def has_its_own(payload: Any) -> Any:
        return two(**payload)

    assert signature_of("t", passes_on).types == {"path": str, "width": int}
    assert signature_of("t", has_its_own).is_untyped
    assert called(passes_on, {"path": "a"}) == called(has_its_own, {"path": "a"}) == ("a", 640)


def test_a_function_without_a_signature_takes_whatever_it_takes() -> None:
    assert called(int, "7") == 7
    assert called(int, Arguments(["11"], {"base": 2})) == 3
    assert signature_of("t", int).arguments(["11"], {"base": 2}) == Arguments(["11"], {"base": 2})


def test_a_callable_object_and_a_method_have_the_types_of_their_function() -> None:
    class Resize:
        def __call__(self, image: Image) -> Any:
            return image

        def method(self, image: Image) -> Any:
            return image

    assert called(Resize(), {"path": "a"}) == called(Resize().method, {"path": "a"}) == Image("a")


# --- types ------------------------------------------------------------------------------------------------------------

MOMENT = datetime.datetime(2026, 11, 30, 12, 30, tzinfo=datetime.UTC)
TYPED: list[tuple[Any, Any]] = [
    (int, 7),
    (float, 0.5),
    (str, "a"),
    (bool, True),
    (None, None),
    (list[int], [1, 2]),
    (dict[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (bytes, b"\0\xff"),
    (list[bytes], [b"\0\xff"]),
    (datetime.datetime, MOMENT),
    (datetime.date, MOMENT.date()),
    (datetime.time, MOMENT.timetz()),
    (datetime.timedelta, datetime.timedelta(days=2, microseconds=3)),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (uuid.UUID, uuid.UUID(int=7)),
    (Format, Format.PNG),
    (dict[Format, int], {Format.PNG: 1}),
    (Image, Image("a", 3, ["x"])),
    (list[Image | None], [Image("a"), None]),
    (Box, Box(3, MOMENT)),
    (Size, {"width": 3}),
    (Point, Point(1, 2)),
    (Literal["a", 3], 3),
    (int | str, "a"),
    (datetime.datetime | int, MOMENT),
    (User, User(name="a", age=3)),
    (list[User], [User(name="a")]),
    (object, {"a": [1]}),
    (dict[str, object], {"a": [1]}),
]


@pytest.mark.parametrize(("kind", "value"), TYPED, ids=str)
def test_an_argument_and_a_value_arrive_as_they_were(kind: Any, value: Any) -> None:
    def echo(argument: Any) -> Any:
        return argument

    echo.__annotations__ = {"argument": kind, "return": kind}
    for arrived in (over_the_wire(echo, value), over_the_wire(echo, argument=value)):
        assert arrived == value
        assert type(arrived) is type(value)


@given(
    st.builds(Image, path=st.text(), width=st.integers(-(2**63), 2**63 - 1), tags=st.lists(st.text(), max_size=3)),
    st.datetimes(timezones=st.just(datetime.UTC)),
    st.sets(st.uuids(), max_size=3),
    st.binary(max_size=30),
)
def test_any_value_arrives_as_it_was(image: Image, moment: datetime.datetime, ids: set[uuid.UUID], raw: bytes) -> None:
    def echo(image: Image, moment: datetime.datetime, *, ids: set[uuid.UUID], raw: bytes) -> dict[str, Any]:
        found.append((image, moment, ids, raw))
        return {}

    found: list[Any] = []
    over_the_wire(echo, image, moment, ids=ids, raw=raw)
    assert found == [(image, moment, ids, raw)]


def test_values_that_json_has_are_passed_on_as_they_were_sent() -> None:
    def mean(numbers: dict[str, float], size: Size, *rest: float, by: float = 1.0, **more: float) -> Any:
        return numbers, size, rest, by, more

    sent = ({"a": 1}, {"width": 3, "unknown": 7}, 5)
    assert repr(called(mean, Arguments(sent, {"by": 2, "x": 3}))) == repr((*sent[:2], (5,), 2, {"x": 3}))
    assert repr(called(mean, Arguments(sent[:2]))) == repr((*sent[:2], (), 1.0, {}))
    assert "argument `numbers[...]`: expected `float`" in refusal(mean, {"numbers": {"a": "b"}, "size": {"width": 1}})

    def load() -> float:
        return 1

    assert repr(signature_of("t", load).read_result(1)) == "1"


def test_constraints_of_annotations_are_checked() -> None:
    def resize(width: Annotated[int, msgspec.Meta(ge=1)]) -> None: ...

    assert refusal(resize, 0) == "argument `width`: expected `int` >= 1"


def test_a_pydantic_model_names_the_field_that_it_refuses() -> None:
    def greet(users: list[User]) -> None: ...

    sentence = "argument `users[0].age`: input should be greater than or equal to 0"
    assert refusal(greet, [{"name": "a", "age": -1}]) == sentence


def test_whatever_a_check_of_the_user_raises_is_a_refusal() -> None:
    @dataclasses.dataclass
    class Strict:
        name: str

        def __post_init__(self) -> None:
            raise KeyError(self.name)

    def greet(strict: Strict) -> None: ...
    def load() -> Strict:
        raise NotImplementedError

    greet.__annotations__ = {"strict": Strict}
    load.__annotations__ = {"return": Strict}
    assert refusal(greet, {"name": "a"}) == "KeyError: 'a'"
    with pytest.raises(SerializationError, match="is not what its annotation says: KeyError: 'a'"):
        signature_of("t", load).read_result({"name": "a"})


def test_the_client_checks_arguments_as_the_worker_does() -> None:
    signature = signature_of("t", two)
    with pytest.raises(InvalidArguments, match="argument `width`: expected `int`, got `str`"):
        signature.arguments(["a"], {"width": "b"})

    def resize(image: Image) -> None: ...

    with pytest.raises(InvalidArguments, match=r"argument `image\.width`: expected `int`, got `str`"):
        signature_of("t", resize).arguments([Image("a", "b")], {})  # type: ignore[arg-type]


def test_values_without_an_annotation_are_refused_as_before() -> None:
    arguments = signature_of("t", lambda when: when).arguments([MOMENT], {})
    with pytest.raises(SerializationError, match=r"args\[0\]: a datetime would not arrive as it is"):
        codec.encode(arguments)
    assert signature_of("t", lambda when: when).encode_result(MOMENT) is MOMENT


def test_a_value_of_another_type_than_annotated_is_an_error_at_the_caller() -> None:
    def count() -> int:
        return 0

    def load() -> Image:
        return Image("a")

    with pytest.raises(SerializationError, match="'t' is not what its annotation says: expected `int`, got `str`"):
        signature_of("t", count).read_result("a")
    with pytest.raises(SerializationError, match="annotation says: `width`: expected `int`, got `str`"):
        signature_of("t", load).read_result({"path": "a", "width": "b"})


def test_bytes_alone_travel_as_they_are() -> None:
    def raw() -> bytes:
        return b""

    assert signature_of("t", raw).encode_result(b"\xff") == b"\xff"
    assert signature_of("t", raw).read_result(b"\xff") == b"\xff"


def test_the_result_of_a_coroutine_and_of_a_function_that_never_returns() -> None:
    async def load() -> Image:
        return Image("a")

    def stop() -> NoReturn:
        raise SystemExit

    assert signature_of("t", load).result is Image
    assert signature_of("t", stop).result is Any


# --- what cannot be served --------------------------------------------------------------------------------------------


class Opaque:
    """No type of msgspec."""


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (complex, "values cannot be converted to `complex`"),
        (list[Opaque], "Opaque`"),
        (Callable[[int], int], "values cannot be converted to `collections.abc.Callable`"),
        (Image | Box, "more than one dict-like type"),
        (msgspec.Raw, "values of the type Raw do not travel"),
    ],
    ids=str,
)
def test_an_annotation_that_cannot_be_served_is_one_error_with_the_way_out(kind: Any, reason: str) -> None:
    def resize(image: Any) -> Any:
        return image

    for name, place in [("image", "parameter `image`"), ("return", "its result")]:
        resize.__annotations__ = {name: kind}
        with pytest.raises(SettingsError) as raised:
            signature_of("resize", resize)
        message = str(raised.value)
        assert message.startswith(f"task 'resize': the annotation of {place} cannot be served: ")
        assert reason in message
        assert message.endswith("annotate it with what travels, for example str, int, list, a dataclass or Any, and "
                                "convert that in the task")  # fmt: skip


def test_a_name_that_is_not_defined_is_one_error_with_the_way_out() -> None:
    def resize(image: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(SettingsError, match="names 'Missing', which is not defined where the function is: define or"):
        signature_of("resize", resize)


def test_its_representation_names_task_and_parameters() -> None:
    assert repr(signature_of("resize", two)) == "<Signature of task 'resize': path, width>"
    assert isinstance(signature_of("resize", two), Signature)
