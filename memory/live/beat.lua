-- A node's sign of life, and the ages of those of all.
--
-- KEYS: alive, generation
-- ARGV: this node, generation to begin with where there is none, us after which a node is forgotten
-- Returns {generation, known, node, us since its beat, ...}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('SET', KEYS[2], ARGV[2], 'NX')
local known = redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[3]))
local answer = {redis.call('GET', KEYS[2]), known}
local entries = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #entries, 2 do
  table.insert(answer, entries[i])
  table.insert(answer, now - tonumber(entries[i + 1]))
end
return answer
