-- Adds a message to its conversation's window and counts the commit.
--
-- KEYS: window, version
-- ARGV: the message's id, its entry, its parent's id ('' for none), most entries,
--       life of the window in ms, life of the version in ms
-- Returns {'appended' | 'missing' | 'stale', version}.
--
-- A window's entries are "<id>\n<json>", oldest first.
local head = redis.call('LINDEX', KEYS[1], -1)

local function head_is(id)
  return string.sub(head, 1, #id + 1) == id .. '\n'
end

-- A lost version begins at the time in us: commits are slower, so it never equals an old one.
local function count_commit(by)
  local version
  if redis.call('EXISTS', KEYS[2]) == 1 then
    version = redis.call('INCRBY', KEYS[2], by)
  else
    local time = redis.call('TIME')
    version = time[1] * 1000000 + time[2]
    redis.call('SET', KEYS[2], string.format('%.0f', version))
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  return version
end

if head and head_is(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  return {'appended', count_commit(0)}
end

local version = count_commit(1)
if head then
  if not head_is(ARGV[3]) then
    redis.call('DEL', KEYS[1])
    return {'stale', version}
  end
elseif ARGV[3] ~= '' then
  return {'missing', version}
end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('LTRIM', KEYS[1], -ARGV[4], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {'appended', version}
