-- What one user sees of a room.
-- KEYS room, meta, records, read, joined, deleted, the user's mentions, the room's mentions
-- ARGV 1 user id, 2 seq after which messages to everybody call them, '' if they are called since they joined, 3 how many
--      deleted messages to name, 4... fields of meta
-- Returns the newest row, the record, the read mark, that seq, the deleted messages after the mark, newest first, how many
-- they are, how many after it mention the user, and how many everybody, seq and the fields; nil for what is not there.
local user = ARGV[1]

-- A number that Redis takes, whatever stands there.
local function number(text)
  return text and #text < 16 and string.match(text, '^%d+$') or '0'
end

local fields = redis.call('HMGET', KEYS[2], 'seq', unpack(ARGV, 4))
fields[1] = number(fields[1])
local newest = redis.call('ZRANGE', KEYS[1], -1, -1)[1] or false
local record = redis.call('HGET', KEYS[3], user)
local mark = number(redis.call('HGET', KEYS[4], user))
local since = number(ARGV[2] == '' and redis.call('HGET', KEYS[5], user) or ARGV[2])
local deleted, gone, own, everybody = {}, 0, 0, 0
-- Most rooms are fully read: then there is nothing to count.
if tonumber(fields[1]) > tonumber(mark) then
  deleted = redis.call('ZREVRANGEBYSCORE', KEYS[6], '+inf', '(' .. mark, 'LIMIT', 0, ARGV[3])
  gone = redis.call('ZCOUNT', KEYS[6], '(' .. mark, '+inf')
  own = redis.call('ZCOUNT', KEYS[7], '(' .. mark, '+inf')
  local from = tonumber(since) > tonumber(mark) and since or mark
  everybody = redis.call('ZCOUNT', KEYS[8], '(' .. from, '+inf')
end
return { newest, record, mark, since, deleted, gone, own, everybody, unpack(fields, 1, #ARGV - 2) }
