-- Finds a message by its number. Needs head.lua and rows.lua.
-- KEYS room, meta   ARGV seq   Returns the rows that begin like it: only one of them is a message.
return rowsOf(tonumber(ARGV[1]), numberIn(redis.call('HGET', KEYS[2], 'first')) or 1)
