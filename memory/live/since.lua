-- All events of a user after a place, or none.
--
-- KEYS: events, place
-- ARGV: epoch, seq
-- Returns {event...} in order, or false when one of them is gone or the epoch is another.
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return false end
local missed = tonumber(redis.call('HGET', KEYS[2], 'seq')) - tonumber(ARGV[2])
if missed < 0 then return false end
if missed == 0 then return {} end
local events = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], string.format('(%s-0', ARGV[2]), '+')) do
  table.insert(events, entry[2][2])
end
if #events ~= missed then return false end
return events
