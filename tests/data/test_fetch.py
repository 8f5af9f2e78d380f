"""The polite downloader against a server that is neither polite nor well."""

import dataclasses
import email.utils
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from artifygan_jax.data import fetch
from artifygan_jax.data.fetch import Fetcher, FetchFailed, Manners
from tests.data import hostile_server


@pytest.fixture(scope="module")
def running_server():
    with hostile_server.running() as server:
        yield server


@pytest.fixture
def server(running_server):
    running_server.hits.clear()
    running_server.times.clear()
    running_server.agents.clear()
    return running_server


def fetcher(server, **changes) -> Fetcher:
    manners = Manners(
        hosts=(server.host,), rate=1000.0, attempts=2, pause=0.01, timeout=2.0, deadline=5.0,
        max_bytes=1 << 20, longest_pause=1.5,
    )  # fmt: skip
    return Fetcher(dataclasses.replace(manners, **changes))


def failure(server, path: str, **changes) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        fetcher(server, **changes).picture(server.url(path))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("ok/1.jpg", ".jpg"),
        ("ok/1.png", ".png"),
        ("ok/1.webp", ".webp"),
        ("ok/1.jpg//double", ".jpg"),
        ("octets", ".jpg"),
        ("untyped", ".jpg"),
        ("mislabelled/a.jpg", ".png"),
        ("chunked", ".jpg"),
        ("to/ok/1.png", ".png"),
        ("to/to/to/to/to/ok/1.png", ".png"),
    ],
)
def test_a_picture_arrives_whole_and_its_bytes_decide_the_suffix(server, path, suffix):
    got = fetcher(server).picture(server.url(path))
    assert (got.suffix, got.width, got.height) == (suffix, 48, 40)
    assert fetch.picture_suffix(got.data) == suffix


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("status/404", "not found (404)"),
        ("status/410", "answered 410"),
        ("status/204", "answered 204"),
        ("html", "a web page, not a picture"),
        ("htmlasjpeg", "a web page, not a picture"),
        ("to/html", "a web page, not a picture"),
        ("text", "wrong type: text/plain"),
        ("notpicture", "not an image"),
        ("ok/1.gif", "wrong format"),
        ("empty", "empty file"),
        ("bomb", "too large: 100000x100000"),
        ("saidhuge", "larger than 1 MiB"),
        ("endless", "larger than 1 MiB"),
        ("loop", "more than 5 redirects"),
        ("to/to/to/to/to/to/ok/1.png", "more than 5 redirects"),
        ("away/nowhere", "more than 5 redirects"),
        ("away/ftp", "scheme ftp"),
        ("away/file", "scheme file"),
        ("away/data", "scheme data"),
        ("away/script", "scheme javascript"),
        ("away/host", "host pictures.example is not allowed"),
        ("away/noscheme", "host pictures.example is not allowed"),
        ("away/port", "host 127.0.0.1:9 is not allowed"),
        ("away/user", "is not allowed"),
    ],
)
def test_what_will_never_be_a_picture_fails_for_good_and_is_asked_for_once(server, path, reason):
    failed = failure(server, path)
    assert reason in str(failed) and not failed.passing
    assert server.hits["/" + path] == (6 if path in ("loop", "away/nowhere") else 1)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("cut", "cut off after"),
        ("cutsilently", "truncated"),
        ("cutchunked", "cut off"),
        ("shortlength", "truncated"),
        ("hangup", "no connection"),
        ("garbage", "no connection"),
        ("status/500", "answered 500"),
        ("status/503", "answered 503"),
        ("status/429", "answered 429"),
        ("status/403", "answered 403"),
    ],
)
def test_what_may_pass_is_tried_again_and_fails_as_passing(server, path, reason):
    failed = failure(server, path)
    assert reason in str(failed) and failed.passing
    assert server.hits["/" + path] == 2


@pytest.mark.parametrize("path", ["stall", "stallbody"])
def test_a_silent_server_is_left_after_the_timeout(server, path):
    failed = failure(server, path, timeout=0.15, attempts=1)
    assert str(failed) == "silent for 0.15 s" and failed.passing


@pytest.mark.parametrize("path", ["drip", "dripheaders"])
def test_a_dripping_server_is_left_at_the_deadline(server, path):
    start = time.monotonic()
    failed = failure(server, path, deadline=0.3, attempts=1)
    assert str(failed) == "not done after 0.3 s" and failed.passing
    assert time.monotonic() - start < 2  # the drip alone takes 4 s and more


def test_a_closed_port_is_no_connection(server):
    with pytest.raises(FetchFailed, match="no connection: .*refused") as caught:
        fetcher(server, hosts=("127.0.0.1:9",), attempts=1).picture("http://127.0.0.1:9/1.jpg")
    assert caught.value.passing


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_picture_comes_once_the_server_is_well_again(server, code):
    got = fetcher(server, attempts=3).picture(server.url(f"flaky/{code}/2"))
    assert got.suffix == ".jpg"
    assert server.hits[f"/flaky/{code}/2"] == 3


def test_the_pauses_between_tries_double(server, monkeypatch):
    pauses = []
    one = fetcher(server, attempts=5, pause=1.0, longest_pause=6.0)
    monkeypatch.setattr(one, "_sleep", lambda seconds: pauses.append(seconds))
    with pytest.raises(FetchFailed):
        one.picture(server.url("status/500"))
    backoff = [pause for pause in pauses if pause > 0.2]  # the others wait for a turn
    assert len(backoff) == 4
    for pause, middle in zip(backoff, (1, 2, 4, 6)):
        assert 0.5 * middle <= pause <= 1.5 * middle and pause <= 6


def test_retry_after_is_heeded(server):
    got = fetcher(server).picture(server.url("busy/1"))
    assert got.suffix == ".jpg"
    assert server.times[1] - server.times[0] > 0.9


def test_a_host_that_asks_for_a_long_pause_is_asked_no_more(server):
    one = fetcher(server, attempts=4)
    for path in ("busy/3600", "ok/1.jpg", "ok/2.jpg"):
        with pytest.raises(FetchFailed, match="asked for a pause of 36|asked for a pause of 35"):
            one.picture(server.url(path))
    assert len(server.times) == 1


def test_retry_after_may_be_a_date_or_nonsense():
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 95 < fetch._retry_after(date) <= 100
    assert fetch._retry_after("soon") == fetch._retry_after(None) == 0
    assert fetch._retry_after(email.utils.formatdate(0, usegmt=True)) == 0


def test_all_threads_together_keep_the_rate(server):
    one = fetcher(server, rate=20.0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one.picture, [server.url(f"ok/{n}.jpg") for n in range(7)]))
    # 6 gaps of 50 ms; a late first arrival may shorten their sum a little
    assert 0.2 < server.times[-1] - server.times[0]


def test_redirects_and_retries_take_turns_too(server):
    one = fetcher(server, rate=10.0)
    one.picture(server.url("to/to/ok/1.jpg"))
    assert 0.15 < server.times[-1] - server.times[0]


def test_the_server_sees_who_asks(server):
    fetcher(server).picture(server.url("ok/1.jpg"))
    assert server.agents == [fetch.user_agent()]
    assert fetch.user_agent().startswith("artifygan_jax/")


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetcher(server).picture(server.url("ok/1.jpg")).suffix == ".jpg"


def test_stop_ends_transfers_and_pauses_at_once(server):
    one = fetcher(server, timeout=5.0, pause=5.0, longest_pause=9.0)
    with ThreadPoolExecutor(2) as pool:
        flying = [pool.submit(one.picture, server.url(path)) for path in ("stall", "status/500")]
        until = time.monotonic() + 5
        while len(server.times) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        start = time.monotonic()
        threading.Timer(0.05, one.stop).start()
        for future in flying:
            with pytest.raises(FetchFailed, match="stopped"):
                future.result(timeout=5)
    assert time.monotonic() - start < 2
    with pytest.raises(FetchFailed, match="stopped"):
        one.picture(server.url("ok/1.jpg"))


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("//safebooru.org//samples/1/a.jpg", "https://safebooru.org//samples/1/a.jpg"),
        ("safebooru.org//samples/1/a.jpg", "https://safebooru.org//samples/1/a.jpg"),
        ("http://safebooru.org/a.jpg", "http://safebooru.org/a.jpg"),
        ("https://cdn.donmai.us:443/a.png?1", "https://cdn.donmai.us:443/a.png?1"),
        ("HTTPS://CDN.Donmai.us/a.png", "https://CDN.Donmai.us/a.png"),
    ],
)
def test_addresses_without_a_scheme_are_https(url, whole):
    assert Fetcher(Manners(hosts=("safebooru.org", "donmai.us"))).check(url).geturl() == whole


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a.jpg",
        "https://safebooru.org.evil.example/a.jpg",
        "https://notsafebooru.org/a.jpg",
        "https://safebooru.org@evil.example/a.jpg",
        "https://a:b@safebooru.org/a.jpg",
        "https://safebooru.org:8443/a.jpg",
        "https://safebooru.org:99999/a.jpg",
        "http://127.0.0.1/a.jpg",
        "http://[::1]/a.jpg",
        "http://[/a.jpg",
        "ftp://safebooru.org/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "/images/a.jpg",
        "",
        "https://safebooru.org/a b.jpg",
        "https://safebooru.org/a\r\nHost: evil.example",
        "https://safebooru.org/\x00a.jpg",
    ],
)
def test_other_addresses_are_refused_before_anything_is_sent(url):
    with pytest.raises(FetchFailed) as caught:
        Fetcher(Manners(hosts=("safebooru.org", "donmai.us"))).picture(url)
    assert not caught.value.passing and str(caught.value).isprintable()


def test_no_hosts_means_none_may_be_asked(server):
    for hosts in ((), ("",)):
        with pytest.raises(FetchFailed, match="not allowed"):
            fetcher(server, hosts=hosts).picture(server.url("ok/1.jpg"))
    assert not server.times


def test_https_is_not_left_for_http(server, monkeypatch):
    one = fetcher(server, hosts=("safebooru.org",))
    sent = []

    def request(address, *_):
        sent.append(address.geturl())
        headers = fetch.http.client.HTTPMessage()
        headers["Location"] = "http://safebooru.org/a.jpg"
        return fetch._Answer(302, headers)

    monkeypatch.setattr(one, "_request", request)
    with pytest.raises(FetchFailed, match="redirected from https to http"):
        one.picture("https://safebooru.org/a.jpg")
    assert sent == ["https://safebooru.org/a.jpg"]
