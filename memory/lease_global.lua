-- Takes units of the limit that all users share.
--
-- KEYS: global
-- ARGV: units wanted, the limit, its window in us
-- Returns {granted, us until units are free}.
--
-- `global` is a list of leases "<first us>:<last us>:<units>", oldest first. Leases that lie
-- within a hundredth of the window share an entry, and its units are free when the last one's
-- are: never more than the limit in any window, in at most about a hundred entries.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wanted, limit, window_us = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local used, gone = 0, 0
local oldest, newest
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local first, last, units = string.match(entry, '^(%d+):(%d+):(%d+)$')
  local lease = {first = tonumber(first), last = tonumber(last), units = tonumber(units)}
  if now - lease.last >= window_us or lease.last > now then
    gone = gone + 1
  else
    used = used + lease.units
    oldest = oldest or lease
    newest = lease
  end
end
if gone > 0 then redis.call('LTRIM', KEYS[1], gone, -1) end

local granted = math.max(0, math.min(wanted, limit - used))
if granted == 0 then
  local free_us = 0
  if oldest then free_us = oldest.last + window_us - now end
  return {0, free_us}
end

if newest and now - newest.first < window_us / 100 then
  newest.last, newest.units = now, newest.units + granted
  local entry = string.format('%.0f:%.0f:%.0f', newest.first, now, newest.units)
  redis.call('LSET', KEYS[1], -1, entry)
else
  redis.call('RPUSH', KEYS[1], string.format('%.0f:%.0f:%.0f', now, now, granted))
end
redis.call('PEXPIRE', KEYS[1], math.ceil(window_us / 1000))
return {granted, (oldest and oldest.last or now) + window_us - now}
