"""The quota's arithmetic on a clock of its own: what leaves when, and what an answer changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.quota import PROBE_TOKENS, Quota
from shelfkin.embedding.rate_headers import DAY_S, MINUTE_S, Allowance, duration_s, read_rate_headers
from shelfkin.profile import Embedding

NONE_OUTSTANDING = {"requests": 0.0, "tokens": 0.0}


def headers(
    requests: tuple[float, float, float] | None = None, tokens: tuple[float, float, float] | None = None
) -> dict[str, Allowance]:
    return {what: Allowance(*said) for what, said in (("requests", requests), ("tokens", tokens)) if said is not None}


def quota_of(headroom: float = 0.01, burst_s: float = 5.0, **limits: float) -> Quota:
    """Return a quota with limits that the profile names, like requests_per_minute=60."""
    return Quota(Embedding.model_validate({"quota_headroom": headroom, "quota_burst_s": burst_s, **limits}))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("8.64s", 8.64),
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("1d", 86400),
        ("7", 7),
        ("soon", None),
        ("", None),
    ],
)
def test_durations_as_servers_write_them(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (pytest.approx(seconds) if seconds is not None else None)


def test_headers_that_are_missing_or_nonsense() -> None:
    assert read_rate_headers({}) == {}
    found = read_rate_headers({"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "-"})
    assert found == {"tokens": Allowance(1000.0, None, None)}


def test_a_days_limit_is_told_from_a_minutes_by_its_reset_time() -> None:
    # OpenAI's documentation: 10,000 requests a day, 9,999 left, reset in 8.64 s.
    assert Allowance(10_000, 9_999, 8.64).period_s == DAY_S
    assert Allowance(10_000, 9_990, 86.4).period_s == DAY_S
    assert Allowance(3_000, 2_999, 0.02).period_s == MINUTE_S
    # A window of a fixed minute, 10 used, 55 s left: no day's bucket refills so.
    assert Allowance(1_000, 990, 55).period_s == MINUTE_S
    assert Allowance(1_000, 1_000, 0).period_s == MINUTE_S


def test_what_leaves_when_requests_bind() -> None:
    quota = quota_of(requests_per_minute=60, headroom=0.0, burst_s=2.0)
    # A second's worth at first, then one a second; two seconds' worth may be saved up.
    assert quota.wait_s(10, 0.0) == 0
    quota.take(10, 0.0)
    assert quota.wait_s(10, 0.0) == pytest.approx(1.0)
    assert quota.wait_s(10, 0.25) == pytest.approx(0.75)
    for _ in range(2):
        assert quota.wait_s(10, 60.0) == 0
        quota.take(10, 60.0)
    assert quota.wait_s(10, 60.0) == pytest.approx(1.0)


def test_a_request_larger_than_the_bucket_leaves_when_it_is_full_and_is_paid_off() -> None:
    quota = quota_of(tokens_per_minute=600, headroom=0.0, burst_s=1.0)
    assert quota.wait_s(100, 0.0) == 0
    quota.take(100, 0.0)  # the bucket holds 10: it is at -90 now
    assert quota.wait_s(10, 0.0) == pytest.approx(10.0)


@given(
    st.lists(st.tuples(st.integers(1, 4_000), st.floats(0, 20)), min_size=1, max_size=60),
    st.floats(60, 60_000),
    st.floats(1_000, 1_000_000),
)
def test_no_minute_ever_holds_more_than_its_limit(
    requests: list[tuple[int, float]], requests_per_minute: float, tokens_per_minute: float
) -> None:
    quota = quota_of(headroom=0.0, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    sent: list[tuple[float, float]] = []
    now = 0.0
    for n_tokens, idle_s in requests:
        n_tokens = min(n_tokens, quota.request_tokens())
        now += idle_s
        now += quota.wait_s(n_tokens, now)
        assert quota.wait_s(n_tokens, now + 1e-6) == 0
        quota.take(n_tokens, now)
        sent.append((now, n_tokens))
    for begin, _ in sent:
        within = [tokens for at, tokens in sent if begin <= at < begin + MINUTE_S]
        # A server whose full bucket holds a minute's worth never runs dry: a burst on top of the steady flow is all.
        assert sum(within) <= tokens_per_minute + quota.request_tokens() + tokens_per_minute * 5 / 60 + 1
        assert len(within) <= requests_per_minute * (1 + 5 / 60) + 2


def test_before_any_answer_requests_are_small_and_afterwards_as_the_limits_say() -> None:
    quota = quota_of()
    assert not quota.known and quota.request_tokens() == PROBE_TOKENS
    quota.observe(headers((60, 59, 1.0), (600_000, 592_000, 0.8)), NONE_OUTSTANDING, 1.0)
    assert quota.known
    assert (quota.limit("requests"), quota.limit("tokens")) == (60, 600_000)
    # A second's worth of tokens, or 1.25 times what a request must hold for tokens to bind.
    assert quota.request_tokens() == 12_500
    quota.observe(headers((6, 5, 10.0), (600_000, 592_000, 0.8)), NONE_OUTSTANDING, 2.0)
    assert quota.request_tokens() == 125_000


def test_a_server_without_limits_is_known_after_its_first_answer() -> None:
    quota = quota_of()
    quota.observe({}, NONE_OUTSTANDING, 1.0)
    assert quota.known and quota.request_tokens() == 300_000 and quota.wait_s(300_000, 1.0) == 0


def test_what_the_server_says_only_lowers_what_the_user_set() -> None:
    quota = quota_of(
        tokens_per_minute=1_000,
    )
    quota.observe(headers(tokens=(600_000, 600_000, 0)), NONE_OUTSTANDING, 1.0)
    assert quota.limit("tokens") == 1_000
    quota.observe(headers(tokens=(500, 500, 0)), NONE_OUTSTANDING, 2.0)
    assert quota.limit("tokens") == 500


def test_a_key_that_others_use_too() -> None:
    quota = quota_of(tokens_per_minute=60_000, headroom=0.0, burst_s=5.0)
    # The server's bucket is all but empty although we took nothing; 200 of our own tokens may not be counted yet.
    quota.observe(headers(tokens=(60_000, 1_000, 59.0)), {"requests": 1, "tokens": 200}, 0.0)
    assert quota.wait_s(800, 0.0) == 0
    assert quota.wait_s(2_800, 0.0) == pytest.approx(2.0)


def test_a_429_slows_down_once_and_recovers() -> None:
    quota = quota_of(requests_per_minute=60, headroom=0.0, burst_s=0.25)
    assert quota.refuse(1, 2.0, left_at=0.0, now=1.0)
    assert quota.pace == pytest.approx(0.7)
    assert quota.wait_s(1, 1.0) == pytest.approx(2.0)  # as long as the server asks, though the bucket would do sooner
    # Requests that left before the slow-down bring no news about the pace, only their waits.
    assert not quota.refuse(1, 4.0, left_at=0.5, now=1.5)
    assert quota.pace == pytest.approx(0.705)
    assert quota.wait_s(1, 1.5) == pytest.approx(4.0)
    assert quota.refuse(1, None, left_at=2.0, now=2.5)
    assert quota.pace == pytest.approx(0.7 * 0.715)
    quota.wait_s(1, 62.5)
    assert quota.pace == 1.0


def test_a_429_first_lowers_what_leaves_at_once_and_only_then_the_pace() -> None:
    quota = quota_of(tokens_per_minute=600_000, headroom=0.0, burst_s=5.0)
    quota.observe({}, NONE_OUTSTANDING, 0.0)
    assert quota.request_tokens() == 10_000
    # The refused request held half a second's worth: twice as much is no longer believed in.
    assert quota.refuse(5_000, None, left_at=1.0, now=1.5)
    assert (quota.burst_s, quota.pace, quota.request_tokens()) == (0.25, 1.0, 2_500)
    # One that was packed before that says nothing new.
    assert not quota.refuse(5_000, None, left_at=2.0, now=2.5)
    assert quota.refuse(2_500, None, left_at=3.0, now=3.5)
    assert (quota.burst_s, quota.pace) == (0.25, 0.7)


def test_what_a_server_holds_is_read_from_what_is_left_and_what_comes_back() -> None:
    quota = quota_of(burst_s=5.0)
    quota.observe(headers((3_000, 2_999, 0.02), (1_000_000, 992_000, 0.48)), NONE_OUTSTANDING, 0.0)
    assert quota.burst_s == 5.0
    # 16,667 tokens a second, of which 8,667 are left and 8,000 come back within 0.48 s: a second's worth.
    quota.observe(headers(tokens=(1_000_000, 8_667, 0.48)), NONE_OUTSTANDING, 1.0)
    assert quota.burst_s == pytest.approx(0.5, rel=0.01)


def test_a_429_from_a_server_that_says_there_is_plenty_left_is_not_about_us() -> None:
    quota = quota_of()
    quota.observe(headers((600, 500, 10), (60_000, 50_000, 10)), NONE_OUTSTANDING, 0.0)
    assert not quota.refuse(1_000, None, left_at=0.5, now=1.0)
    assert quota.pace == 1.0
    assert quota.refuse(1_000, None, left_at=6.5, now=7.0)  # its word is too old by now


def test_a_guessed_limit_grows_until_the_server_refuses_again() -> None:
    quota = quota_of()
    quota.observe({}, NONE_OUTSTANDING, 0.0)
    quota.guess(100, 10_000, 10.0)
    quota.refuse(100, None, left_at=9.0, now=10.0)
    assert quota.limit("tokens") == 10_000
    for second in range(11, 60):
        quota.wait_s(1, float(second))
    grown = quota.limit("tokens")
    assert grown is not None and 10_000 < grown < 13_000
    quota.guess(90, 9_000, 60.0)
    assert quota.limit("tokens") == 9_000
    # The last minute was slow because it had been slowed down: that is no reason to go slower and slower.
    quota.guess(5, 500, 60.0)
    assert quota.limit("tokens") == pytest.approx(0.7 * 9_000)
    # Once the server names its limits, guessing ends.
    quota.observe(headers((600, 599, 0.1), (60_000, 59_000, 1)), NONE_OUTSTANDING, 61.0)
    quota.guess(1, 1, 62.0)
    assert quota.limit("tokens") == 60_000


def test_pacing_is_no_blockade() -> None:
    # One long text puts the bucket far into debt: that takes its time, but it isn't a reason to give up.
    quota = quota_of(tokens_per_minute=600, requests_per_day=2, headroom=0.0, burst_s=1.0)
    quota.take(8_000, 0.0)
    assert quota.wait_s(10, 0.0) > 700
    assert quota.blocked_s(10, 0.0) == 0
    quota.refuse(10, 90.0, left_at=0.0, now=1.0)
    assert quota.blocked_s(10, 1.0) == 90
    quota.take(1, 2.0)
    assert quota.blocked_s(10, 2.0) == pytest.approx(DAY_S / 2, rel=0.01)  # the day's second request is gone


def test_tokens_that_were_not_used_come_back() -> None:
    quota = quota_of(tokens_per_minute=600, headroom=0.0, burst_s=10.0)
    quota.take(100, 60.0)  # all that was saved up
    assert quota.wait_s(100, 60.0) == pytest.approx(10.0)
    quota.settle(100, 20, 60.0)
    assert quota.wait_s(100, 60.0) == pytest.approx(2.0)


def test_concurrency_climbs_while_it_pays() -> None:
    limit, now = ConcurrencyLimit(highest=64), 0.0
    # A server with room for six: each request takes a second, beyond six they queue.
    for _ in range(4000):
        throughput = min(int(limit.limit), 6) * 100
        now += 100 / throughput
        limit.answered(100, now)
    assert 6 <= limit.limit <= 9


def test_concurrency_under_a_known_quota_falls_only_with_failures() -> None:
    limit = ConcurrencyLimit(highest=30, limit=30, paced=True)
    limit.failed(left_at=1.0, now=2.0)
    assert limit.limit == pytest.approx(20)
    limit.failed(left_at=1.5, now=2.1)  # left before the step down
    assert limit.limit == pytest.approx(20)
    for _ in range(20):
        limit.answered(1, 3.0)
    assert limit.limit == 30
