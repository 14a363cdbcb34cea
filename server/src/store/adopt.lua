-- Takes rows that another program added out of a room's sorted set and appends each as a message of ours. The first
-- replica to call it does the work once. Announces each message, unless the whole log is another program's. Needs head.lua.
-- KEYS room, meta   ARGV 1 room id, 2 channel, 3 beginning of the envelope, 4 whose log the caller expects: 'ours', or
--      'theirs' if all of it is another program's, 5 '1' while older servers may run, 6... row, date, tail of the
--      message's JSON, ...
-- Returns how many were appended. Raises a date that does not rise; lowers a date in the future.
local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash', 'theirs', 'rev', 'revHash')
local seq, last, hash = headIn(meta[1], meta[2], meta[3])
local theirs = ARGV[4] == 'theirs'
if theirs ~= (hash == '' or meta[4] ~= false) then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = '{"roomId":"' .. ARGV[1] .. '","seq":'
local adopted = 0
-- Older servers take an announcement with a rev for another program's.
local rev, revHash = revisionIn(meta[5], meta[6])
local changed = ARGV[5] == '1' and '' or '"rev":' .. string.format('%.0f', rev) .. ',"revHash":"' .. revHash .. '",'

for i = 6, #ARGV, 3 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    seq = seq + 1
    last = math.max(math.min(tonumber(ARGV[i + 1]), now), last + 1)
    -- Write numbers with %.0f: Lua's own conversion keeps only 14 digits.
    local date, tail = string.format('%.0f', last), ARGV[i + 2]
    hash = string.sub(redis.sha1hex(hash .. '|' .. date .. '|' .. tail), 1, 12)
    local row = head .. string.format('%.0f', seq) .. ',"date":' .. date .. ',"hash":"' .. hash .. '",' .. tail
    redis.call('ZADD', KEYS[1], date, row)
    redis.call('HSET', KEYS[2], 'seq', string.format('%.0f', seq), 'date', date, 'hash', hash)
    if not theirs then
      redis.call('PUBLISH', ARGV[2], ARGV[3] .. changed .. '"data":' .. row .. '}')
    end
    adopted = adopted + 1
  end
end
if theirs and adopted > 0 then
  redis.call('HSET', KEYS[2], 'theirs', '1')
end
return adopted
