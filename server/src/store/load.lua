-- Appends messages that are already chained to the log, if the log still ends where they begin. Announces nothing. Needs
-- head.lua.
-- KEYS room, meta   ARGV 1 hash that the log must end with, or '', 2 seq, 3 date, 4 hash of the last one,
--      5... score, message, ...   Returns 1, or 0 if somebody else wrote in between.
local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash')
local _, _, hash = headIn(meta[1], meta[2], meta[3])
if hash ~= ARGV[1] then
  return 0
end
redis.call('ZADD', KEYS[1], unpack(ARGV, 5))
redis.call('HSET', KEYS[2], 'seq', ARGV[2], 'date', ARGV[3], 'hash', ARGV[4])
return 1
