-- Has a node hear of a user.
--
-- KEYS: place, nodes
-- ARGV: epoch to begin with where there is none, this node, seconds for which that counts,
--       life of the place in ms
-- Returns {epoch, seq, other nodes...}.
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] + ARGV[3], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', 0)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local answer = {epoch, tonumber(redis.call('HGET', KEYS[1], 'seq'))}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], time[1], '+inf')) do
  if node ~= ARGV[2] then table.insert(answer, node) end
end
return answer
