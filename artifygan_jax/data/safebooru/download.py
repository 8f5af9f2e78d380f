"""Downloads the pictures of posts into a folder, as `ID.SUFFIX`; a second run goes on where one stopped."""

import dataclasses
import hashlib
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from artifygan_jax.data.fetch import Fetched, Fetcher, FetchFailed
from artifygan_jax.data.listing import writable_folder
from artifygan_jax.data.safebooru.audit import FAILED, KEPT, LATER, REFUSED, Audit, opened
from artifygan_jax.data.safebooru.posts import Metadata, Post
from artifygan_jax.data.safebooru.select import Rules, Tally, select
from artifygan_jax.data.saving import write_whole

HOSTS = ("safebooru.org", "donmai.us")
# So many posts in a row fail for reasons of network or server: it is down, or wants no more of us.
GIVE_UP_AFTER = 20
MAX_FAILURES = 100  # named in the summary; the audit has them all
TOO_SMALL = "too small"


@dataclasses.dataclass
class Downloaded:
    """What a run did; `stopped` says why it ended before its time, if it did."""

    kept: int = 0
    already: int = 0
    given_up: int = 0  # failed for good in an earlier run, and not asked for again
    failures: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    failed: int = 0
    stopped: str = ""


def download_pictures(
    metadata: Metadata,
    folder: Path,
    fetcher: Fetcher,
    rules: Rules,
    *,
    count: int | None = None,
    workers: int = 4,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Downloaded, Tally]:
    """Downloads until `count` pictures of posts that fit `rules` are there (None: all of them).

    Every verdict goes to `folder/audit.jsonl`. A picture counts as there when the audit says `kept`
    and its file has the size noted. A failure for good (not found, no picture) is not repeated as
    long as the post's address stays the same. Ctrl-C keeps what is finished. Raises `UserError`.
    """
    writable_folder(folder)
    tally = Tally()
    rules = dataclasses.replace(rules, online=True)
    with opened(folder) as audit:
        if audit.damaged:
            say(f"{audit.damaged} damaged lines of the audit left out")
        run = _Run(folder, fetcher, rules, audit, say)
        posts = select(metadata, rules, tally, lambda p, why: audit.write(p, REFUSED, why))
        run.work(posts, count, workers)
    return run.done, tally


@dataclasses.dataclass
class _Run:
    """One run: the calling thread alone writes files and audit; workers only fetch."""

    folder: Path
    fetcher: Fetcher
    rules: Rules
    audit: Audit
    say: Callable[[str], None]
    done: Downloaded = dataclasses.field(default_factory=Downloaded)
    in_a_row: int = 0

    def work(self, posts: Iterator[Post], count: int | None, workers: int) -> None:
        """Fetches with `workers` threads, never more at once than are still wanted."""
        pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
        flying: dict[Future[Fetched], Post] = {}

        def room() -> bool:
            here = self.done.kept + self.done.already + len(flying)
            return len(flying) < workers and (count is None or here < count)

        try:
            while True:
                while not self.done.stopped and room() and (post := next(posts, None)):
                    if self._is_open(post):
                        flying[pool.submit(self.fetcher.picture, post.url)] = post
                if not flying:
                    return
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    self._finish(flying.pop(future), future)
        finally:  # after Ctrl-C too: nothing new begins, and nothing waits for a slow server
            if flying:
                self.fetcher.stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _is_open(self, post: Post) -> bool:
        """Whether this post's picture is yet to be had; counts it where not."""
        before = self.audit.latest(post)
        there, hopeless = self._is_there(before), self._is_hopeless(before, post)
        self.done.already += there
        self.done.given_up += hopeless
        return not there and not hopeless

    def _finish(self, post: Post, future: Future[Fetched]) -> None:
        try:
            picture = future.result()
        except FetchFailed as failure:
            self._failed(post, str(failure), LATER if failure.passing else FAILED)
            self.in_a_row = self.in_a_row + 1 if failure.passing else 0
            if self.in_a_row >= GIVE_UP_AFTER and not self.done.stopped:
                self.done.stopped = f"{self.in_a_row} posts in a row failed, the last: {failure}"
                self.say(f"stopped: {self.done.stopped}; run the same command again later")
                self.fetcher.stop()
            return
        self.in_a_row = 0
        if min(picture.width, picture.height) < self.rules.min_size:
            reason = f"{TOO_SMALL}: {picture.width}x{picture.height}"
            self._failed(post, reason, FAILED, shortest=min(picture.width, picture.height))
            return
        file = f"{post.id}{picture.suffix}"
        write_whole(self.folder / file, picture.data)
        digest = hashlib.sha256(picture.data).hexdigest()
        self.audit.write(post, KEPT, file=file, sha256=digest, bytes=len(picture.data))
        self.done.kept += 1
        if self.done.kept % 100 == 0:
            self.say(f"{self.done.kept} pictures downloaded, {self.done.already} were there")

    def _failed(self, post: Post, reason: str, verdict: str, **facts: Any) -> None:
        self.audit.write(post, verdict, reason, **facts)
        self.done.failed += 1
        if len(self.done.failures) < MAX_FAILURES:
            self.done.failures.append({"input": str(post.id), "reason": reason})

    def _is_there(self, before: dict[str, Any]) -> bool:
        if before.get("verdict") != KEPT:
            return False
        name = before.get("file")
        if not isinstance(name, str) or Path(name).name != name:
            return False
        try:
            found = (self.folder / name).lstat()
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == before.get("bytes")

    def _is_hopeless(self, before: dict[str, Any], post: Post) -> bool:
        if before.get("verdict") != FAILED or before.get("url") != post.url:
            return False
        shortest = before.get("shortest")
        return not isinstance(shortest, int) or shortest < self.rules.min_size
