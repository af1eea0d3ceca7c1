-- Lets go of a conversation, if the claim is still the one that is meant.
--
-- KEYS: lane
-- ARGV: node and token, as they stand there
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
