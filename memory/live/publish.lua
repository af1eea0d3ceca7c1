-- Gives one durable event of a user its place, keeps it, and sends it to the user's other nodes.
--
-- KEYS: events, place, nodes
-- ARGV: epoch to begin with where there is none, this node, channel before a node's name,
--       user as it stands in the message, life of events in ms, most events,
--       life of the place in ms, the event, most bytes
-- Events are dropped by halves: those before the last mark, once as many bytes came after it as a
-- half may have, or it is as old as events may be.
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
local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[8])
local marked_at = redis.call('HGET', KEYS[2], 'marked_at')
local is_old = marked_at and time[1] - marked_at >= ARGV[5] / 1000
if not marked_at or is_old or bytes >= ARGV[9] / 2 then
  local mark = redis.call('HGET', KEYS[2], 'mark')
  if mark then redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-0', mark + 1)) end
  redis.call('HSET', KEYS[2], 'mark', seq, 'marked_at', time[1], 'bytes', 0)
end

local answer = {epoch, seq}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], time[1], '+inf')) do
  if node ~= ARGV[2] then
    table.insert(answer, node)
    local head = table.concat({'E' .. ARGV[2], ARGV[4], epoch, string.format('%.0f', seq)}, '\n')
    redis.call('PUBLISH', ARGV[3] .. node, head .. '\n' .. ARGV[8])
  end
end
return answer
