-- Takes over from a node that has been silent for too long, once.
--
-- KEYS: alive, runs of the silent node, runs of the heir
-- ARGV: the silent node, us of silence after which it is dead, life of what is inherited in s,
--       what stands in the facts of its runs
-- Returns the facts of its runs, or false when it beats, or another was first. The heir may ask
-- again, for its answer may be lost, until it has ended those runs.
local time = redis.call('TIME')
local beat = redis.call('ZSCORE', KEYS[1], ARGV[1])
local answer = {}
if not beat then
  for _, facts in ipairs(redis.call('HVALS', KEYS[3])) do
    if string.find(facts, ARGV[4], 1, true) then table.insert(answer, facts) end
  end
  return #answer > 0 and answer
end
if time[1] * 1000000 + time[2] - beat < tonumber(ARGV[2]) then return false end
redis.call('ZREM', KEYS[1], ARGV[1])
local entries = redis.call('HGETALL', KEYS[2])
for i = 1, #entries, 2 do
  redis.call('HSET', KEYS[3], entries[i], entries[i + 1])
  table.insert(answer, entries[i + 1])
end
if #answer > 0 then redis.call('EXPIRE', KEYS[3], ARGV[3]) end
redis.call('DEL', KEYS[2])
return answer
