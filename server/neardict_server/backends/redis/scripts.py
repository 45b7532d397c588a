"""What the Lua scripts of the redis backend have in common, and those that follow and list a domain.

Each runs in Redis as one atom.

All but READ take the same first five KEYS, which `layout.Places` names: entries, revision, keys,
expiries, log. Times and revisions are microseconds below 2^53, so Lua's doubles hold them exactly; they are
written with '%.0f', since Lua's own conversion keeps 14 digits only. Nothing here needs more than Redis 6.2.
"""

import hashlib
from typing import NamedTuple

# How many expired entries a look at the log removes at most; nobody waits for it.
SWEPT_PER_LOOK = 256
# How many changes of a domain its log keeps, about, and for how long after the last of them.
KEPT_CHANGES = 10_000
KEPT_MILLISECONDS = 600_000
# For how long the names of a domain outlive its last entry, if all of them expire: those who follow the
# log have deleted them long before.
MARGIN_MILLISECONDS = 600_000


class Script(NamedTuple):
    text: str
    sha: str


def script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# What scripts that change a domain have in common. `previous` is its last revision, with what this script
# has changed already. ARGV: below which no revision may be, and for the announcement channel and domain.
CHANGES = f"""
local entries, counter, keys, expiries, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local floor, channel, domain = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local function text(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = redis.call('GET', counter) or '0'
local readable = string.match(last, '^%d+$') and tonumber(last) < 2^53 - 1
local previous = readable and tonumber(last)

-- The same as text.
local revision = readable and text(previous)

-- Gives a change its revision and logs it. To be called before the change is made: if Redis may not
-- write, this fails, and nothing has changed. `what` is 'deleted', or 'set ' and when it expires.
local function change(what, key)
  local number = math.max(previous + 1, now, floor + 1)
  local as_text = text(number)
  local function add(call)
    return call('XADD', log, 'MAXLEN', '~', '{KEPT_CHANGES}', as_text .. '-0',
      'previous', revision, 'what', what, 'key', key)
  end
  local added = add(redis.pcall)
  if type(added) == 'table' and added.err then
    -- Somebody set the revision back, or deleted it. Without its log the domain begins anew for all.
    if string.find(added.err, 'equal or smaller') then redis.call('DEL', log) end
    add(redis.call)
  end
  previous, revision = number, as_text
end

-- A Redis that is full refuses the first write of a script, unless it can only free memory.
local function allow_growth() redis.call('PERSIST', log) end

-- Deletes expired entries, at most so many.
local function sweep(limit)
  local due = redis.call('ZRANGEBYSCORE', expiries, '-inf', text(now), 'LIMIT', 0, limit)
  if #due == 0 then return end
  allow_growth()
  for _, key in ipairs(due) do change('deleted', key) end
  redis.call('HDEL', entries, unpack(due))
  redis.call('ZREM', keys, unpack(due))
  redis.call('ZREM', expiries, unpack(due))
end

-- To be called in the end, if something has changed.
local function settle(expiring)
  redis.call('SET', counter, revision)
  redis.call('PEXPIREAT', log, text(math.ceil(now / 1000) + {KEPT_MILLISECONDS}))
  -- Where every entry expires, let Redis drop them all, should nobody come here again. The revision too,
  -- so that those who follow the log learn that they have not been told all.
  local count = expiring and redis.call('ZCARD', expiries) or 0
  local names = {{expiries, keys, entries, counter}}
  if count > 0 and count == redis.call('HLEN', entries) then
    local final = redis.call('ZREVRANGE', expiries, 0, 0, 'WITHSCORES')[2]
    local at = text(math.ceil(math.max(final, now) / 1000) + {MARGIN_MILLISECONDS})
    for _, name in ipairs(names) do redis.call('PEXPIREAT', name, at) end
  else
    for _, name in ipairs(names) do redis.call('PERSIST', name) end
  end
  -- Only wakes those who read the log, so it may fail.
  redis.pcall('PUBLISH', channel, revision .. ' ' .. domain)
end
"""

# Returns the changes of a domain after a revision, and first deletes what has expired.
# KEYS[6]: a name that nothing is kept under.
# ARGV[4] on: the revision, or '' for none; at most how many changes; up to which size to send entries.
# Returns 'page' or 'lost' or 'corrupt revision', the domain's revision, in how many microseconds the next
# entry expires or '', whether there is more, up to which revision this page goes, and for each key, in the
# order of revisions: key, revision, and '' if it was deleted, its entry as it is stored, or '? EXPIRES' if
# that is too large or has changed again. 'lost' means that some changes are not in the log any more.
FOLLOW = script(f"""
{CHANGES}
local since, count, largest = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if not readable then return {{'corrupt revision'}} end
-- What a replica knows may be old, and it refuses any write, even one that does nothing.
redis.call('PERSIST', KEYS[6])
sweep({SWEPT_PER_LOOK})
if revision ~= last then
  settle(true)
  last = revision
end
local next = redis.call('ZRANGE', expiries, 0, 0, 'WITHSCORES')[2]
next = next and text(next - now) or ''
if since == '' then return {{'page', last, next, '', last}} end

local found = redis.call('XRANGE', log, '(' .. since .. '-0', '+', 'COUNT', count)
local reached, latest = since, {{}}
for at, item in ipairs(found) do
  -- Each change names the one before, so that none can be missing unnoticed.
  if item[2][2] ~= reached then return {{'lost', last, next}} end
  reached = string.match(item[1], '^%d+')
  latest[item[2][6]] = at
end
local more = #found == count and reached ~= last
if not more and reached ~= last then return {{'lost', last, next}} end
local reply = {{'page', last, next, more and '1' or '', reached}}
for at, item in ipairs(found) do
  local key = item[2][6]
  if latest[key] == at then
    local revision = string.match(item[1], '^%d+')
    local expires = string.match(item[2][4], '^set (%d+)$')
    local told = ''
    if expires then
      told = '? ' .. expires
      if redis.call('HSTRLEN', entries, key) <= largest then
        local stored = redis.call('HGET', entries, key)
        if stored and string.match(stored, '^(%d+) ') == revision then told = stored end
      end
    end
    reply[#reply + 1] = key
    reply[#reply + 1] = revision
    reply[#reply + 1] = told
  end
end
return reply
""")

# KEYS: a name that nothing is kept under. ARGV: where revisions of domains are, in whatever slots of this
# node of a Cluster; as KEYS they would have to be in one. Returns the revisions in one text, for a reply of
# thousands of parts is slow to read; '0' for one that is not there, '?' for what is no number or not here.
LOOK = script("""
-- What a replica knows may be old, and it refuses any write, even one that does nothing.
redis.call('PERSIST', KEYS[1])
local found = {}
for at, name in ipairs(ARGV) do
  local revision = redis.pcall('GET', name) or '0'
  found[at] = type(revision) == 'string' and string.match(revision, '^%d+$') or '?'
end
return table.concat(found, ' ')
""")

# ARGV: a range of keys as ZRANGEBYLEX takes it, at most how many to look at, after how many bytes to
# stop, 'keys' or 'entries'. Returns the domain's revision, the time, the last key looked at if there may
# be more, either the keys that have not expired, or keys and entries in turn, expired or not,
# and how many keys there are.
PAGE = script("""
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
return {redis.call('GET', counter), time[1], time[2], more and found[looked], page, redis.call('ZCARD', keys)}
""")
