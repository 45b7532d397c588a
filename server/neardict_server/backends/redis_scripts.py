"""The Lua scripts of the redis backend: each runs in Redis as one atom.

All take the same first four KEYS, which `redis.Places` names: entries, revision, keys, expiries. Times and
revisions are microseconds below 2^53, so Lua's doubles hold them exactly; they are written with '%.0f',
since Lua's own conversion keeps 14 digits only. Nothing here needs more than Redis 6.2.
"""

import hashlib
from typing import NamedTuple

# Lets every write remove some expired entries, so that each pays for a few and none for all.
SWEPT_PER_WRITE = 32


class Script(NamedTuple):
    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# ARGV: key. Returns the domain's revision, the entry, and the time as Redis gives it.
READ = _script("""
local time = redis.call('TIME')
return {redis.call('GET', KEYS[2]), redis.call('HGET', KEYS[1], ARGV[1]), time[1], time[2]}
""")

# ARGV: 'set' or 'delete', key, condition (a revision, '0' for absent, '' for none), the milliseconds for
# which the request is remembered; for 'set' also ttl ('' for none), 'json' or 'raw', payload.
# KEYS[5], if there is a request id: where its result is remembered.
# Returns one of 'set REVISION EXPIRES KEY', 'delete REVISION EXISTED KEY', 'condition REVISION',
# 'corrupt entry', 'corrupt revision'; the first two may be those of an earlier write with this id.
WRITE = _script(f"""
local entries, counter, keys, expiries, request = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local operation, key, condition, window, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] or ''
local function text(number) return string.format('%.0f', number) end

local earlier = request and redis.call('GET', request)
if earlier then return earlier end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = redis.call('GET', counter) or '0'
if not string.match(last, '^%d+$') or tonumber(last) >= 2^53 - 1 then return 'corrupt revision' end
local previous = tonumber(last)

-- The present entry's revision: '0' if absent or expired, '?' if unreadable.
local current = '0'
if operation == 'delete' or condition ~= '' then
  local stored = redis.call('HGET', entries, key)
  if stored then
    local revision, expires = string.match(stored, '^(%d+) (%d+) ')
    if not revision then current = '?'
    elseif expires == '0' or tonumber(expires) > now then current = revision end
  end
end
if condition ~= '' and condition ~= current then
  if current == '?' then return 'corrupt entry' end
  return 'condition ' .. current
end

-- Nothing was written so far, and the first write below fails if Redis may not write: from here on
-- all takes effect or nothing.
local expiring = redis.call('ZCARD', expiries) > 0
if expiring then
  local due = redis.call('ZRANGEBYSCORE', expiries, '-inf', text(now), 'LIMIT', 0, {SWEPT_PER_WRITE})
  if #due > 0 then
    redis.call('HDEL', entries, unpack(due))
    redis.call('ZREM', keys, unpack(due))
    redis.call('ZREM', expiries, unpack(due))
  end
end

local revision, fact = text(math.max(previous + 1, now)), '0'
if operation == 'set' then
  if ttl ~= '' then fact = text(now + ttl) end
  redis.call('HSET', entries, key, revision .. ' ' .. fact .. ' ' .. ARGV[6] .. ' ' .. ARGV[7])
  redis.call('ZADD', keys, 0, key)
  if ttl ~= '' then redis.call('ZADD', expiries, fact, key)
  elseif expiring then redis.call('ZREM', expiries, key) end
  redis.call('SET', counter, revision)
elseif current ~= '0' then
  fact = '1'
  redis.call('HDEL', entries, key)
  redis.call('ZREM', keys, key)
  if expiring then redis.call('ZREM', expiries, key) end
  redis.call('SET', counter, revision)
else
  revision = text(previous)
end

-- Where every entry expires, let Redis drop them all, should nobody write here again. A second after
-- the last of them, since PEXPIREAT looks at a clock that runs on while this script runs, and a time
-- that passed between two of these calls would part the names.
local count = (expiring or ttl ~= '') and redis.call('ZCARD', expiries) or 0
if count > 0 and count == redis.call('HLEN', entries) then
  local final = redis.call('ZREVRANGE', expiries, 0, 0, 'WITHSCORES')[2]
  local at = text(math.ceil(math.max(final, now) / 1000) + 1000)
  for _, name in ipairs({{expiries, keys, entries}}) do redis.call('PEXPIREAT', name, at) end
else
  for _, name in ipairs({{expiries, keys, entries}}) do redis.call('PERSIST', name) end
end

local result = operation .. ' ' .. revision .. ' ' .. fact .. ' ' .. key
if request then redis.call('SET', request, result, 'PX', window) end
return result
""")

# ARGV: a range of keys as ZRANGEBYLEX takes it, at most how many to look at, after how many bytes to
# stop, 'keys' or 'entries'. Returns the domain's revision, the time, the last key looked at if there may
# be more, and either the keys that have not expired, or keys and entries in turn, expired or not.
PAGE = _script("""
local entries, counter, keys, expiries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local count, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found = redis.call('ZRANGEBYLEX', keys, ARGV[1], ARGV[2], 'LIMIT', 0, count)
local page, size, looked, ends = {}, 0, 0, {}
if ARGV[5] == 'keys' and #found > 0 and redis.call('EXISTS', expiries) == 1 then
  ends = redis.call('ZMSCORE', expiries, unpack(found))
end
for at, key in ipairs(found) do
  if ARGV[5] == 'entries' then
    local stored = redis.call('HGET', entries, key)
    if stored then
      page[#page + 1] = key
      page[#page + 1] = stored
      size = size + #key + #stored
    end
  elseif not ends[at] or tonumber(ends[at]) > now then
    page[#page + 1] = key
    size = size + #key
  end
  looked = at
  if size >= bytes then break end
end
local more = looked < #found or #found == count
return {redis.call('GET', counter), time[1], time[2], more and found[looked], page}
""")
