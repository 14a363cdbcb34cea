-- Stores one message and announces it, or answers what an earlier call with the same nonce stored.
-- KEYS room, meta, members, nonce, read (one slot)
-- ARGV 1 room id, 2 user id, 3 tail of the message's JSON, 4 channel, 5 head of the envelope,
--      6 ms for which the nonce is remembered, 7 "1" where members are listed
-- Returns {'stored' | 'repeated', message} or {'stranger'}.
local sent = redis.call('GET', KEYS[4])
if sent then
  local own = '{"roomId":"' .. ARGV[1] .. '","seq":'
  for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], sent, sent)) do
    if string.sub(row, 1, #own) == own then
      return { 'repeated', row }
    end
  end
end
if ARGV[7] == '1' and redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 0 then
  return { 'stranger' }
end

local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash')
local count, last, hash = tonumber(meta[1] or '0'), tonumber(meta[2] or '0'), meta[3]
if not hash then
  -- A log that another program began is taken over: its numbering goes on, its newest score is never undercut.
  hash = ''
  local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if newest[2] then
    count = redis.call('ZCARD', KEYS[1])
    last = math.ceil(tonumber(newest[2]))
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Numbers are written with %.0f: Lua's own conversion keeps 14 digits only.
local date = string.format('%.0f', now > last and now or last + 1)
local seq = string.format('%.0f', count + 1)
hash = string.sub(redis.sha1hex(hash .. '|' .. date .. '|' .. ARGV[3]), 1, 12)
local message = '{"roomId":"' .. ARGV[1] .. '","seq":' .. seq .. ',"date":' .. date .. ',"hash":"' .. hash .. '",' .. ARGV[3]

redis.call('HSET', KEYS[2], 'seq', seq, 'date', date, 'hash', hash)
redis.call('ZADD', KEYS[1], date, message)
redis.call('SET', KEYS[4], date, 'PX', ARGV[6])
redis.call('HSET', KEYS[5], ARGV[2], seq)
redis.call('PUBLISH', ARGV[4], ARGV[5] .. message .. '}')
return { 'stored', message }
