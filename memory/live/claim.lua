-- Sees to a conversation, unless a living node does; notes the message for which.
--
-- KEYS: lane[, sent]
-- ARGV: this node, token of this claim, life of a claim in ms, life of the note in ms,
--       other living nodes...
-- Returns {holder, 1 if the message was noted before}.
local holder = redis.call('GET', KEYS[1])
holder = holder and string.match(holder, '^(%S+)')
if holder and holder ~= ARGV[1] then
  for i = 5, #ARGV do
    if ARGV[i] == holder then return {holder, 0} end
  end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
local repeated = 0
if KEYS[2] and not redis.call('SET', KEYS[2], '1', 'PX', ARGV[4], 'NX') then repeated = 1 end
return {ARGV[1], repeated}
