-- Counts the bytes of files, of each user and in all, so that each file counts once whatever is repeated.
-- KEYS due, sizes, used (one slot)
-- ARGV 1 'reserve', 2 file id, 3 user id, 4 bytes, 5 when to look whether it is in use, 6 and 7 how many bytes the user
--        and all users may have, 0 for any number. Returns {'reserved'}, {'user'} or {'server'}: too many bytes.
--      1 'resize', 2 file id, 3 user id, 4 bytes, 5 and 6 as 6 and 7 above, for one that grows. Returns {'resized'}, or as
--        above: then it stays as it was.
--      1 'release', 2 file id
local what, id = ARGV[1], ARGV[2]
local before = redis.call('HGET', KEYS[2], id)
local function read(counted)
  return string.match(counted or '', '^(%d+):(%d+)$')
end
local owner, size = read(before)
local function count(user, bytes)
  redis.call('HINCRBY', KEYS[3], user, string.format('%.0f', bytes))
  redis.call('HINCRBY', KEYS[3], 'all', string.format('%.0f', bytes))
end
-- Lost, or taken away by a restore: everybody's are counted anew.
if redis.call('EXISTS', KEYS[3]) == 0 then
  for _, counted in ipairs(redis.call('HVALS', KEYS[2])) do
    local user, bytes = read(counted)
    if user then
      count(user, tonumber(bytes))
    end
  end
end
if what == 'release' then
  if before then
    redis.call('HDEL', KEYS[2], id)
    -- Not its negative: that of 0 is no integer to Redis.
    count(owner, 0 - tonumber(size))
  end
  redis.call('ZREM', KEYS[1], id)
  return { 'released' }
end
local user, bytes = ARGV[3], tonumber(ARGV[4])
local used = redis.call('HMGET', KEYS[3], user, 'all')
-- Whose limit so many more bytes exceed, or nil.
local function over(more, most, all)
  if most > 0 and tonumber(used[1] or '0') + more > most then
    return { 'user' }
  elseif all > 0 and tonumber(used[2] or '0') + more > all then
    return { 'server' }
  end
end
if what == 'resize' then
  if before then
    local more = bytes - tonumber(size)
    local refused = more > 0 and over(more, tonumber(ARGV[5] or '0'), tonumber(ARGV[6] or '0'))
    if refused then
      return refused
    end
    redis.call('HSET', KEYS[2], id, owner .. ':' .. ARGV[4])
    count(owner, more)
  end
  return { 'resized' }
end
local refused = over(bytes, tonumber(ARGV[6]), tonumber(ARGV[7]))
if refused then
  return refused
end
redis.call('HSET', KEYS[2], id, user .. ':' .. ARGV[4])
count(user, bytes)
redis.call('ZADD', KEYS[1], ARGV[5], id)
return { 'reserved' }
