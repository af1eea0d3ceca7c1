-- Appends to the text of a run, if what is there ends where the piece begins.
--
-- KEYS: text
-- ARGV: offset in bytes, piece, life in ms
-- Returns 1, or 0 when another length is there.
local length = redis.call('STRLEN', KEYS[1])
if ARGV[1] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
elseif length ~= tonumber(ARGV[1]) then
  return 0
else
  redis.call('APPEND', KEYS[1], ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
