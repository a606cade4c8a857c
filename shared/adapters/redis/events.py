"""The event log in Redis: one stream and one counter per session, both under the same cluster slot.

Implements `EventLog`.

One script numbers, appends, trims and announces a batch atomically, and tells who may be listening; batches of
different sessions share a pipeline. Readers follow through pub/sub (`followers.py`).
"""

from __future__ import annotations

import itertools
import time
from asyncio import shield
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from shared.adapters.redis.epochs import Epoch, Epochs
from shared.adapters.redis.feeds import COUNTER_SECONDS, channel, counter, here, stream
from shared.adapters.redis.followed import FollowedFeeds, is_followed
from shared.adapters.redis.followers import Followers, Queue
from shared.adapters.redis.guard import RedisGuard
from shared.batching import Batcher
from shared.errors import CacheUnavailable
from shared.ids import new_id
from shared.sessions.events import READ_BYTES, Appended, EventLogUnavailable, EventTarget, LogSlice, SeqLeaseNeeded

_KNOWN_LIMIT = 10_000
_SKEW = timedelta(seconds=1)
"""By so much the clocks of two processes may differ."""
_NOTHING, _NEW, _LEASED = 0, 1, 2
"""What may start at the floor: nothing; a session without a counter; one whose counter is of an earlier epoch, too."""
RENEWED_AFTER_S = 60
"""How often the lives of a session's keys are lengthened at most. Each lives longer by so much."""

# KEYS: counter hash, stream. ARGV: floor, ceiling, what may start at the floor (_NOTHING, ...), max length, stream ttl,
# counter ttl, channel, append id, newest number that the process knows, now in s, renewed after s, presence that the
# database knows (ms, or empty), body...
# Returns the first number, or -1: no counter (lost), or one that has gone back or may have, or -2: the ceiling is
# reached; then the presence mark or an empty text, and when a reader was last noted in s.
# The client repeats a call when it missed the answer; by the append id the script recognises the repeat.
_APPEND = """
local kept = redis.call('HMGET', KEYS[1], 'seq', 'ceiling', 'append', 'first', 'renewed', 'presence', 'followed',
  'epoch')
-- A counter of an earlier epoch may be older than the numbers that were given. Older code told of no epoch.
if kept[8] and kept[8] ~= epoch then
  if ARGV[3] ~= '2' then return {-1} end
  redis.call('DEL', KEYS[1])
  kept = {}
end
if kept[3] == ARGV[8] then return {tonumber(kept[4]), kept[6] or '', kept[7] or ARGV[10]} end
local floor = tonumber(ARGV[1])
local ceiling = math.max(tonumber(kept[2] or '0'), tonumber(ARGV[2]))
local seq = tonumber(kept[1] or '-1')
if seq < 0 and ARGV[3] == '0' then return {-1} end
if seq < floor then seq = floor end
-- A replica that was promoted before it had everything: these numbers were given out.
if seq < tonumber(ARGV[9]) then return {-1} end
local count = #ARGV - 12
if seq + count > ceiling then return {-2} end
local announced = {seq + 1}
for i = 1, count do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], string.format('%.0f-0', seq + i), 'e', ARGV[12 + i])
  announced[i + 1] = ARGV[12 + i]
end
local changed = {'seq', string.format('%.0f', seq + count), 'ceiling', string.format('%.0f', ceiling),
  'append', ARGV[8], 'first', string.format('%.0f', seq + 1), 'epoch', epoch}
-- What the database knows counts where nothing is known here, and where a join that it has on record is missing here.
local presence, told = kept[6] or '', tonumber(ARGV[12])
if told and (presence == '' or told > math.abs(tonumber(presence))) then
  presence = ARGV[12]
  changed[#changed + 1], changed[#changed + 2] = 'presence', presence
end
-- Nobody reads what has just been made. Of anything else it is not known, and said for as long as a note lasts.
local followed = kept[7]
if not followed then
  followed = kept[1] and ARGV[10] or told == 0 and '0' or ARGV[10]
  changed[#changed + 1], changed[#changed + 2] = 'followed', followed
end
local is_due = math.abs(tonumber(ARGV[10]) - tonumber(kept[5] or '0')) >= tonumber(ARGV[11])
if is_due then changed[#changed + 1], changed[#changed + 2] = 'renewed', ARGV[10] end
redis.call('HSET', KEYS[1], unpack(changed))
if is_due then
  redis.call('EXPIRE', KEYS[1], ARGV[6])
  redis.call('EXPIRE', KEYS[2], ARGV[5])
end
redis.call('PUBLISH', ARGV[7], table.concat(announced, '\\n'))
return {seq + 1, presence, followed}
"""

# KEYS: counter hash, stream. ARGV: XRANGE or XREVRANGE, the two ends, most entries, most bytes. Returns the counter,
# whether the bytes were the bound, and the entries: at least the first, however large it is. It looks at a few at a
# time, and at fewer where they are large, so that Redis copies little that it does not send.
_READ = """
local left, found, asked, largest, from = tonumber(ARGV[5]), {}, 4, 1, ARGV[2]
local newest = redis.call('HGET', KEYS[1], 'seq')
while #found < tonumber(ARGV[4]) do
  local count = math.min(asked, tonumber(ARGV[4]) - #found, math.max(1, math.floor(left / largest)))
  local entries = redis.call(ARGV[1], KEYS[2], from, ARGV[3], 'COUNT', count)
  for _, entry in ipairs(entries) do
    local size = #entry[2][2]
    if #found > 0 and size > left then return {newest, 1, found} end
    found[#found + 1] = entry
    left, largest, from = left - size, math.max(largest, size), '(' .. entry[1]
  end
  if #entries < count then break end
  asked = math.min(32, asked * 2)
end
return {newest, 0, found}
"""


class RedisEventLog:
    """`EventLog` over Redis streams.

    listening: a client without a read timeout, for the one connection that waits for live events.

    length: events kept per session (approximately). ttl_seconds: how long a session's stream is kept after its last
    event, at least. clock: seconds since 1970.
    """

    def __init__(
        self,
        redis: Redis,
        listening: Redis,
        guard: RedisGuard | None = None,
        *,
        length: int,
        ttl_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._guard = guard or RedisGuard(redis)
        self._length = length
        self._ttl_seconds = ttl_seconds
        self._read = redis.register_script(_READ)
        self._epochs = Epochs(redis, _APPEND)
        self._epoch: Epoch | None = None
        self._writer = new_id()
        self._appends = itertools.count()
        self._batcher = Batcher[tuple[EventTarget, Sequence[bytes]], list[Any]](self._append_many)
        self._followers = Followers(listening)
        self._followed = FollowedFeeds(redis, self._guard)
        self._clock = clock
        self._known = _Newest()

    async def append(self, target: EventTarget, bodies: Sequence[bytes]) -> Appended:
        first, *listening = await self._batcher.submit((target, bodies))
        if first == -1:
            raise SeqLeaseNeeded(lost=True, epoch=(await self._guarded(self._agree)).id)
        if first == -2:
            raise SeqLeaseNeeded(lost=False)
        self._known.see(target.feed, first + len(bodies) - 1)
        presence, followed = listening
        return Appended(first, int(presence) if presence else None, is_followed(float(followed), self._clock()))

    async def _append_many(
        self, batch: Sequence[tuple[EventTarget, Sequence[bytes]]]
    ) -> Sequence[list[Any] | BaseException]:
        results = await self._guarded(lambda: self._numbered(batch))
        return [EventLogUnavailable(str(result)) if isinstance(result, RedisError) else result for result in results]

    async def _numbered(self, batch: Sequence[tuple[EventTarget, Sequence[bytes]]]) -> list[Any]:
        results = await self._run(self._epoch or await self._agree(), batch)
        if any(isinstance(result, NoScriptError) for result in results):
            # The server was started again, or another took its place; none of these calls ran.
            epoch = await self._agree()
            again = [index for index, result in enumerate(results) if isinstance(result, NoScriptError)]
            redone = await self._run(epoch, [batch[index] for index in again])
            for index, result in zip(again, redone, strict=True):
                results[index] = result
        return results

    async def _agree(self) -> Epoch:
        self._epoch = await self._epochs.agree()
        return self._epoch

    async def _guarded[T](self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._guard.run(call)
        except CacheUnavailable as exc:
            raise EventLogUnavailable(str(exc)) from exc

    async def _run(self, epoch: Epoch, batch: Sequence[tuple[EventTarget, Sequence[bytes]]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        now = f"{self._clock():.0f}"
        for target, bodies in batch:
            feed = target.feed
            pipeline.evalsha(
                epoch.sha,
                2,
                counter(feed),
                stream(feed),
                target.seq_floor,
                target.seq_ceiling,
                _starts(target, epoch),
                self._length,
                self._ttl_seconds + RENEWED_AFTER_S,
                COUNTER_SECONDS,
                channel(feed),
                f"{self._writer}:{next(self._appends)}",
                self._known.get(feed),
                now,
                RENEWED_AFTER_S,
                "" if target.subscribed_ms is None else target.subscribed_ms,
                *bodies,
            )
        return await pipeline.execute(raise_on_error=False)

    async def read(self, feed: str, after: int, limit: int) -> LogSlice:
        newest, is_cut, found = await self._some(feed, "XRANGE", f"({after}-0", "+", limit)
        if newest is not None:
            self._known.see(feed, int(newest))
        items = [_entry(entry) for entry in found]
        return LogSlice(items, last_seq=None if newest is None else int(newest), is_cut=bool(is_cut))

    async def read_back(self, feed: str, before: int | None, limit: int) -> list[tuple[int, bytes]]:
        if before is not None and before <= 1:
            return []
        _, _, found = await self._some(feed, "XREVRANGE", "+" if before is None else f"({before}-0", "-", limit)
        return [_entry(entry) for entry in found]

    async def _some(self, feed: str, command: str, first: str, last: str, limit: int) -> Any:
        keys = [counter(feed), stream(feed)]
        return await self._guarded(lambda: self._read(keys=keys, args=[command, first, last, limit, READ_BYTES]))

    async def follow(self, feed: str, *, reads: bool = True) -> AsyncGenerator[list[tuple[int, bytes]] | None]:
        queue = Queue(self._followers.held)
        if reads:
            self._followed.add(feed)
        try:
            # Shielded: a reader that is cancelled here must not leave the shared connection half subscribed.
            await shield(self._followers.add(channel(feed), queue))
            while True:
                item = await queue.get()
                if isinstance(item, EventLogUnavailable):
                    raise item
                if item:
                    self._known.see(feed, item[-1][0])
                yield item
        finally:
            if reads:
                self._followed.remove(feed)
            try:
                await shield(self._followers.remove(channel(feed), queue))
            finally:
                queue.clear()

    async def erase(self, feed: str) -> None:
        await self._guarded(lambda: self._redis.delete(counter(feed), stream(feed), here(feed)))

    async def ping(self) -> None:
        """Raises EventLogUnavailable when Redis does not answer. The first one also finds the epoch: so it is
        older than the sessions that are made in it."""
        await self._guarded(self._redis.ping if self._epoch is not None else self._agree)

    async def renew(self) -> None:
        """Move live following to a new connection, since a subscribed connection cannot renew its credentials."""
        await self._followers.renew()

    async def aclose(self) -> None:
        """Stop following; the Redis client itself belongs to the composition root."""
        self._followed.aclose()
        await self._followers.aclose()


def _starts(target: EventTarget, epoch: Epoch) -> int:
    if not target.may_seed:
        return _NOTHING
    if target.epoch is not None:
        return _LEASED if target.epoch == epoch.id else _NOTHING
    is_older = target.made_at is not None and target.made_at < epoch.began_at + _SKEW
    return _NOTHING if is_older else _NEW


def _entry(entry: Any) -> tuple[int, bytes]:
    """(b"17-0", [b"e", body]) as (17, body)."""
    name, (_, body) = entry
    return int(bytes(name).split(b"-", 1)[0]), body


class _Newest:
    """The newest number of each feed that this process has given out, read or heard of; of the feeds used last."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()

    def get(self, feed: str) -> int:
        return self._numbers.get(feed, 0)

    def see(self, feed: str, number: int) -> None:
        self._numbers[feed] = max(number, self.get(feed))
        self._numbers.move_to_end(feed)
        if len(self._numbers) > _KNOWN_LIMIT:
            self._numbers.popitem(last=False)
