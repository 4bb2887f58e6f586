"""URLs of URL jobs: ambiguous URLs are refused, and no error contains a secret."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol.http_job.url import MAX_URL, HttpUrl, parse_url, redacted_url, without_login

SECRETS = ("s3cret", "t0ken")


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://example.org", "http://example.org/"),
        ("HTTP://Example.ORG:80/A", "http://example.org/A"),
        ("https://example.org:443/?a=%2F&b=~", "https://example.org/?a=%2F&b=~"),
        ("https://example.org:8443/x#part", "https://example.org:8443/x"),
        ("http://example.org?x=1", "http://example.org/?x=1"),
        ("http://93.184.216.34/", "http://93.184.216.34/"),
        ("http://[2606:2800:220::1]:81/", "http://[2606:2800:220::1]:81/"),
        ("http://[2606:2800:0220:0::1]/", "http://[2606:2800:220::1]/"),
        ("http://bücher.example/straße?q=ä", "http://xn--bcher-kva.example/stra%C3%9Fe?q=%C3%A4"),
        ("http://user:s3cret@example.org/", "http://example.org/"),
        ("http://my_host/", "http://my_host/"),
        ("http://example.org./", "http://example.org./"),
        ('http://example.org/{a}"<b>', "http://example.org/%7Ba%7D%22%3Cb%3E"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),  # full-width digits make an address
    ],
)
def test_a_url_is_normalized(url: str, meant: str) -> None:
    assert str(parse_url(url)) == meant
    assert str(parse_url(str(parse_url(url)))) == meant


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "//example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://user@/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[127.0.0.1]/",
        "http://[v1.x]/",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:http/",
        "http://example..org/",
        "http://-example.org/",
        f"http://{'a' * 64}.org/",
        f"http://{'a.' * 130}org/",
        "http://exa%6dple.org/",
        "http://example.org%2f@evil.org:x/",
        "http://ex*mple.org/",
        "http://straße.example/",  # IDNA 2003 and 2008 give different hosts
        f"http://{'ü' * 100}.example/",
        "http://example.org/\ud800",
    ],
)
def test_an_invalid_url_is_an_error_of_one_line(url: str) -> None:
    with pytest.raises(ValueError, match=r"url|URL|host|port|Unicode") as refused:
        parse_url(url)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "number", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "127.0.0.1.", "1.2.3.256"]
)
def test_other_spellings_of_an_address_are_refused(number: str) -> None:
    with pytest.raises(ValueError, match="write four numbers"):
        parse_url(f"http://{number}/")


@pytest.mark.parametrize("character", [" ", "\t", "\r", "\n", "\0", "\x1f", "\x7f", "\x85", "\xa0", "\\"])
def test_characters_that_parsers_treat_differently_are_refused(character: str) -> None:
    for url in (
        f"http://example.org/{character}x",
        f"http://example.org{character}@evil.org/",
        f"{character}http://a/",
    ):
        with pytest.raises(ValueError, match="a space, a backslash or a control character"):
            parse_url(url)


def test_the_length_of_a_url_is_limited() -> None:
    assert parse_url("http://example.org/".ljust(MAX_URL, "x"))
    with pytest.raises(ValueError, match=f"url has {MAX_URL + 1} characters, more than {MAX_URL}"):
        parse_url("http://example.org/".ljust(MAX_URL + 1, "x"))


def test_a_url_that_is_not_a_string_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="url must be a string, not int"):
        parse_url(1)


def test_user_and_password_of_a_url_become_basic_authentication() -> None:
    assert parse_url("http://Aladdin:open%20sesame@example.org/").login == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert parse_url("http://t0ken@example.org/").login == "Basic dDBrZW46"
    assert parse_url("http://example.org/").login == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:s3cret@example.org/x?key=t0ken#y", "http://***@example.org/x?***"),
        ("http://s3cret@example.org/", "http://***@example.org/"),
        ("http://user:s3cret/@example.org/", "http://***@example.org/"),
        ("http://user:s3cret?@example.org/", "http://***@example.org/"),
        ("http://user:s3#cret@example.org:x/", "http://***@example.org:x/"),
        ("http://us\ner:s3cret@example.org/", "http://***@example.org/"),
        ("ftp://user:s3cret@example.org/", "ftp://***@example.org/"),
        ("user:s3cret@example.org", "***@example.org"),
        ("http://example.org/@x?t0ken", "http://example.org/@x?***"),
        ("http://example.org:1/@x?t0ken", "http://example.org:1/@x?***"),
        ("http://user:0/s3cret@example.org/", "http://***@example.org/"),
        ("ftp://us\ner/:s3cret@example.org/", "ftp://***@example.org/"),
        ("http://example.org/".ljust(201, "x"), "http://example.org/".ljust(200, "x")),
        ("http://[::1/", "http://[::1/"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_redacted_url_has_no_secrets(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


@pytest.mark.parametrize("tail", ["", " ", ":x/", "\\", "\n/", ":0/", "/?key=t0ken\r"])
def test_no_error_contains_a_secret(tail: str) -> None:
    for url in (f"http://user:s3cret@exam ple.org{tail}", f"ftp://s3cret:t0ken@example.org{tail}"):
        with pytest.raises(ValueError, match=r".") as refused:
            parse_url(url)
        assert not any(secret in str(refused.value) for secret in SECRETS)


def test_neither_str_nor_repr_contains_the_login() -> None:
    url = parse_url("http://user:s3cret@example.org/?t0ken")
    assert not any(secret in repr(url) + url.redacted for secret in SECRETS)
    assert "s3cret" not in str(url)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b?x", "http://example.org/b?x"),
        ("c", "http://example.org/a/c"),
        ("https://other.org", "https://other.org/"),
        ("//other.org/y", "http://other.org/y"),
        ("http://user:s3cret@other.org/", "http://other.org/"),
        ("/with space", "http://example.org/with%20space"),
        ("?q", "http://example.org/a/b?q"),
        (" /b ", "http://example.org/b"),
        ("X", "http://example.org/a/X"),
    ],
)
def test_a_redirect_resolves_its_location_and_drops_the_login(location: str, target: str) -> None:
    found = parse_url("http://me:s3cret@example.org/a/b").joined(location)
    assert (str(found), found.login) == (target, "")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://127.1/", "http://[::1", "http://a\tb/", "gopher:x"])
def test_a_redirect_to_a_url_that_a_job_may_not_have_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url("http://example.org/").joined(location)


@pytest.mark.parametrize("location", ["\t/b", "/b\n", "/b\\c", "/\x7f"])
def test_a_redirect_with_a_control_character_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match=r"^the Location of a redirect contains a backslash or a control"):
        parse_url("http://example.org/").joined(location)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("http://user:s3cret@example.org/x?y#z", "http://example.org/x?y#z"),
        ("https://s3cret@example.org", "https://example.org"),
        ("http://example.org/@x?a@b#c@d", "http://example.org/@x?a@b#c@d"),
        ("http://example.org?a@b", "http://example.org?a@b"),
    ],
)
def test_the_login_of_a_url_can_be_removed(url: str, bare: str) -> None:
    assert without_login(url) == bare


@pytest.mark.parametrize("letter", ["a", "\N{FULLWIDTH LATIN SMALL LETTER A}"])
def test_a_host_has_at_most_253_characters(letter: str) -> None:
    longest = ".".join([letter * 63] * 3 + [letter * 61])
    assert len(parse_url(f"http://{longest}/").host) == 253
    with pytest.raises(ValueError, match=r"the host of .* is not a valid name|the host of .* cannot be converted"):
        parse_url(f"http://{longest}{letter}/")


def test_the_origin_of_a_url_is_its_scheme_host_and_port() -> None:
    assert parse_url("http://a:b@example.org:80/x").origin == parse_url("http://EXAMPLE.org/y").origin
    assert len({parse_url(url).origin for url in ("http://a/", "https://a/", "http://a:81/", "http://b/")}) == 4


def test_is_address_is_true_only_if_the_host_is_an_ip_address() -> None:
    assert [parse_url(url).is_address for url in ("http://1.2.3.4/", "http://[::1]/", "http://a/")] == [
        True,
        True,
        False,
    ]


@given(st.text(max_size=60) | st.from_regex(r"https?://[^/]{1,20}(:\d{1,5})?(/.*)?", fullmatch=True))
@settings(max_examples=100, deadline=None)
def test_any_text_becomes_a_url_in_ascii_without_line_breaks_or_is_refused(text: str) -> None:
    try:
        found = parse_url(text)
    except ValueError as refused:
        assert "\n" not in str(refused)
    else:
        assert isinstance(found, HttpUrl)
        assert str(found).isascii()
        assert str(found).isprintable()
        assert " " not in str(found)
