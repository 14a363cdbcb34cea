-- Stores and announces one message, or answers what an earlier call with the same nonce stored. Needs head.lua.
-- KEYS room, meta, records, nonce, read, spoke, as the flags say members, thread, files, and deleted, pins, joined and the
--      mentions of everybody, and the mentions of each mentioned user (one slot)
-- ARGV 1 room id, 2 user id, 3 tail of the message's JSON, 4 channel, 5 beginning of the envelope,
--      6 ms to remember the nonce, 7 flags: "l" the room lists its members, "a" its rows were adopted, "n" it may be the
--      first message, "m" servers that know `members` alone may run, "t" it belongs to a thread, "f" it has files, "r" it
--      answers a message, "u" slow mode does not hold the author; for an answer 8 date, 9 beginning of the answered row;
--      then the ids of its files
-- Returns {'stored' | 'repeated', message}, {'theirs'}: the log has no head, and the caller must adopt what is there
-- first, or why the user may not write: {'stranger'}, {'disabled'}, {'archived'}, {'muted', ms}, {'slow', ms}, {'file'} if
-- one of the files is not the user's to send, {'unanswered'} if the answered message is not in the log.
local is = {}
for flag in string.gmatch(ARGV[7], '.') do
  is[flag] = true
end
local mentions = 7
local function optional(flag)
  if is[flag] then
    mentions = mentions + 1
    return KEYS[mentions - 1]
  end
end
local members = optional('m')
local thread = optional('t')
local files = optional('f')
local deleted, pins, joined, toAll = optional('n'), optional('n'), optional('n'), optional('n')
local firstFile = is.r and 10 or 8

-- Who may not read the room gets no row of it either, as it is now.
local record = redis.call('HGET', KEYS[3], ARGV[2]) or ''
if is.l and record == '' and (not members or redis.call('SISMEMBER', members, ARGV[2]) == 0) then
  return { 'stranger' }
elseif string.find(record, '"disabled":true', 1, true) then
  return { 'disabled' }
end
local sent = redis.call('GET', KEYS[4])
if numberIn(sent) then
  local own = '{"roomId":"' .. ARGV[1] .. '","seq":'
  for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], sent, sent)) do
    if string.sub(row, 1, #own) == own then
      return { 'repeated', row }
    end
  end
end

local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash', 'theirs', 'rev', 'revHash', 'archived', 'slow')
local count, last, hash = headIn(meta[1], meta[2], meta[3])
if not is.a and (meta[4] or (hash == '' and (not is.n or redis.call('EXISTS', KEYS[1]) == 1))) then
  return { 'theirs' }
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if meta[7] then
  return { 'archived' }
end
if record ~= '' and record ~= '{"role":"member"}' then
  local muted = string.match(record, '"mutedUntil":(%d+)')
  if muted and tonumber(muted) > now then
    return { 'muted', string.format('%.0f', tonumber(muted) - now) }
  end
end
if is.r then
  local found = false
  for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[8], ARGV[8])) do
    found = found or string.sub(row, 1, #ARGV[9]) == ARGV[9]
  end
  if not found then
    return { 'unanswered' }
  end
end
for at = firstFile, #ARGV do
  if redis.call('HGET', files, ARGV[at]) ~= ARGV[2] then
    return { 'file' }
  end
end
if numberIn(meta[8]) and not is.u and (record == '' or string.find(record, '"role":"member"', 1, true)) then
  local pause = numberIn(meta[8]) * 1000
  local spoke = redis.call('GET', KEYS[6]) or '0'
  -- Older servers keep no moment, only that one must wait.
  local wait = spoke == '1' and redis.call('PTTL', KEYS[6]) or (numberIn(spoke) or 0) + pause - now
  -- Nobody has to wait for longer than the pause: then the clock went back.
  if wait > 0 and wait <= pause then
    return { 'slow', string.format('%.0f', wait) }
  end
  redis.call('SET', KEYS[6], string.format('%.0f', now), 'PX', pause)
end
if hash == '' then
  -- What is left speaks of the numbers of a log that is gone.
  redis.call('DEL', KEYS[5], deleted, pins, joined, toAll)
end
-- Write numbers with %.0f: Lua's own conversion keeps only 14 digits.
local date = string.format('%.0f', now > last and now or last + 1)
local seq = string.format('%.0f', count + 1)
hash = string.sub(redis.sha1hex(hash .. '|' .. date .. '|' .. ARGV[3]), 1, 12)
local message = '{"roomId":"' .. ARGV[1] .. '","seq":' .. seq .. ',"date":' .. date .. ',"hash":"' .. hash .. '",' .. ARGV[3]

-- Redis takes nothing back if a later step fails, as on a key of a wrong type: the message and its nonce come first, so
-- that it is stored once and told, however often it is tried.
redis.call('ZADD', KEYS[1], date, message)
redis.call('HSET', KEYS[2], 'seq', seq, 'date', date, 'hash', hash)
redis.call('SET', KEYS[4], date, 'PX', ARGV[6])
-- Older servers take an announcement with a rev for another program's.
local rev, revHash = revisionIn(meta[5], meta[6])
local changed = is.m and '' or '"rev":' .. string.format('%.0f', rev) .. ',"revHash":"' .. revHash .. '",'
redis.call('PUBLISH', ARGV[4], ARGV[5] .. changed .. '"data":' .. message .. '}')
for at = firstFile, #ARGV do
  redis.call('HSET', files, ARGV[at], '#' .. seq)
end
redis.call('HSET', KEYS[5], ARGV[2], seq)
if thread then
  redis.call('ZADD', thread, date, seq)
end
for at = mentions, #KEYS do
  redis.call('ZADD', KEYS[at], seq, seq)
end
return { 'stored', message }
