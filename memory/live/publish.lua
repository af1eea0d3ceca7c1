-- Gives one durable event of a user its place, keeps it, and sends it to the user's other nodes.
--
-- KEYS: events, place, nodes
-- ARGV: epoch to begin with where there is none, this node, channel before a node's name,
--       user as it stands in the message, life of events in ms, most events,
--       life of the place in ms, the event
-- Returns {epoch, seq, other nodes...}.
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then
  epoch = ARGV[1]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'seq', 0)
end
local seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[6], string.format('%.0f-0', seq), 'e', ARGV[8])
redis.call('PEXPIRE', KEYS[1], ARGV[5])

local time = redis.call('TIME')
local answer = {epoch, seq}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], time[1], '+inf')) do
  if node ~= ARGV[2] then
    table.insert(answer, node)
    local head = table.concat({'E' .. ARGV[2], ARGV[4], epoch, string.format('%.0f', seq)}, '\n')
    redis.call('PUBLISH', ARGV[3] .. node, head .. '\n' .. ARGV[8])
  end
end
return answer
