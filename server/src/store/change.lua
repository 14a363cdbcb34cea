-- Changes what a room knows of one member, and announces it in the order of the room's changes.
-- KEYS meta, records, changed, revs, members (one slot)
-- ARGV 1 user id, 2 the record that is to be there now: '' for none, '*' for any, 'set' to make it what `members` says,
--      3 the new record, or '' for none, 4 channel, 5 beginning and 6 end of the announcement, between which its rev
--      and hash go, 7 '1' while servers that know `members` alone may run
-- Returns {'changed', rev}, {'same', record} or {'conflict', record}.
local REMEMBERED = 1000
local old, new = redis.call('HGET', KEYS[2], ARGV[1]) or '', ARGV[3]
if ARGV[2] == 'set' then
  if redis.call('EXISTS', KEYS[5]) == 0 then
    return { 'same', old }
  end
  local inside = redis.call('SISMEMBER', KEYS[5], ARGV[1]) == 1
  if inside == (old ~= '') then
    return { 'same', old }
  end
  new = inside and new or ''
elseif ARGV[2] ~= '*' and ARGV[2] ~= old then
  return { 'conflict', old }
elseif new == old then
  return { 'same', old }
end

local meta = redis.call('HMGET', KEYS[1], 'rev', 'revHash')
local rev = string.format('%.0f', tonumber(meta[1] or '0') + 1)
local what = '@' .. ARGV[1]
local hash = string.sub(redis.sha1hex((meta[2] or '') .. '|' .. rev .. '|' .. what .. '|' .. new), 1, 12)
if new == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], new)
end
if ARGV[7] == '1' and ARGV[2] ~= 'set' then
  redis.call(new == '' and 'SREM' or 'SADD', KEYS[5], ARGV[1])
end
redis.call('ZADD', KEYS[3], rev, what)
redis.call('HSET', KEYS[4], rev % REMEMBERED, rev .. ':' .. hash)
redis.call('HSET', KEYS[1], 'rev', rev, 'revHash', hash)
redis.call('PUBLISH', ARGV[4], ARGV[5] .. rev .. ',"hash":"' .. hash .. '"' .. (new == '' and '' or ARGV[6]) .. '}}')
return { 'changed', rev }
