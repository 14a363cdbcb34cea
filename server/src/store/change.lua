-- Changes one thing in a room (a member's record or a message's row) if what the change was based on is still there,
-- and announces it in the order of the room's changes. Needs head.lua.
-- KEYS meta, records, changed, revs, members, room, once, deleted, pins, bans, files, joined; for a row
--      also the mentions of each user it mentions now, then of each it no longer mentions (one slot)
-- ARGV 1 what: '@<user>' or the row's date
--      2 what must be there now: the row or the record; for a record also '' for none, or 'set' to make it what
--      `members` says
--      3 the new record, or '' for none; or the new row up to its rev
--      4 channel, 5 beginning of the announcement, 6 its end, for a record
--      7 '1' if the room's records say who is in it, '2' if `members` does too, for servers that know that alone
--      8 user id of the actor, or '' for the server itself, 9 the record that the actor must still have
-- and for a record
--      10 'guarded': not if the user is banned; 'open': nor if the room is not open, or still without its owner; or the
--      ban to store, as JSON; or ''
-- and for a row
--      10 seq, 11 'edited', 'deleted', 'pinned', 'unpinned' or '', 12 ms to remember `once`, or '0', 13 number of
--      mentioned users, 14 '1' if it is refused in an archived room, 15... ids of files that it no longer has
-- Returns {'changed', rev or row}, {'same', record}, {'conflict', record}, {'stranger'} if the actor's record has
-- changed, {'banned'}, {'closed'}, {'archived'}, or {'done'} if `once` says that this was done to this message
local REMEMBERED = 1000
local what, old, new = ARGV[1], ARGV[2], ARGV[3]
local isRow = ARGV[11] ~= nil
local was, isUnmade
if isRow and ARGV[12] ~= '0' and redis.call('GET', KEYS[7]) == what then
  return { 'done' }
elseif ARGV[8] ~= '' and (redis.call('HGET', KEYS[2], ARGV[8]) or '') ~= ARGV[9] then
  return { 'stranger' }
elseif isRow then
  if ARGV[14] == '1' and redis.call('HEXISTS', KEYS[1], 'archived') == 1 then
    return { 'archived' }
  elseif not redis.call('ZSCORE', KEYS[6], old) then
    return { 'conflict', '' }
  end
else
  local user, ban = string.sub(what, 2), ARGV[10]
  local stored = redis.call('HGET', KEYS[2], user) or ''
  if old == 'set' then
    if redis.call('EXISTS', KEYS[5]) == 0 then
      return { 'same', stored }
    end
    local inside = redis.call('SISMEMBER', KEYS[5], user) == 1
    if inside == (stored ~= '') then
      return { 'same', stored }
    end
    new = inside and new or ''
  elseif old ~= stored then
    return { 'conflict', stored }
  end
  isUnmade = redis.call('HEXISTS', KEYS[1], 'making') == 1 and redis.call('HLEN', KEYS[2]) == 0
  if ban == 'open' and (isUnmade or (redis.call('HGET', KEYS[1], 'kind') or 'open') ~= 'open') then
    return { 'closed' }
  elseif ban == 'guarded' or ban == 'open' then
    local banned = redis.call('HGET', KEYS[10], user)
    local ends = banned and string.match(banned, '"until":(%d+)')
    local time = redis.call('TIME')
    if banned and (not ends or tonumber(ends) > time[1] * 1000 + time[2] / 1000) then
      return { 'banned' }
    end
    redis.call('HDEL', KEYS[10], user)
  elseif ban ~= '' then
    redis.call('HSET', KEYS[10], user, ban)
  end
  if new == stored then
    return { 'same', stored }
  end
  was = stored
end

local meta = redis.call('HMGET', KEYS[1], 'rev', 'revHash', 'seq')
local newest = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')[2] or '0'
if not numberIn(meta[1]) then
  -- If the head is lost, a rev that was given stays given; and if nobody knows any, one is left out, so that none before
  -- the next one is taken for known.
  local row = redis.call('ZRANGE', KEYS[6], -1, -1)[1] or ''
  local isLost = newest == '0' and not meta[3] and string.find(row, '^{"roomId":"[%d:]+","seq":%d')
  local known, hash = string.match(redis.call('HGET', KEYS[4], tonumber(newest) % REMEMBERED) or '', '^(%d+):(%x*)$')
  meta = { isLost and '1' or newest, known == newest and hash or '' }
elseif newest ~= meta[1] then
  -- What changed is lost: nobody can be told any more what did since an earlier rev.
  redis.call('DEL', KEYS[3], KEYS[4])
end
-- Above the row's own, too: of two states of a message, the one with the greater rev stands.
local before = isRow and tonumber(string.match(old, '"rev":(%d+)}$')) or 0
local count = math.max(tonumber(meta[1]), before) + 1
local rev = string.format('%.0f', count)
local user = string.sub(what, 2)
local now = ''
if isRow then
  new = new .. (ARGV[11] == 'edited' and ',"editRev":' .. rev or '') .. ',"rev":' .. rev .. '}'
  now = ',"now":' .. new
elseif new ~= '' then
  now = ARGV[6]
end

-- Redis takes nothing back if a later step fails, as on a key of a wrong type: what may fail so comes before the row and
-- the record, and those that can be made again of them come last. Nothing takes a row away without its new one.
local hash = string.sub(redis.sha1hex((meta[2] or '') .. '|' .. rev .. '|' .. what .. '|' .. new), 1, 12)
redis.call('HSET', KEYS[4], count % REMEMBERED, rev .. ':' .. hash)
redis.call('ZADD', KEYS[3], rev, what)
-- A reader that knows only older changes reads everything again.
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', count - REMEMBERED))
redis.call('HSET', KEYS[1], 'rev', rev, 'revHash', hash)
if isRow then
  redis.call('ZREM', KEYS[6], old)
  redis.call('ZADD', KEYS[6], what, new)
elseif new == '' then
  redis.call('HDEL', KEYS[2], user)
else
  redis.call('HSET', KEYS[2], user, new)
  -- A room that has its owner is made, also once everybody has left it.
  if isUnmade and string.find(new, '"role":"owner"', 1, true) then
    redis.call('HDEL', KEYS[1], 'making')
  end
end
redis.call('PUBLISH', ARGV[4], ARGV[5] .. rev .. ',"hash":"' .. hash .. '"' .. now .. '}}')

if isRow then
  if ARGV[12] ~= '0' then
    redis.call('SET', KEYS[7], what, 'PX', ARGV[12])
  end
  local seq, how = ARGV[10], ARGV[11]
  for at = 15, #ARGV do
    redis.call('HDEL', KEYS[11], ARGV[at])
  end
  if how == 'deleted' then
    redis.call('ZADD', KEYS[8], seq, seq)
  end
  if how == 'pinned' then
    redis.call('ZADD', KEYS[9], rev, seq)
  elseif how == 'deleted' or how == 'unpinned' then
    redis.call('ZREM', KEYS[9], seq)
  end
  for at = 13, #KEYS do
    if at < 13 + tonumber(ARGV[13]) then
      redis.call('ZADD', KEYS[at], seq, seq)
    else
      redis.call('ZREM', KEYS[at], seq)
    end
  end
else
  -- Whoever joins is not called by what was said to everybody before.
  local seq = redis.call('HGET', KEYS[1], 'seq')
  if new == '' then
    redis.call('HDEL', KEYS[12], user, 'muted:' .. user)
    -- They come back as muted as they went.
    local muted = ARGV[7] ~= '0' and string.match(was, '"mutedUntil":(%d+)')
    if muted then
      redis.call('HSET', KEYS[12], 'muted:' .. user, muted)
    end
  elseif was == '' and seq and ARGV[7] ~= '0' then
    redis.call('HSET', KEYS[12], user, seq)
  end
  if ARGV[7] == '2' and old ~= 'set' then
    redis.call(new == '' and 'SREM' or 'SADD', KEYS[5], user)
  end
end
return { 'changed', isRow and new or rev }
