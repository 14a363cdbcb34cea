-- Counts a room's rows, and reads what says how many of them are ours, at one moment.
-- KEYS room, meta   Returns first, seq, theirs, how many rows
local kept = redis.call('HMGET', KEYS[2], 'first', 'seq', 'theirs')
return { kept[1], kept[2], kept[3], redis.call('ZCARD', KEYS[1]) }
