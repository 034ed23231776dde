"""Work spread over several servers that make pictures: each is kept busy, and none of the work is lost with one.

A thread for each server takes items from one list. What a server held when it went away goes back to the list; a server
that comes back takes part again. A picture counts as made when it is saved, and is saved once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from ..errors import F2DError, SettingsError
from ..ports import Progress

IN_HAND = 2  # items a server has at a time: one that it works on and one that waits
POLL_S = 0.2  # between questions whether something is done
FIRST_RETRY_S, MOST_RETRY_S = 1.0, 15.0  # before an absent server is asked again; doubled each time
GIVE_UP_S = 600.0  # with no server at all
_MEMORY_TRIES = 2  # per item
_TRIES = 5  # of an item that servers stop without an error

Work = TypeVar("Work")


class Unreachable(Exception):
    """The server does not answer, or has lost what it was given. Its work goes to others."""


class MemoryFull(Exception):
    """The server's memory was too small for an item."""


class Interrupted(Exception):
    """Somebody stopped the item on the server."""


class Server(Protocol[Work]):
    """One server. All methods raise Unreachable where it does not answer, F2DError where trying again is of no use."""

    address: str

    def connect(self) -> None:
        """Check that the server can do the work; forget what it was given before."""
        ...

    def submit(self, work: Work) -> str:
        """Put an item at the end of the server's queue -> how to ask for it."""
        ...

    def result(self, ticket: str) -> np.ndarray | None:
        """(H, W, 3) uint8, or None while it is not done. Raises MemoryFull, Interrupted."""
        ...

    def free_memory(self) -> None: ...

    def cancel(self, tickets: Sequence[str]) -> None:
        """Take items back that are not done."""
        ...


class Crew(Generic[Work]):
    """Servers at work on one list of items. save(item, picture) keeps a picture; note(text) tells people something."""

    def __init__(
        self,
        servers: Sequence[Server[Work]],
        save: Callable[[Work, np.ndarray], None],
        note: Callable[[str], None] = lambda text: None,
        give_up_s: float = GIVE_UP_S,
    ):
        self._servers, self._save, self._note, self._give_up_s = servers, save, note, give_up_s
        self._changed = threading.Condition()
        self._waiting: deque[Work] = deque()
        self._left = 0
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._troubles: Counter[Work] = Counter()
        self._absent: dict[str, str] = {}  # address -> why
        self._ever: set[str] = set()  # addresses that have answered
        self._alone_since = 0.0
        self.made: Counter[str] = Counter()  # address -> pictures

    def run(self, items: Sequence[Work], progress: Progress | None = None) -> None:
        """Until all items are saved. Raises the first F2DError; SettingsError where no server is left."""
        self._waiting, self._left, self._alone_since = deque(items), len(items), time.monotonic()
        self._stop.clear()
        self._error = None
        threads = [threading.Thread(target=self._guarded, args=(one,), daemon=True) for one in self._servers]
        for thread in threads:
            thread.start()
        try:
            self._watch(len(items), progress)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def _watch(self, total: int, progress: Progress | None) -> None:
        done, over = 0, False
        while not over:
            before = done
            done, over = self._news(total, before)
            if progress is not None and done > before:
                progress(done, total)

    def _news(self, total: int, told: int) -> tuple[int, bool]:
        """(pictures made, is it over), as soon as more than `told` are made, or a second later."""
        with self._changed:
            self._changed.wait_for(lambda: self._over() or total - self._left > told, timeout=0.25)
            self._require_somebody()
            return total - self._left, self._over()

    def _over(self) -> bool:
        return self._left == 0 or self._error is not None

    def _require_somebody(self) -> None:
        """Stop when no server answers: at once at the beginning, after a while later on."""
        if self._over() or len(self._absent) < len(self._servers):
            return
        patience = self._give_up_s if self._ever else 0
        if time.monotonic() - self._alone_since >= patience:
            reasons = "; ".join(self._absent.values())
            self._error = SettingsError(
                f"No server answers: {reasons}. Start ComfyUI, check the addresses (--server), and run this again: it "
                "goes on where it was."
            )

    def _guarded(self, one: Server[Work]) -> None:
        try:
            self._serve(one)
        except BaseException as error:  # also mistakes of ours: a thread that dies silently would hang the run
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _serve(self, one: Server[Work]) -> None:
        held: dict[str, Work] = {}
        connected, pause = False, FIRST_RETRY_S
        try:
            while not self._finished():
                try:
                    if not connected:
                        one.connect()
                        connected, pause = True, FIRST_RETRY_S
                        self._present(one)
                    self._turn(one, held)
                except Unreachable as error:
                    connected = False
                    self._take_back(held)
                    self._missed(one, str(error))
                    self._stop.wait(pause)
                    pause = min(2 * pause, MOST_RETRY_S)
        finally:
            self._part(one, held)

    def _finished(self) -> bool:
        with self._changed:
            return self._stop.is_set() or self._over()

    def _turn(self, one: Server[Work], held: dict[str, Work]) -> None:
        """Give the server what it has room for, take what is done, and wait a little if nothing is."""
        while len(held) < IN_HAND and (item := self._next()) is not None:
            try:
                held[one.submit(item[0])] = item[0]
            except BaseException:
                self._put_back([item[0]])
                raise
        done = [ticket for ticket in list(held) if self._collected(one, ticket, held)]
        if not done:
            self._stop.wait(POLL_S)

    def _collected(self, one: Server[Work], ticket: str, held: dict[str, Work]) -> bool:
        item = held[ticket]
        try:
            picture = one.result(ticket)
        except (MemoryFull, Interrupted) as error:
            del held[ticket]
            self._put_back([item])
            self._again(one, item, error)
            return True
        if picture is None:
            return False
        self._save(item, picture)
        del held[ticket]
        with self._changed:
            self._left -= 1
            self.made[one.address] += 1
            self._changed.notify_all()
        return True

    def _again(self, one: Server[Work], item: Work, error: Exception) -> None:
        """The item has gone back to the list; raise when it has done so too often."""
        self._troubles[item] += 1
        if isinstance(error, MemoryFull):
            if self._troubles[item] > _MEMORY_TRIES:
                raise SettingsError(
                    f"{one.address} has too little memory for a picture ({error}). Choose a smaller width and "
                    "height, or start ComfyUI with --lowvram."
                ) from error
            self._note(f"{one.address}: too little memory; trying again after freeing it")
            one.free_memory()
        elif self._troubles[item] > _TRIES:
            raise SettingsError(f"{one.address} stopped a picture {_TRIES} times: {error}.") from error

    def _next(self) -> tuple[Work] | None:
        with self._changed:
            return (self._waiting.popleft(),) if self._waiting else None

    def _put_back(self, items: Sequence[Work]) -> None:
        """To the front, in their order: they were given out first."""
        with self._changed:
            self._waiting.extendleft(reversed(items))

    def _take_back(self, held: dict[str, Work]) -> None:
        self._put_back(list(held.values()))
        held.clear()

    def _present(self, one: Server[Work]) -> None:
        with self._changed:
            if self._absent.pop(one.address, None) and one.address in self._ever:
                self._note(f"{one.address} is back")
            self._ever.add(one.address)

    def _missed(self, one: Server[Work], reason: str) -> None:
        with self._changed:
            if one.address not in self._absent:
                others = "its work goes to others, and it" if len(self._servers) > 1 else "it"
                self._note(f"{reason}; {others} is asked again now and then")
                self._alone_since = time.monotonic()
            self._absent[one.address] = reason
            self._changed.notify_all()

    def _part(self, one: Server[Work], held: Mapping[str, Work]) -> None:
        if held:
            try:
                one.cancel(list(held))
            except (Unreachable, F2DError):
                pass  # it is gone, and its work with it
