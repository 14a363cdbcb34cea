-- Finds a message by its number. Needs rows.lua.
-- KEYS room, meta   ARGV seq   Returns the rows that begin like it: only one of them is a message.
return rowsOf(tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[2], 'first') or '1'))
