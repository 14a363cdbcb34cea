-- Counts a room's rows, and reads what says how many of them are ours, at one moment. Needs head.lua.
-- KEYS room, meta   Returns first, seq, theirs, how many rows; no seq if the head is not whole
local kept = redis.call('HMGET', KEYS[2], 'first', 'theirs', 'seq', 'date', 'hash')
local _, _, hash = headIn(kept[3], kept[4], kept[5])
return { numberIn(kept[1]) and kept[1] or false, hash ~= '' and kept[3], kept[2], redis.call('ZCARD', KEYS[1]) }
