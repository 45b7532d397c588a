"""The Lua scripts that carry out operations on a domain, many in one. See `redis_scripts`."""

from .redis_scripts import CHANGES, script

# Lets every write remove some expired entries, so that each pays for a few and none for all.
SWEPT_PER_WRITE = 32

# ARGV: at how many bytes to stop, and keys. Returns the domain's revision, the time as Redis gives it, the
# sizes of the entries of the first keys, at least one, '-' for none, and these entries, one behind the other:
# a reply of many parts is slow to read.
READ = script("""
local time = redis.call('TIME')
local sizes, found, size = {}, {}, 0
for at = 2, #ARGV do
  local stored = redis.call('HGET', KEYS[1], ARGV[at])
  sizes[#sizes + 1] = stored and #stored or '-'
  if stored then
    found[#found + 1] = stored
    size = size + #stored
    if size >= tonumber(ARGV[1]) then break end
  end
end
return {redis.call('GET', KEYS[2]), time[1], time[2], table.concat(sizes, ' '), table.concat(found)}
""")

# Carries out operations in their order, each as if it was alone: it takes effect or changes nothing, whatever
# becomes of the others.
# KEYS[6] on: where the results of requests are remembered.
# ARGV[4] on: the milliseconds for which they are; how many expired entries to delete at most; after how many
# bytes that were read to stop; then the operations. Each is 'get', key; 'delete CONDITION REQUEST', key; or
# 'set CONDITION REQUEST TTL json|raw', key, payload. CONDITION: a revision, 0 for absent, or nothing.
# REQUEST: which of KEYS is for it, or nothing. TTL: or nothing.
# Returns the time as Redis gives it; a line for each operation, or for the first of them; and the entries
# that were read, one behind the other. Lines: 'found REVISION SIZE', SIZE '-' for none; 'done REVISION FACT',
# FACT being when a set expires, or whether a deleted entry existed, maybe of an earlier write with this id;
# 'condition REVISION'; 'reused'; 'corrupt'; 'refused WHY'. In place of all: 'corrupt revision', or an error.
EXECUTE = script(f"""
{CHANGES}
local window, most_swept, limit = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if not readable then return 'corrupt revision' end
-- Whatever else is under these names shows before anything is changed; under that of the keys, by `refused`.
redis.call('HLEN', entries)
local expiring = redis.call('ZCARD', expiries) > 0

local lines, found, size, at = {{}}, {{}}, 0, 7

-- Returns why Redis refuses a write, if it does. One that is full allows all after the first: so it is asked
-- before that, by a write that would need memory and does nothing. One that is alone finds out by itself.
local asked, refusal = false, nil
local function refused(grows)
  if not asked then
    asked = true
    local alone = #lines == 0 and at > #ARGV
    local answer = not alone and redis.pcall('ZADD', keys, 'XX', 0, '')
    if type(answer) == 'table' and answer.err then refusal = answer.err end
    if expiring and (not refusal or string.find(refusal, 'OOM', 1, true)) then
      local before = previous
      sweep(most_swept)
      if previous ~= before then refusal = nil end
    end
  end
  if refusal and (grows or not string.find(refusal, 'OOM', 1, true)) then return refusal end
end

-- Returns the present entry's revision: '0' if absent or expired, '?' if unreadable.
local function current_of(key)
  local stored = redis.call('HGET', entries, key)
  if not stored then return '0' end
  local revision, expires = string.match(stored, '^(%d+) (%d+) ')
  if not revision then return '?' end
  if expires == '0' or tonumber(expires) > now then return revision end
  return '0'
end

local function write(operation, key, condition, request, ttl, kind, payload)
  request = KEYS[tonumber(request)]
  local earlier = request and redis.call('GET', request)
  if earlier then
    local what, revision, fact, of = string.match(earlier, '^(%l+) (%d+) (%d+) (.*)$')
    if what ~= operation or of ~= key then return 'reused' end
    return 'done ' .. revision .. ' ' .. fact
  end
  local current = '0'
  if operation == 'delete' or condition ~= '' then current = current_of(key) end
  if condition ~= '' and condition ~= current then
    if current == '?' then return 'corrupt' end
    return 'condition ' .. current
  end
  local why = refused(operation == 'set')
  if why then return 'refused ' .. why end

  local fact = '0'
  if operation == 'set' then
    if ttl ~= '' then fact = text(now + ttl) end
    change('set ' .. fact, key)
    redis.call('HSET', entries, key, text(previous) .. ' ' .. fact .. ' ' .. kind .. ' ' .. payload)
    redis.call('ZADD', keys, 0, key)
    if ttl ~= '' then
      redis.call('ZADD', expiries, fact, key)
      expiring = true
    elseif expiring then
      redis.call('ZREM', expiries, key)
    end
  else
    allow_growth()
    if current ~= '0' then
      fact = '1'
      change('deleted', key)
      redis.call('HDEL', entries, key)
      redis.call('ZREM', keys, key)
      if expiring then redis.call('ZREM', expiries, key) end
    end
  end
  local revision = text(previous)
  if request then
    redis.call('SET', request, operation .. ' ' .. revision .. ' ' .. fact .. ' ' .. key, 'PX', window)
  end
  return 'done ' .. revision .. ' ' .. fact
end

while at < #ARGV and size < limit do
  local header, key = ARGV[at], ARGV[at + 1]
  at = at + 2
  if header == 'get' then
    local stored = redis.call('HGET', entries, key)
    lines[#lines + 1] = 'found ' .. text(previous) .. ' ' .. (stored and #stored or '-')
    if stored then
      found[#found + 1] = stored
      size = size + #stored
    end
  else
    local operation, condition, request, rest = string.match(header, '^(%l+) (%d*) (%d*)(.*)$')
    local ttl, kind = string.match(rest, '^ (%d*) (%l+)$')
    local payload
    if operation == 'set' then
      payload = ARGV[at]
      at = at + 1
    end
    local carried, line = pcall(write, operation, key, condition, request, ttl, kind, payload)
    if not carried then
      line = 'refused ' .. string.gsub(type(line) == 'table' and line.err or tostring(line), '%c', ' ')
    end
    -- As an error, it has the connection look for the primary. A replica changes nothing.
    if string.find(line, '^refused.*READONLY') then return redis.error_reply('READONLY this is a replica') end
    lines[#lines + 1] = line
  end
end
if text(previous) ~= last then settle(expiring) end
return {{time[1], time[2], table.concat(lines, '\\n'), table.concat(found)}}
""")
