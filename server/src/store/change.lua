-- Changes one thing in a room (a member's record or a message's row) if what the change was based on is still there,
-- and announces it in the order of the room's changes.
-- KEYS meta, records, changed, revs, members, room, once, deleted, pins; for a row also the mentions of each user it
--      mentions now, then of each it no longer mentions (one slot)
-- ARGV 1 what: '@<user>' or the row's date
--      2 what must be there now: the row or the record; for a record also '' for none, '*' for any, 'set' to make it
--        what `members` says
--      3 the new record, or '' for none; or the new row up to its rev
--      4 channel, 5 beginning of the announcement, 6 its end, for a record
--      7 '1' while servers that know `members` alone may run
-- and for a row also
--      8 seq, 9 'edited', 'deleted', 'pinned', 'unpinned' or '', 10 user id of the actor, 11 the actor's record, if
--      the room keeps any, 12 ms to remember `once`, or '0', 13 number of mentioned users
-- Returns {'changed', rev or row}, {'same', record}, {'conflict', record}, {'stranger'} if the actor's record has
-- changed, or {'done'} if `once` says that this was done.
local REMEMBERED = 1000
local what, old, new = ARGV[1], ARGV[2], ARGV[3]
local isRow = ARGV[8] ~= nil
if isRow then
  if ARGV[12] ~= '0' and redis.call('EXISTS', KEYS[7]) == 1 then
    return { 'done' }
  elseif ARGV[11] ~= '' and redis.call('HGET', KEYS[2], ARGV[10]) ~= ARGV[11] then
    return { 'stranger' }
  elseif redis.call('ZREM', KEYS[6], old) == 0 then
    return { 'conflict', '' }
  end
else
  local stored = redis.call('HGET', KEYS[2], string.sub(what, 2)) or ''
  if old == 'set' then
    if redis.call('EXISTS', KEYS[5]) == 0 then
      return { 'same', stored }
    end
    local inside = redis.call('SISMEMBER', KEYS[5], string.sub(what, 2)) == 1
    if inside == (stored ~= '') then
      return { 'same', stored }
    end
    new = inside and new or ''
  elseif old ~= '*' and old ~= stored then
    return { 'conflict', stored }
  elseif new == stored then
    return { 'same', stored }
  end
end

local meta = redis.call('HMGET', KEYS[1], 'rev', 'revHash')
local count = tonumber(meta[1] or '0') + 1
local rev = string.format('%.0f', count)
local now = ''
if isRow then
  new = new .. (ARGV[9] == 'edited' and ',"editRev":' .. rev or '') .. ',"rev":' .. rev .. '}'
  now = ',"now":' .. new
  redis.call('ZADD', KEYS[6], what, new)
  if ARGV[12] ~= '0' then
    redis.call('SET', KEYS[7], what, 'PX', ARGV[12])
  end
  if ARGV[9] == 'deleted' then
    redis.call('ZADD', KEYS[8], ARGV[8], ARGV[8])
  end
  for at = 10, #KEYS do
    if at < 10 + tonumber(ARGV[13]) then
      redis.call('ZADD', KEYS[at], ARGV[8], ARGV[8])
    else
      redis.call('ZREM', KEYS[at], ARGV[8])
    end
  end
  if ARGV[9] == 'pinned' then
    redis.call('ZADD', KEYS[9], rev, ARGV[8])
  elseif ARGV[9] == 'deleted' or ARGV[9] == 'unpinned' then
    redis.call('ZREM', KEYS[9], ARGV[8])
  end
else
  local user = string.sub(what, 2)
  if new == '' then
    redis.call('HDEL', KEYS[2], user)
  else
    redis.call('HSET', KEYS[2], user, new)
    now = ARGV[6]
  end
  if ARGV[7] == '1' and old ~= 'set' then
    redis.call(new == '' and 'SREM' or 'SADD', KEYS[5], user)
  end
end

local hash = string.sub(redis.sha1hex((meta[2] or '') .. '|' .. rev .. '|' .. what .. '|' .. new), 1, 12)
redis.call('ZADD', KEYS[3], rev, what)
-- A reader that knows only older changes reads everything again.
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', count - REMEMBERED))
redis.call('HSET', KEYS[4], count % REMEMBERED, rev .. ':' .. hash)
redis.call('HSET', KEYS[1], 'rev', rev, 'revHash', hash)
redis.call('PUBLISH', ARGV[4], ARGV[5] .. rev .. ',"hash":"' .. hash .. '"' .. now .. '}}')
return { 'changed', isRow and new or rev }
