"""The Lua scripts that carry out operations on a domain, many in one. See `scripts`."""

from .scripts import CHANGES, script

# Lets every write remove some expired entries, so that each pays for a few and none for all.
SWEPT_PER_WRITE = 32
# Which of ARGV the operations are.
OPERATIONS_AT = 7

# KEYS: the entries and the revision; with more than ten words in all, Redis does not say to one who is not
# authenticated that this is why. ARGV: at how many bytes to stop; how many bytes each key has; the keys, one
# behind the other. Returns the domain's revision, the time as Redis gives it, the sizes of the entries of the
# first keys, at least one, '-' for none, and these entries, one behind the other. redis-py takes as long for
# an argument, or for a part of a reply, as Redis for a command.
READ = script("""
local time = redis.call('TIME')
local limit, keys, at = tonumber(ARGV[1]), ARGV[3], 1
local sizes, found, size = {}, {}, 0
-- One after the other, since the next one may be large.
for bytes in string.gmatch(ARGV[2], '%d+') do
  local stored = redis.call('HGET', KEYS[1], string.sub(keys, at, at + bytes - 1))
  at = at + bytes
  sizes[#sizes + 1] = stored and #stored or '-'
  if stored then
    found[#found + 1] = stored
    size = size + #stored
    if size >= limit then break end
  end
end
return {redis.call('GET', KEYS[2]), time[1], time[2], table.concat(sizes, ' '), table.concat(found)}
""")

# Carries out operations in their order, each as if it was alone: it takes effect or changes nothing, whatever
# becomes of the others.
# KEYS[6] on: where the results of requests are remembered, each under the last character of its id, together
# with those whose ids begin alike: clients count, and a name for each costs Redis ten times as much.
# ARGV[4] on: the milliseconds for which they are; how many expired entries to delete at most; after how many
# bytes that were read to stop; the operations, one behind the other in one argument, since redis-py takes as
# long for an argument as Redis for a command; and large payloads. Each operation is a line, 'get|set|delete
# CONDITION REQUEST TTL json|raw FIELD KEY PAYLOAD', and what follows it. CONDITION: a revision, 0 for absent,
# or nothing. REQUEST: which of KEYS from the sixth is for it, or nothing. TTL: 'keep', or nothing. FIELD, KEY
# and PAYLOAD: how many bytes follow of the name of the result, of the key and of the payload; for a large
# payload '=' and which of ARGV it is.
# Returns the time as Redis gives it; a line for each operation, or for the first of them; and the entries
# that were read, one behind the other. Lines: 'found REVISION SIZE', SIZE '-' for none; 'done REVISION FACT',
# FACT being when a set expires, or whether a deleted entry existed, maybe of an earlier write with this id;
# 'condition REVISION'; 'reused'; 'corrupt'; 'refused WHY'. In place of all: 'corrupt revision', or an error.
EXECUTE = script(f"""
{CHANGES}
local window, most_swept, limit = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local operations = ARGV[{OPERATIONS_AT}]
if not readable then return 'corrupt revision' end
-- Whatever else is under these names shows before anything is changed; under that of the keys, by `refused`.
redis.call('HLEN', entries)
local expiring = redis.call('ZCARD', expiries) > 0
-- What is remembered, and what has to be, of each name, by field.
local results, unremembered = {{}}, {{}}
for number = 1, #KEYS - 5 do
  local known, stored = {{}}, redis.call('HGETALL', KEYS[5 + number])
  for part = 1, #stored, 2 do known[stored[part]] = stored[part + 1] end
  results[number], unremembered[number] = known, {{}}
end

local lines, found, size, at = {{}}, {{}}, 0, 1

-- Returns why Redis refuses a write, if it does. One that is full allows all after the first: so it is asked
-- before that, by a write that would need memory and does nothing.
local asked, refusal = false, nil
local function refused(grows)
  if not asked then
    asked = true
    local answer = redis.pcall('ZADD', keys, 'XX', 0, '')
    if type(answer) == 'table' and answer.err then refusal = answer.err end
    if expiring and (not refusal or string.find(refusal, 'OOM', 1, true)) then
      local before = previous
      sweep(most_swept)
      if previous ~= before then refusal = nil end
    end
  end
  if refusal and (grows or not string.find(refusal, 'OOM', 1, true)) then return refusal end
end

-- Returns the line of an operation that Redis refuses.
local replica = false
local function refuse(why)
  replica = replica or string.find(why, 'READONLY', 1, true)
  return 'refused ' .. (string.gsub(why, '%c', ' '))
end

-- Entries that are set, and have not been written: together that takes half of the time.
local unwritten, unlisted = {{}}, {{}}
local function flush()
  if #unwritten == 0 then return end
  redis.call('HSET', entries, unpack(unwritten))
  redis.call('ZADD', keys, unpack(unlisted))
  unwritten, unlisted = {{}}, {{}}
end

local function stored_of(key)
  flush()
  return redis.call('HGET', entries, key)
end

-- Returns the present entry's revision, '0' if absent or expired, '?' if unreadable; and when it expires.
local function current_of(key)
  local stored = stored_of(key)
  if not stored then return '0' end
  local found, expires = string.match(stored, '^(%d+) (%d+) ')
  if not found then return '?' end
  if expires == '0' or tonumber(expires) > now then return found, expires end
  return '0'
end

local function write(operation, key, condition, request, field, ttl, kind, payload)
  request = tonumber(request)
  local earlier = request and results[request][field]
  if earlier then
    local what, when, fact, of = string.match(earlier, '^(%l+) (%d+) (%d+) (.*)$')
    if what ~= operation or of ~= key then return 'reused' end
    return 'done ' .. when .. ' ' .. fact
  end
  local current, expires = '0', '0'
  if operation == 'delete' or condition ~= '' or ttl == 'keep' then current, expires = current_of(key) end
  if condition ~= '' and condition ~= current then
    if current == '?' then return 'corrupt' end
    return 'condition ' .. current
  end
  if ttl == 'keep' then
    if current == '?' then return 'corrupt' end
    if current == '0' then return 'condition 0' end
  end
  local why = refused(operation == 'set')
  if why then return refuse(why) end

  local fact = '0'
  if operation == 'set' then
    if ttl == 'keep' then fact = expires elseif ttl ~= '' then fact = text(now + ttl) end
    change('set ' .. fact, key)
    unwritten[#unwritten + 1] = key
    unwritten[#unwritten + 1] = revision .. ' ' .. fact .. ' ' .. kind .. ' ' .. payload
    unlisted[#unlisted + 1] = 0
    unlisted[#unlisted + 1] = key
    if fact ~= '0' then
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
  local result = ' ' .. revision .. ' ' .. fact
  if request then
    local new = operation .. result .. ' ' .. key
    results[request][field] = new
    local fields = unremembered[request]
    fields[#fields + 1] = field
    fields[#fields + 1] = new
  end
  return 'done' .. result
end

while at <= #operations and size < limit do
  local operation, condition, request, ttl, kind, field_size, key_size, large, payload_size, start =
    string.match(operations, '^(%l+) (%d*) (%d*) (%w*) (%l*) (%d+) (%d+) (=?)(%d+)\\n()', at)
  local field = string.sub(operations, start, start + field_size - 1)
  at = start + field_size + key_size
  local key = string.sub(operations, start + field_size, at - 1)
  if operation == 'get' then
    local stored = stored_of(key)
    lines[#lines + 1] = 'found ' .. revision .. ' ' .. (stored and #stored or '-')
    if stored then
      found[#found + 1] = stored
      size = size + #stored
    end
  else
    local payload
    if large ~= '' then
      payload = ARGV[tonumber(payload_size)]
    else
      payload = string.sub(operations, at, at + payload_size - 1)
      at = at + payload_size
    end
    local carried, line = pcall(write, operation, key, condition, request, field, ttl, kind, payload)
    if not carried then line = refuse(type(line) == 'table' and line.err or tostring(line)) end
    -- As an error, it has the connection look for the primary. A replica changes nothing.
    if replica then return redis.error_reply('READONLY this is a replica') end
    lines[#lines + 1] = line
  end
end
flush()
for number, fields in ipairs(unremembered) do
  if #fields > 0 then
    redis.call('HSET', KEYS[5 + number], unpack(fields))
    redis.call('PEXPIRE', KEYS[5 + number], window)
  end
end
if revision ~= last then settle(expiring) end
return {{time[1], time[2], table.concat(lines, '\\n'), table.concat(found)}}
""")
