-- Spends one unit of a user's limit, notes the activity, reads window and version.
--
-- KEYS: rate, last_active, version[, window]
-- ARGV: the limit, its window in us, active within us, life of last_active in ms
-- Returns {allowed, used, us until a unit is free, active, version or false, entries}.
--
-- `rate` is a list of the times of admissions in us, oldest first.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window_us, within_us = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function time_at(position)
  local found = redis.call('LINDEX', KEYS[1], position)
  return found and tonumber(found)
end

-- A time in the future is one from before the clock was set back: it must not lock anybody out.
local oldest = time_at(0)
while oldest and (oldest > now or now - oldest >= window_us) do
  redis.call('LPOP', KEYS[1])
  oldest = time_at(0)
end

local last = redis.call('GET', KEYS[2])
local active = 0
if last and now - last < within_us then active = 1 end

local used = redis.call('LLEN', KEYS[1])
if used >= limit then
  return {0, used, time_at(used - limit) + window_us - now, active, false, {}}
end

local stamp = string.format('%.0f', now)
redis.call('RPUSH', KEYS[1], stamp)
redis.call('PEXPIRE', KEYS[1], math.ceil(window_us / 1000))
redis.call('SET', KEYS[2], stamp, 'PX', ARGV[4])
local entries = {}
if KEYS[4] then entries = redis.call('LRANGE', KEYS[4], 0, -1) end
return {1, used + 1, (oldest or now) + window_us - now, active, redis.call('GET', KEYS[3]), entries}
