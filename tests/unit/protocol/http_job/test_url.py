"""URLs of URL jobs: what is read in two ways is refused, and no message shows a secret."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol.http_job.url import MAX_URL, HttpUrl, parse_url, redacted_url

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
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),  # what looks like an address is one
    ],
)
def test_a_url_is_read_as_everybody_reads_it(url: str, meant: str) -> None:
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
        "http://straße.example/",  # two hosts in two versions of IDNA
        f"http://{'ü' * 100}.example/",
        "http://example.org/\ud800",
    ],
)
def test_what_is_no_url_of_a_job_is_one_sentence(url: str) -> None:
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
def test_what_some_readers_drop_or_take_for_another_is_refused(character: str) -> None:
    for url in (
        f"http://example.org/{character}x",
        f"http://example.org{character}@evil.org/",
        f"{character}http://a/",
    ):
        with pytest.raises(ValueError, match="a space, a backslash or a control character"):
            parse_url(url)


def test_a_url_has_a_length_that_servers_take() -> None:
    assert parse_url("http://example.org/".ljust(MAX_URL, "x"))
    with pytest.raises(ValueError, match=f"url has {MAX_URL + 1} characters, more than {MAX_URL}"):
        parse_url("http://example.org/".ljust(MAX_URL + 1, "x"))


def test_what_is_no_string_is_no_url() -> None:
    with pytest.raises(ValueError, match="url must be a string, not int"):
        parse_url(1)


def test_user_and_password_travel_in_a_header() -> None:
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
        ("http://[::1/", "http://[::1/"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


@pytest.mark.parametrize("tail", ["", " ", ":x/", "\\", "\n/", ":0/", "/?key=t0ken\r"])
def test_no_refusal_shows_a_secret(tail: str) -> None:
    for url in (f"http://user:s3cret@exam ple.org{tail}", f"ftp://s3cret:t0ken@example.org{tail}"):
        with pytest.raises(ValueError, match=r".") as refused:
            parse_url(url)
        assert not any(secret in str(refused.value) for secret in SECRETS)


def test_neither_str_nor_repr_shows_the_login() -> None:
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
    ],
)
def test_a_redirect_leads_where_its_location_says_without_a_login(location: str, target: str) -> None:
    found = parse_url("http://me:s3cret@example.org/a/b").joined(location)
    assert (str(found), found.login) == (target, "")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://127.1/", "http://[::1", "http://a\tb/", "gopher:x"])
def test_a_redirect_leads_to_no_url_that_a_job_may_not_have(location: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url("http://example.org/").joined(location)


def test_an_origin_is_scheme_host_and_port() -> None:
    assert parse_url("http://a:b@example.org:80/x").origin == parse_url("http://EXAMPLE.org/y").origin
    assert len({parse_url(url).origin for url in ("http://a/", "https://a/", "http://a:81/", "http://b/")}) == 4


def test_a_url_knows_whether_its_host_is_an_address() -> None:
    assert [parse_url(url).is_address for url in ("http://1.2.3.4/", "http://[::1]/", "http://a/")] == [
        True,
        True,
        False,
    ]


@given(st.text(max_size=60) | st.from_regex(r"https?://[^/]{1,20}(:\d{1,5})?(/.*)?", fullmatch=True))
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_ascii_without_line_breaks_or_refused(text: str) -> None:
    try:
        found = parse_url(text)
    except ValueError as refused:
        assert "\n" not in str(refused)
    else:
        assert isinstance(found, HttpUrl)
        assert str(found).isascii()
        assert str(found).isprintable()
        assert " " not in str(found)
