-- Makes the given entries, oldest first, the window.
--
-- KEYS: window
-- ARGV: life of the window in ms, entries...
redis.call('DEL', KEYS[1])
for i = 2, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return #ARGV - 1
